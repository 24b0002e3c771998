"""Time: the page tells the host's time and never goes back; deadlines are never early and come once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from hypercall_abi import STATUS
from hypercall_abi.services.event import CHANNEL
from hypercall_abi.services.time import TIME_PAGE
from paravirt._native import ffi, lib
from tests.support.fake_machine import PAGES_GPA, FakeMachine

NEVER = (1 << 64) - 1


def counter_hz() -> int:
    """The CPU counter's frequency, by looking at it: the fake machine has no KVM to ask."""
    machine = FakeMachine()
    lib.pv_time_start(machine.native, 1_000_000_000, 0)
    begin, begin_counter = time.monotonic_ns(), lib.pv_time_now(machine.native)
    time.sleep(0.05)
    return int((lib.pv_time_now(machine.native) - begin_counter) * 1_000_000_000 // (time.monotonic_ns() - begin))


@pytest.fixture
def machine() -> Iterator[FakeMachine]:
    """A machine whose timer thread runs."""
    fake = FakeMachine()
    lib.pv_time_start(fake.native, counter_hz(), 0)
    thread = threading.Thread(target=lib.pv_timer_run, args=(fake.native,))
    thread.start()
    yield fake
    lib.pv_machine_end(fake.native)
    thread.join()


def test_the_page_is_what_the_host_computes_with(machine: FakeMachine) -> None:
    page = TIME_PAGE.parse(machine.read(PAGES_GPA, TIME_PAGE.size))
    own = machine.native.time
    for field in TIME_PAGE.fields:
        if not field.reserved and field.name != "sequence":
            assert page[field.name] == getattr(own, field.name)
    assert page.sequence % 2 == 0
    assert page.shift <= 63


def test_time_follows_the_hosts_clocks(machine: FakeMachine) -> None:
    began = lib.pv_time_now(machine.native), time.monotonic_ns()
    time.sleep(0.2)
    ended = lib.pv_time_now(machine.native), time.monotonic_ns()
    assert ended[0] - began[0] == pytest.approx(ended[1] - began[1], rel=0.01)
    wall = machine.native.time.wall_offset_ns + lib.pv_time_now(machine.native)
    assert wall == pytest.approx(time.time_ns(), abs=50_000_000)


def test_time_never_goes_back_across_refreshes(machine: FakeMachine) -> None:
    """TIME-1, with readers on several threads while the page is rewritten."""
    stop = time.monotonic() + 1.3  # a refresh a second
    back = []

    def reader() -> None:
        last = 0
        while time.monotonic() < stop:
            now = lib.pv_time_now(machine.native)
            if now < last:
                back.append((last, now))
            last = now

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not back


def wait_for_deadline(machine: FakeMachine, vcpu: int, limit_s: float = 2) -> int:
    until = time.monotonic() + limit_s
    while not machine.vcpus[vcpu].page.pending[0] & 1:
        assert time.monotonic() < until, "the deadline never came"
        time.sleep(0.0002)
    return int(lib.pv_time_now(machine.native))


def test_a_deadline_is_not_early_and_comes_once(machine: FakeMachine) -> None:
    """TIME-2."""
    due = lib.pv_time_now(machine.native) + 20_000_000
    assert machine.call("time.deadline", due, vcpu=1) == (STATUS.OK, 0)
    page = machine.vcpus[1].page
    assert page.deadline_ns == due
    assert wait_for_deadline(machine, 1) >= due
    assert page.deadline_ns == NEVER
    page.pending[0] = 0
    time.sleep(0.03)
    assert page.pending[0] == 0
    assert machine.vcpus[0].page.pending[0] == 0


def test_a_passed_deadline_is_due_at_once(machine: FakeMachine) -> None:
    machine.call("time.deadline", 1)
    wait_for_deadline(machine, 0)


def test_arming_replaces_and_never_disarms(machine: FakeMachine) -> None:
    """TIME-3."""
    now = lib.pv_time_now(machine.native)
    machine.call("time.deadline", now + 10_000_000)
    machine.call("time.deadline", NEVER)
    machine.call("time.deadline", now + 3_000_000_000, vcpu=1)
    time.sleep(0.03)
    assert not machine.vcpus[0].page.pending[0] & 1
    due = lib.pv_time_now(machine.native) + 5_000_000
    machine.call("time.deadline", due, vcpu=1)
    assert wait_for_deadline(machine, 1) >= due


def test_block_waits_for_its_deadline(machine: FakeMachine) -> None:
    due = lib.pv_time_now(machine.native) + 20_000_000
    assert machine.call("vcpu.block", due)[0] == STATUS.OK
    assert lib.pv_time_now(machine.native) >= due


def test_without_a_counter_the_page_is_all_there_is() -> None:
    machine = FakeMachine()
    lib.pv_time_start(machine.native, 0, 0)
    assert machine.native.time.flags == 0
    assert lib.pv_time_now(machine.native) == machine.native.time.base_ns


def test_trace_rings_lose_and_count_what_does_not_fit() -> None:
    events = ffi.new("struct pv_trace_event[]", 4)
    trace = ffi.new("struct pv_trace *", {"events": events, "size": 4})
    for number in range(6):
        lib.pv_trace_put(trace, ffi.new("struct pv_trace_event *", {"id": number}))
    taken = ffi.new("struct pv_trace_event[]", 8)
    assert lib.pv_trace_take(trace, taken, 8) == 4
    assert [taken[i].id for i in range(4)] == [0, 1, 2, 3]
    assert trace.lost == 2
    lib.pv_trace_put(trace, ffi.new("struct pv_trace_event *", {"id": 9}))
    assert lib.pv_trace_take(trace, taken, 8) == 1
    assert taken[0].id == 9


def test_a_host_without_a_counter_writes_the_page_often() -> None:
    """TIME-1, TIME-2: its time goes on, as fine as the page, and a deadline is neither lost nor early."""
    fake = FakeMachine()
    lib.pv_time_start(fake.native, 0, 0)
    thread = threading.Thread(target=lib.pv_timer_run, args=(fake.native,))
    thread.start()
    try:
        began, began_ns = lib.pv_time_now(fake.native), time.monotonic_ns()
        due_ns = began + 50_000_000
        assert fake.call("time.deadline", due_ns)[0] == STATUS.OK
        while not fake.vcpus[0].page.pending[0] & 1 << CHANNEL.DEADLINE:
            assert time.monotonic_ns() < began_ns + 10_000_000_000, "the deadline never came"
            time.sleep(0.001)
        page = TIME_PAGE.parse(fake.read(PAGES_GPA, TIME_PAGE.size))
        assert page.flags == 0 and page.base_ns >= due_ns
        assert time.monotonic_ns() - began_ns >= 49_000_000
    finally:
        lib.pv_machine_end(fake.native)
        thread.join()
