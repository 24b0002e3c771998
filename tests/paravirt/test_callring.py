"""Call rings by hand: the host's side of rules RING-1 to RING-15, without a thread and without KVM."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from hypercall_abi import LIMITS, SERVICES, STATUS, VERSION
from hypercall_abi.callring import RING, RING_SETUP, RING_STATE
from hypercall_abi.conventions import COMPLETION, SUBMISSION
from paravirt._native import ffi, lib
from tests.support.callring import U32, CallRing
from tests.support.fake_machine import PAGES_GPA, RAM_BYTES, RAM_GPA, FakeMachine

VERSION_ID = SERVICES["base"].id("version")
VERSION_VALUE = VERSION[0] << 32 | VERSION[1]
CHANNEL = 20
END = RAM_GPA + RAM_BYTES


def ring(vcpu: int = 0, **more: Any) -> CallRing:
    return CallRing(FakeMachine(), vcpu, **more).start()


def pending(r: CallRing) -> bool:
    """Whether the ring's channel was raised; it is lowered."""
    page = r.machine.vcpus[r.vcpu].page
    was = bool(page.pending[0] >> CHANNEL & 1)
    page.pending[0] = 0
    return was


def listen(machine: FakeMachine, heard: Callable[[bytes], object]) -> None:
    """Has `heard` called with what the guest writes, from within console.write."""

    def write(_machine: Any, text: Any, size_bytes: int) -> int:
        heard(bytes(ffi.buffer(text, size_bytes)))
        return STATUS.OK

    callback = ffi.callback("int64_t(struct pv_machine *, const uint8_t *, uint64_t)", write)
    machine._callbacks.append(callback)  # as long as the machine
    machine.native.ops.console_write = callback
    machine.native.console_budget = 1 << 20


def test_calls_go_round_the_ring_in_order() -> None:
    """RING-3, RING-5, and what RING-6 takes over from BATCH-3."""
    r = ring(entries=4)
    assert (r.word("state"), r.word("completion_tail")) == (RING_STATE.ON, 0)
    for turn in range(5):
        r.submit_call("base.version")
        r.submit((VERSION_ID, [], 1))
        r.submit_call("event.send", 1, CHANNEL)
        assert r.poll() == 3
        n = 3 * turn
        assert r.take() == [(n, STATUS.OK, VERSION_VALUE), (n + 1, STATUS.INVALID, 0), (n + 2, STATUS.OK, 0)]
        page = r.machine.vcpus[1].page
        assert page.pending[0] == 1 << CHANNEL
    assert r.poll() == 0


def test_what_was_submitted_before_the_set_up_is_carried_out() -> None:
    """RING-3: indexes count from zero, not from what the words say."""
    r = CallRing(FakeMachine())
    r.accept()
    r.submit_call("base.version")
    r.set("completion_tail", 99)
    assert r.set_up() == STATUS.OK
    assert r.poll() == 1
    assert r.take() == [(0, STATUS.OK, VERSION_VALUE)]


def test_indexes_wrap() -> None:
    """RING-3: at 2^32, in the middle of a visit, events included."""
    r = ring(channel=CHANNEL)
    start = U32 - 3
    state = r.machine.vcpus[0].state.callring
    state.next = state.completed = state.signalled = start
    r.tail = r.seen = start
    r.set("completion_tail", start)
    r.set("completion_event", 1)
    for _ in range(6):
        r.submit_call("base.version")
    assert r.poll() == 6
    assert [cookie for cookie, _, _ in r.take()] == [U32 - 3, U32 - 2, U32 - 1, 0, 1, 2]
    assert pending(r)


def test_the_call_does_not_exist_without_the_feature() -> None:
    """CALL-3."""
    assert CallRing(FakeMachine()).set_up() == STATUS.NOT_SUPPORTED


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"channel": 255}, "OK"),
        ({"channel": 256}, "NOT_FOUND"),
        ({"channel": RING.NO_CHANNEL - 1, "entries": 0}, "NOT_FOUND"),
        ({"entries": 0}, "INVALID"),
        ({"entries": 24}, "INVALID"),
        ({"entries": 1 << 31 | 1}, "INVALID"),
        ({"flags": 1}, "INVALID"),
        ({"entries": 1}, "OK"),
        ({"entries": 256}, "OK"),
        ({"entries": 512, "control_gpa": 1}, "LIMIT"),
        ({"entries": 1 << 31}, "LIMIT"),
        ({"submissions_gpa": RAM_GPA + 32}, "UNALIGNED"),
        ({"completions_gpa": RAM_GPA + 16}, "UNALIGNED"),
        ({"completions_gpa": RAM_GPA + 32}, "OK"),
        ({"control_gpa": RAM_GPA + 32}, "UNALIGNED"),
        ({"submissions_gpa": 0, "control_gpa": 32}, "UNALIGNED"),
        ({"submissions_gpa": END - 7 * 64}, "BAD_ADDRESS"),
        ({"submissions_gpa": RAM_GPA - 64}, "BAD_ADDRESS"),
        ({"submissions_gpa": U32 * U32 - 64}, "BAD_ADDRESS"),
        ({"completions_gpa": END - 7 * 32}, "BAD_ADDRESS"),
        ({"control_gpa": END - 192}, "BAD_ADDRESS"),
    ],
)
def test_set_up_is_checked(changed: dict[str, int], status: str) -> None:
    """RING-2, and the order of CALL-6."""
    r = CallRing(FakeMachine())
    r.accept()
    assert r.set_up(**changed) == getattr(STATUS, status)
    assert r.machine.native.callrings.on == (1 if status == "OK" else 0)


