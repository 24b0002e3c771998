"""Service continuity in the C core: the page, who is told, what is an acknowledgement, time that stands still."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from hypercall_abi import STATUS
from hypercall_abi.services.continuity import CONTINUITY_EVENT, CONTINUITY_PAGE, FEATURE
from hypercall_abi.services.event import CHANNEL
from paravirt._native import ffi, lib
from tests.support.fake_machine import PAGE, PAGES_GPA, FakeMachine

PAGE_GPA = PAGES_GPA + 10 * PAGE
SERVICE = int(lib.PV_SERVICE_CONTINUITY)
BIT = 1 << CHANNEL.CONTINUITY


@pytest.fixture
def machine() -> FakeMachine:
    """A machine with a page, whose guest accepted NOTIFY."""
    fake = FakeMachine()
    assert lib.pv_machine_continuity(fake.native, PAGE_GPA)
    fake.native.offered[SERVICE] = FEATURE.NOTIFY
    assert fake.call("base.accept", SERVICE, FEATURE.NOTIFY) == (STATUS.OK, FEATURE.NOTIFY)
    return fake


def announce(machine: FakeMachine, event: int, mark: int = 0, jump_ns: int = 0) -> int:
    said = {"event": event, "generation": bytes([mark] * 16), "seed": bytes([mark] * 32), "clock_jump_ns": jump_ns}
    return int(lib.pv_continuity_announce(machine.native, ffi.new("struct pv_announcement *", said)))


def page(machine: FakeMachine) -> Any:
    return CONTINUITY_PAGE.parse(machine.read(PAGE_GPA, CONTINUITY_PAGE.size))


def pending(machine: FakeMachine) -> list[int]:
    return [vcpu.page.pending[0] & BIT for vcpu in machine.vcpus]


def test_the_page_shows_each_event(machine: FakeMachine) -> None:
    """Whatever the guest wrote there (CONT-2, CONT-3)."""
    assert page(machine) == CONTINUITY_PAGE.parse(bytes(CONTINUITY_PAGE.size))
    for number in (1, 2, 3):
        assert announce(machine, CONTINUITY_EVENT.RESUMED, number, 5 * number) == number
        shown = page(machine)
        assert (shown.sequence, shown.counter) == (2 * number, number)
        assert (shown.event, shown.clock_jump_ns) == (CONTINUITY_EVENT.RESUMED, 5 * number)
        assert (shown.generation, shown.seed) == (bytes([number] * 16), bytes([number] * 32))
        machine.write(PAGE_GPA, b"\xff" * 72)


def test_the_last_to_subscribe_is_told(machine: FakeMachine) -> None:
    announce(machine, CONTINUITY_EVENT.BEFORE_PAUSE)
    assert not lib.pv_continuity_heard(machine.native)
    assert pending(machine) == [0, 0]
    assert machine.call("continuity.subscribe", len(machine.vcpus))[0] == STATUS.NOT_FOUND
    for index in (1, 0, 1):
        assert machine.call("continuity.subscribe", index) == (STATUS.OK, 0)
        assert lib.pv_continuity_heard(machine.native)
        announce(machine, CONTINUITY_EVENT.RESUMED)
        assert [bool(bit) for bit in pending(machine)] == [index == 0, index == 1]
        for vcpu in machine.vcpus:
            vcpu.page.pending[0] = vcpu.page.upcall_pending = 0


def test_a_successor_is_not_told_of_its_own_accord(machine: FakeMachine) -> None:
    """What comes after the guest that subscribed (BASE-8) has not."""
    machine.call("continuity.subscribe", 0)
    machine.call("base.renegotiate")
    assert not lib.pv_continuity_heard(machine.native)
    machine.call("base.accept", SERVICE, FEATURE.NOTIFY)
    announce(machine, CONTINUITY_EVENT.RESUMED)
    assert pending(machine) == [0, 0]


def test_an_acknowledgement_names_the_last_event(machine: FakeMachine) -> None:
    """Rule CONT-4."""
    assert machine.call("continuity.acknowledge", 1)[0] == STATUS.INVALID
    announce(machine, CONTINUITY_EVENT.BEFORE_PAUSE)
    announce(machine, CONTINUITY_EVENT.RESUMED)
    for counter in (0, 1, 3, (1 << 64) - 1):
        assert machine.call("continuity.acknowledge", counter)[0] == STATUS.INVALID
    assert not lib.pv_continuity_wait(machine.native, 1, 0)
    for _ in range(2):  # once more is nothing more
        assert machine.call("continuity.acknowledge", 2) == (STATUS.OK, 0)
        assert machine.native.continuity.acknowledgements == 1
    assert lib.pv_continuity_wait(machine.native, 2, 0)


def test_waiting_for_it(machine: FakeMachine) -> None:
    """It ends with the acknowledgement, with its time, or with the machine."""
    counter = announce(machine, CONTINUITY_EVENT.BEFORE_PAUSE)
    began = time.monotonic()
    assert not lib.pv_continuity_wait(machine.native, counter, 50_000_000)
    assert time.monotonic() - began >= 0.05
    answers: list[bool] = []

    def wait() -> None:
        answers.append(lib.pv_continuity_wait(machine.native, counter, 60_000_000_000))

    thread = threading.Thread(target=wait)
    thread.start()
    assert machine.call("continuity.acknowledge", counter)[0] == STATUS.OK
    thread.join()
    counter = announce(machine, CONTINUITY_EVENT.BEFORE_PAUSE)
    thread = threading.Thread(target=wait)
    thread.start()
    lib.pv_machine_end(machine.native)
    thread.join()
    assert answers == [True, False]


def test_no_page() -> None:
    fake = FakeMachine()
    assert announce(fake, CONTINUITY_EVENT.RESUMED) == 0
    for gpa in (PAGE_GPA + 8, 1 << 40):
        assert not lib.pv_machine_continuity(fake.native, gpa)


@pytest.mark.parametrize("counter_hz", [0, 1_000_000_000])
def test_time_stands_still(counter_hz: int) -> None:
    """Rules CONT-7, TIME-7: for the host and in the page; nothing of it is made up for afterwards."""
    fake = FakeMachine()
    native, shown = fake.native, fake.native.time_page
    lib.pv_time_start(native, counter_hz, 0)
    timers = threading.Thread(target=lib.pv_timer_run, args=(native,))
    timers.start()
    for _ in range(2):
        generation = shown.generation
        lib.pv_time_stop(native)
        stood_ns = lib.pv_time_now(native)
        lib.pv_time_stop(native)
        time.sleep(0.05)
        assert lib.pv_time_now(native) == shown.base_ns == stood_ns
        assert shown.generation == generation
        before_ns = time.monotonic_ns()
        assert lib.pv_time_go(native) >= 50_000_000
        now_ns = lib.pv_time_now(native)
        assert shown.generation == generation + 1
        assert lib.pv_time_go(native) == 0
        if not counter_hz:  # with one that is not the CPU's, time has another pace
            assert stood_ns <= now_ns <= stood_ns + time.monotonic_ns() - before_ns
    lib.pv_time_jumped(native)
    assert shown.generation == generation + 2
    lib.pv_machine_end(native)
    timers.join()


def test_a_deadline_waits_with_the_clock() -> None:
    fake = FakeMachine()
    lib.pv_time_start(fake.native, 0, 0)
    timers = threading.Thread(target=lib.pv_timer_run, args=(fake.native,))
    timers.start()
    lib.pv_time_stop(fake.native)
    fake.call("time.deadline", lib.pv_time_now(fake.native) + 1_000_000)
    time.sleep(0.05)
    assert not fake.vcpus[0].page.pending[0]
    lib.pv_time_go(fake.native)
    until = time.monotonic() + 60
    while not fake.vcpus[0].page.pending[0]:
        assert time.monotonic() < until
    assert fake.vcpus[0].page.pending[0] == 1 << CHANNEL.DEADLINE
    lib.pv_machine_end(fake.native)
    timers.join()
