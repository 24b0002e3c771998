"""Events: pending bits, masks, one upcall, no lost wake-up; starting and stopping vCPUs."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi import STATUS
from hypercall_abi.services.event import CHANNEL, UPCALL
from hypercall_abi.services.system import SHUTDOWN
from hypercall_abi.services.vcpu import VCPU_STATE
from paravirt._native import lib
from tests.support.fake_machine import RAM_GPA, FakeMachine

NEVER = (1 << 64) - 1
channels = st.integers(0, 255)


def pending(machine: FakeMachine, vcpu: int) -> set[int]:
    words = machine.vcpus[vcpu].page.pending
    return {64 * w + b for w in range(4) for b in range(64) if words[w] >> b & 1}


@given(st.lists(channels, max_size=20), st.sets(channels, max_size=20), st.booleans(), st.sampled_from([0, 2, 40]))
def test_raising(raised: list[int], masked: set[int], upcall_masked: bool, vector: int) -> None:
    """EVT-1, EVT-5: every raised channel is pending; the first unmasked one sends the only upcall."""
    machine = FakeMachine()
    page = machine.vcpus[1].page
    assert machine.call("event.upcall", vector, vcpu=1)[0] == STATUS.OK
    for channel in masked:
        page.mask[channel // 64] |= 1 << channel % 64
    page.upcall_mask = upcall_masked
    for channel in raised:
        assert machine.call("event.send", 1, channel) == (STATUS.OK, 0)
    assert pending(machine, 1) == set(raised)
    unmasked = set(raised) - masked
    assert page.upcall_pending == bool(unmasked)
    assert machine.upcalls == ([1] if unmasked and not upcall_masked and vector else [])


def test_an_upcall_is_sent_again_only_after_the_guest_took_the_first() -> None:
    """EVT-3."""
    machine = FakeMachine()
    machine.call("event.upcall", UPCALL.NMI)
    for _ in range(3):
        machine.call("event.send", 0, 17)
    assert machine.upcalls == [0]
    machine.vcpus[0].page.upcall_pending = 0
    machine.call("event.send", 0, 18)
    assert machine.upcalls == [0, 0]
    assert machine.vcpus[0].page.upcalls == 2


def test_what_does_not_exist_is_not_found() -> None:
    """EVT-6."""
    machine = FakeMachine()
    assert machine.call("event.send", 2, 0)[0] == STATUS.NOT_FOUND
    assert machine.call("event.send", 0, 256)[0] == STATUS.NOT_FOUND
    assert machine.call("event.send", NEVER, NEVER)[0] == STATUS.NOT_FOUND


@given(st.integers(0, NEVER))
def test_vectors_of_upcalls(vector: int) -> None:
    good = vector in (UPCALL.OFF, UPCALL.NMI) or 32 <= vector <= 255
    assert FakeMachine().call("event.upcall", vector)[0] == (STATUS.OK if good else STATUS.INVALID)


def blocked(machine: FakeMachine, deadline_ns: int) -> tuple[threading.Thread, list[int]]:
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(machine.call("vcpu.block", deadline_ns)[0]))
    thread.start()
    while machine.vcpus[0].state.state != VCPU_STATE.BLOCKED:
        time.sleep(0.001)
    return thread, answers


def test_block_ends_when_a_channel_is_raised_even_if_upcalls_are_masked() -> None:
    """EVT-2, VCPU-3."""
    machine = FakeMachine()
    machine.native.vcpus[0].page.upcall_mask = 1
    thread, answers = blocked(machine, NEVER)
    assert machine.call("vcpu.state", 0, vcpu=1) == (STATUS.OK, VCPU_STATE.BLOCKED)
    machine.call("event.send", 0, 30, vcpu=1)
    thread.join(5)
    assert answers == [STATUS.OK]
    assert machine.call("vcpu.block", NEVER)[0] == STATUS.OK, "upcall_pending is still set: it returns at once"


def test_block_does_not_wake_for_a_masked_channel() -> None:
    machine = FakeMachine()
    machine.vcpus[0].page.mask[0] = 1 << 30
    thread, answers = blocked(machine, NEVER)
    machine.call("event.send", 0, 30, vcpu=1)
    thread.join(0.05)
    assert thread.is_alive()
    machine.call("event.send", 0, 31, vcpu=1)
    thread.join(5)
    assert answers == [STATUS.OK]


def test_no_wake_up_is_lost() -> None:
    """A raise that races with the beginning of a block ends it, over and over."""
    machine = FakeMachine()
    page = machine.vcpus[0].page
    go, done = threading.Barrier(2), threading.Barrier(2)
    rounds = 500

    def raiser() -> None:
        for _ in range(rounds):
            go.wait()
            machine.call("event.send", 0, 20, vcpu=1)
            done.wait()

    thread = threading.Thread(target=raiser)
    thread.start()
    for _ in range(rounds):
        go.wait()
        machine.call("vcpu.block", NEVER)
        assert page.upcall_pending
        done.wait()
        page.upcall_pending = 0
    thread.join()


def test_block_ends_when_the_machine_does() -> None:
    machine = FakeMachine()
    thread, answers = blocked(machine, NEVER)
    lib.pv_machine_end(machine.native)
    thread.join(5)
    assert answers == [STATUS.OK]


def test_start() -> None:
    """VCPU-1, VCPU-2."""
    machine = FakeMachine()
    machine.vcpus[0].state.state = VCPU_STATE.RUNNING
    stack = RAM_GPA + 4096
    for bad, status in (
        ((2, RAM_GPA, stack, 0), STATUS.NOT_FOUND),
        ((1, RAM_GPA, stack + 8, 0), STATUS.UNALIGNED),
        ((1, 0, stack, 0), STATUS.BAD_ADDRESS),
        ((1, RAM_GPA, 0, 0), STATUS.BAD_ADDRESS),
        ((1, RAM_GPA, RAM_GPA, 0), STATUS.BAD_ADDRESS),
        ((0, RAM_GPA, stack, 0), STATUS.BAD_STATE),
    ):
        assert machine.call("vcpu.start", *bad) == (status, 0)
    assert machine.call("vcpu.start", 1, RAM_GPA, stack, 77)[0] == STATUS.OK
    start = machine.vcpus[1].start
    assert (start.entry_gpa, start.stack_gpa, start.argument) == (RAM_GPA, stack, 77)
    assert machine.vcpus[1].page.state == VCPU_STATE.RUNNING
    assert machine.call("vcpu.start", 1, RAM_GPA, stack, 78)[0] == STATUS.BAD_STATE


def test_a_start_right_after_a_stop_is_a_new_life() -> None:
    """VCPU-6: the thread must not go on in the old registers, though the vCPU is RUNNING whenever it looks."""
    machine = FakeMachine()
    machine.native.running = 1
    vcpu = machine.vcpus[1]
    assert machine.call("vcpu.start", 1, RAM_GPA, RAM_GPA + 4096, 0)[0] == STATUS.OK
    assert lib.pv_vcpu_wait_start(vcpu)
    assert lib.pv_vcpu_lives(vcpu)
    assert machine.call("vcpu.stop", vcpu=1)[0] == STATUS.OK
    assert machine.call("vcpu.start", 1, RAM_GPA, RAM_GPA + 8192, 0)[0] == STATUS.OK
    assert vcpu.state.state == VCPU_STATE.RUNNING
    assert not lib.pv_vcpu_lives(vcpu)
    assert lib.pv_vcpu_wait_start(vcpu)
    assert lib.pv_vcpu_lives(vcpu)


def test_what_a_stopped_vcpu_keeps() -> None:
    """EVT-8, VCPU-5: channels raised meanwhile, the upcall vector and the deadline outlast a stop."""
    machine = FakeMachine()
    machine.native.running = 2
    machine.vcpus[1].state.state = VCPU_STATE.RUNNING
    assert machine.call("event.upcall", UPCALL.NMI, vcpu=1)[0] == STATUS.OK
    assert machine.call("time.deadline", 1 << 60, vcpu=1)[0] == STATUS.OK
    assert machine.call("vcpu.stop", vcpu=1)[0] == STATUS.OK
    assert machine.call("event.send", 1, 100)[0] == STATUS.OK
    assert machine.call("vcpu.start", 1, RAM_GPA, RAM_GPA + 4096, 0)[0] == STATUS.OK
    page = machine.vcpus[1].page
    assert page.pending[100 // 64] == 1 << 100 % 64
    assert page.upcall_pending == 1
    assert (page.deadline_ns, machine.vcpus[1].state.deadline_ns) == (1 << 60, 1 << 60)
    assert machine.vcpus[1].state.upcall_vector == UPCALL.NMI


def test_the_last_vcpu_to_stop_shuts_the_machine_down() -> None:
    machine = FakeMachine()
    machine.native.running = 2
    assert machine.call("vcpu.stop", vcpu=1)[0] == STATUS.OK
    assert not machine.ends
    machine.call("vcpu.stop", vcpu=0)
    assert machine.ends == [(lib.PV_END_SHUTDOWN, SHUTDOWN.POWEROFF, 0, b"")]


def test_reserved_channels_are_below_the_guests() -> None:
    assert all(v.number < CHANNEL.FIRST_FREE for v in CHANNEL if v.name != "FIRST_FREE")