def test_padding_of_the_set_up_is_zero() -> None:
    """CALL-14."""
    r = CallRing(FakeMachine())
    r.accept()
    data = RING_SETUP.build(r.record)
    r.machine.write(r.gpa, data[:-1] + b"\1")
    assert r.machine.call("base.ring", r.gpa, 1)[0] == STATUS.INVALID


def test_one_ring_for_a_vcpu() -> None:
    """RING-1."""
    r = ring()
    assert r.set_up() == STATUS.BAD_STATE
    assert r.set_up(entries=3) == STATUS.INVALID  # which comes first
    assert r.machine.call("base.ring", r.gpa, 2)[0] == STATUS.LIMIT
    assert [r.remove(), r.remove()] == [STATUS.OK, STATUS.OK]
    assert r.set_up() == STATUS.OK
    other = CallRing(r.machine, 1, gpa=RAM_GPA + 0x60000)
    assert other.set_up() == STATUS.OK


@pytest.mark.parametrize("ahead", [9, 10, 1 << 31, U32 - 1])
def test_an_index_that_runs_away_is_a_fault(ahead: int) -> None:
    """RING-8: silence, told by state and channel; only a new set-up ends it."""
    r = ring(channel=CHANNEL)
    r.set("completion_event", 1 << 31)
    r.submit_call("base.version")
    assert r.poll() == 1
    assert not pending(r)
    r.set("submission_tail", 1 + ahead)
    assert r.poll() == 0
    assert (r.word("state"), r.word("completion_tail"), r.fault) == (RING_STATE.FAULT, 1, "RING-7")
    assert pending(r)
    before = r.machine.read(r.gpa, 0x2000)
    r.submit_call("base.version")
    assert r.poll() == 0
    assert r.machine.read(r.control_gpa + 0x40, 0x80) == before[0x80:0x100]
    assert r.set_up() == STATUS.BAD_STATE
    assert r.remove() == STATUS.OK
    assert r.word("state") == RING_STATE.FAULT, "it is not touched any more (RING-12)"
    r.tail = r.seen = 0
    r.start()
    r.submit_call("base.version")
    assert r.poll() == 1
    assert r.take() == [(0, STATUS.OK, VERSION_VALUE)]


def test_as_many_as_there_are_entries_is_no_fault() -> None:
    """RING-7: the bound itself is allowed."""
    r = ring(entries=8)
    for _ in range(8):
        r.submit_call("base.version")
    assert r.poll() == 8
    assert len(r.take()) == 8


@pytest.mark.parametrize(
    ("event", "told"), [(0, False), (4, False), (5, True), (7, True), (8, False), (U32 - 1, False)]
)
def test_the_guest_is_told_of_the_completion_that_it_waits_for(event: int, told: bool) -> None:
    """RING-10: when 5, 6 and 7 are completed."""
    r = ring(channel=CHANNEL)
    r.set("completion_event", U32 - 9)
    for _ in range(5):
        r.submit_call("base.version")
    r.poll()
    assert not pending(r)
    r.set("completion_event", event)
    for _ in range(3):
        r.submit_call("base.version")
    r.poll()
    assert pending(r) == told
    r.poll()
    assert not pending(r), "once is enough"


def test_a_ring_without_a_channel_raises_nothing() -> None:
    """RING-11."""
    r = ring()
    for _ in range(3):
        r.submit_call("base.version")
    r.poll()
    assert list(r.machine.vcpus[0].page.pending) == [0] * 4


def test_completions_are_known_before_a_call_that_may_take_long() -> None:
    """RING-4: what is counted is there; and nothing that is done waits for a call of the surroundings."""
    r = ring()
    seen: list[list[tuple[int, int, int]]] = []

    listen(r.machine, lambda _text: seen.append(r.take()))
    r.submit_call("base.version")
    r.submit_call("console.write", RAM_GPA, 1)
    r.submit_call("base.version")
    assert r.poll() == 3
    assert seen == [[(0, STATUS.OK, VERSION_VALUE)]]
    assert len(r.take()) == 2


