"""Service system without a machine that runs: crash reports, which end counts, the watchdog."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from hypercall_abi import STATUS
from paravirt._native import ffi, lib
from paravirt.services import system
from tests.support.fake_machine import RAM_GPA, FakeMachine
from tests.support.guests import crash_report
from tests.support.waiting import wait_for


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"plain", "plain"),
        (b"cut\0here", "cut"),
        (b"\0", ""),
        (b"a\nb\x1b[31mred\x07", "ared"),
        (b"\xff\xfe bytes", "bytes"),
        (b"x" * 256, "x" * 256),
    ],
)
def test_text_of_a_crash_report(text: bytes, shown: str) -> None:
    """SYS-2: cut at the first NUL; nothing that moves a terminal's cursor; never an error."""
    report = system.parse_report(crash_report(text))
    assert report.text.isprintable()
    letters = iter(report.text)
    assert all(letter in letters for letter in shown), report.text
    if text.isascii() and text.split(b"\0")[0].decode().isprintable():
        assert report.text == shown
    assert "here" not in report.text


@pytest.mark.parametrize("reason", [3, 99, 1 << 32, (1 << 64) - 1])
def test_a_reason_that_is_not_defined_ends_nothing(reason: int) -> None:
    """SYS-1."""
    machine = FakeMachine()
    assert machine.call("system.shutdown", reason, 0)[0] == STATUS.INVALID
    assert not machine.ends
    assert machine.call("system.shutdown", 2, 7)[0] == STATUS.OK
    assert machine.ends == [(lib.PV_END_SHUTDOWN, 2, 7, b"")]


def test_the_first_end_counts() -> None:
    """SYS-5; and every vCPU is told to stop."""
    machine = FakeMachine()
    report = crash_report(b"text")
    machine.write(RAM_GPA, report)
    assert machine.call("system.crash", RAM_GPA) == (STATUS.OK, 0)
    assert machine.call("system.reset") == (STATUS.OK, 0)
    assert machine.call("system.shutdown") == (STATUS.OK, 0)
    assert machine.ends == [(lib.PV_END_CRASH, 0, 0, report)]
    assert [vcpu.stop for vcpu in machine.vcpus] == [1, 1]


@pytest.fixture
def running() -> Iterator[FakeMachine]:
    """A machine whose timer thread runs; its clock may be some times too fast."""
    machine = FakeMachine()
    lib.pv_time_start(machine.native, 1_000_000_000, 0)
    thread = threading.Thread(target=lib.pv_timer_run, args=(machine.native,))
    thread.start()
    yield machine
    lib.pv_machine_end(machine.native)
    thread.join()


def test_the_watchdog_bites_when_it_is_not_fed(running: FakeMachine) -> None:
    """SYS-4: of two times the second counts; far ones do not wrap."""
    for timeout_ns in ((1 << 64) - 1, (1 << 64) - 2, 20_000_000):
        assert running.call("system.watchdog", timeout_ns)[0] == STATUS.OK
    wait_for(lambda: running.ends, "it did not bite")
    assert running.ends == [(lib.PV_END_WATCHDOG, 0, 0, b"")]
    assert running.native.ending


def test_a_watchdog_that_is_disarmed_does_not_bite(running: FakeMachine) -> None:
    """SYS-4."""
    for timeout_ns in (10_000_000, 0):
        assert running.call("system.watchdog", timeout_ns)[0] == STATUS.OK
    time.sleep(0.05)
    assert not running.ends


def test_a_vcpus_thread_is_there_until_it_was_kicked() -> None:
    """Who kicks signals the thread: one that was joined meanwhile is no thread any more."""
    machine = FakeMachine(1)
    done: list[str] = []

    def kick(_vcpu: object) -> None:
        time.sleep(0.3)
        done.append("kicked")

    def wait() -> None:
        assert not lib.pv_vcpu_wait_start(machine.vcpus[0])
        done.append("left")

    machine.native.ops.kick = callback = ffi.callback("void(struct pv_vcpu *)", kick)
    thread = threading.Thread(target=wait)
    thread.start()
    lib.pv_machine_end(machine.native)
    lib.pv_machine_end(machine.native)
    thread.join()
    assert done == ["kicked", "left"] and callback