def test_a_submission_is_read_when_its_turn_comes_and_not_again() -> None:
    """RING-6 by BATCH-4: completions fall upon the second submission, as in a batch."""
    r = CallRing(FakeMachine())
    r.record["completions_gpa"] = r.submissions_gpa + SUBMISSION.size
    r.start()
    r.submit((SERVICES["event"].id("send"), [0, CHANNEL], 0), (0xFFFF_0001, [], 0))
    r.machine.write(r.submissions_gpa + SUBMISSION.size - 8, VERSION_ID.to_bytes(8, "little"))  # the first's cookie
    assert r.poll() == 2
    done = COMPLETION.parse(r.machine.read(r.submissions_gpa + SUBMISSION.size + COMPLETION.size, COMPLETION.size))
    assert (done.status, done.value) == (STATUS.OK, VERSION_VALUE)


@pytest.mark.parametrize("way", ["ring", "stop", "renegotiate", "another's renegotiate"])
def test_a_ring_out_of_use_is_not_touched(way: str) -> None:
    """RING-12: what was not begun is dropped, the last word written is the state."""
    r = ring(channel=CHANNEL)
    r.machine.native.running = 2
    r.submit_call("base.version")
    name = {"ring": "base.ring", "stop": "vcpu.stop"}.get(way, "base.renegotiate")
    r.machine.call(name, vcpu=1 if "another" in way else 0)
    assert r.word("state") == RING_STATE.OFF
    before = r.machine.read(r.gpa, 0x2000)
    assert r.poll() == 0
    assert r.machine.read(r.gpa, 0x2000) == before
    r.tail = r.seen = 0
    r.start()
    r.submit_call("base.version")
    assert r.poll() == 1


def test_a_vcpu_that_wants_its_ring_back_gets_it_after_one_call() -> None:
    """RING-12: the call under way is completed, those that follow are dropped."""
    r = ring()

    def want(_text: bytes) -> None:
        r.machine.native.callrings.wanted += 1

    listen(r.machine, want)
    for _ in range(3):
        r.submit_call("console.write", RAM_GPA, 1)
    assert r.poll() == 1
    assert len(r.take()) == 1


def test_rings_are_visited_in_turn() -> None:
    """RING-13: a long visit ends when its time is over, if another ring waits."""
    machine = FakeMachine()
    rings = [CallRing(machine, n, gpa=RAM_GPA + 0x40000 + 0x8000 * n).start() for n in range(2)]
    order = bytearray()

    def slow(text: bytes) -> None:
        order.extend(text)
        time.sleep(0.0011)

    listen(machine, slow)
    machine.write(RAM_GPA, bytes(range(2)))
    for r in rings:
        for _ in range(4):
            r.submit_call("console.write", RAM_GPA + r.vcpu, 1)
    assert LIMITS["RING_NS"].number == 1_000_000
    while rings[0].poll():
        pass
    assert list(order) == [0, 1] * 4
    assert [len(r.take()) for r in rings] == [4, 4]


def test_doorbells_for_no_ring_are_ignored() -> None:
    """RING-14."""
    r = ring()
    for vcpu in (1, 2, 0xFFFF):
        lib.pv_doorbell(r.machine.native, RING.DOORBELL << 16 | vcpu)
    assert r.machine.native.callrings.doorbells == 0
    lib.pv_doorbell(r.machine.native, RING.DOORBELL << 16)
    assert r.machine.native.callrings.doorbells == 1


def test_calls_over_a_ring_are_counted() -> None:
    r = ring()
    by_trap = r.machine.vcpus[0].calls
    for _ in range(5):
        r.submit_call("base.version")
    r.poll()
    vcpu = r.machine.vcpus[0]
    assert (vcpu.calls, vcpu.callring.calls, vcpu.page.calls) == (by_trap, 5, by_trap + 5)


def test_nothing_beside_the_ring_is_written() -> None:
    """RING-5: completions fall into their entries and nowhere else."""
    r = ring(entries=2)
    r.submit_call("base.version")
    r.submit_call("base.version")
    changed_by_guest = bytearray(r.machine.read(RAM_GPA, PAGES_GPA - RAM_GPA))
    r.poll()
    after = r.machine.read(RAM_GPA, PAGES_GPA - RAM_GPA)
    touched = {RAM_GPA + n for n, byte in enumerate(after) if byte != changed_by_guest[n]}
    control = range(r.control_gpa + 0x40, r.control_gpa + 0x44)
    completions = range(r.completions_gpa, r.completions_gpa + 2 * COMPLETION.size)
    assert touched
    assert all(gpa in control or gpa in completions for gpa in touched)


def test_a_round_that_was_interrupted_goes_on_where_it_was() -> None:
    """RING-13: a vCPU that takes the lock again and again has the thread begin anew, not with the same ring."""
    first = ring()
    second = CallRing(first.machine, 1, gpa=RAM_GPA + 0x60000).start()
    rings = first.machine.native.callrings

    def wanted(_text: bytes) -> None:
        rings.wanted = 1

    listen(first.machine, wanted)
    for _ in range(8):
        first.submit_call("console.write", RAM_GPA, 1)
    second.submit_call("base.version")
    assert first.poll() == 1
    rings.wanted = 0
    first.poll()
    assert second.take() == [(0, STATUS.OK, VERSION_VALUE)]
