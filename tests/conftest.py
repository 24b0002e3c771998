"""What holds for every test: KVM is not skipped where it exists, nothing runs for ever, nothing is left behind.

``PARAVIRT_NATIVE`` names a directory with another build of the extension (the sanitizers', see
tox.ini); ``PARAVIRT_EXAMPLES`` has generative tests try that many examples (``./dev fuzz``).
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

import paravirt

KVM = Path("/dev/kvm")
EXAMPLES = int(os.environ.get("PARAVIRT_EXAMPLES", "0"))
LIMIT_S = 120 if not EXAMPLES else 3600
LEAK_GRACE_S = 2.0

if "PARAVIRT_NATIVE" in os.environ:  # before anything imports the extension
    paravirt.__path__.insert(0, str(Path(os.environ["PARAVIRT_NATIVE"]).resolve()))

# A shell that starts us in the background has SIGINT ignored, and what is ignored is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("tests", deadline=None, print_blob=True)
settings.register_profile(
    "fuzz", deadline=None, print_blob=True, max_examples=EXAMPLES or 1, suppress_health_check=list(HealthCheck)
)
settings.load_profile("fuzz" if EXAMPLES else "tests")


def _kvm_line() -> str:
    if KVM.exists():
        return f"KVM: {KVM} is here; a KVM test that is skipped fails"
    return f"NO KVM: there is no {KVM}, THE TESTS THAT NEED IT ARE SKIPPED"


def pytest_report_header() -> str:
    return _kvm_line()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not KVM.exists():
        terminalreporter.write_line(_kvm_line(), red=True, bold=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not KVM.exists():
        for item in items:
            if item.get_closest_marker("kvm"):
                item.add_marker(pytest.mark.skip(reason=f"no {KVM}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns the skip of a KVM test into a failure where KVM exists: silence would look like success."""
    report = yield
    if report.skipped and KVM.exists() and item.get_closest_marker("kvm") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped although {KVM} exists: {report.longreprtext}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Raises in a test that takes longer than LIMIT_S; one stuck in C is ended by faulthandler_timeout."""

    def expired(_signal: int, _frame: FrameType | None) -> None:
        names = ", ".join(thread.name for thread in threading.enumerate())
        raise TimeoutError(f"{item.nodeid} took more than {LIMIT_S} s; threads: {names}")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(LIMIT_S)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _threads() -> dict[str, str]:
    """Threads of the process, C's own included, but not the kernel's workers for io_uring.

    A listing may miss a thread while another one ends, so it is repeated until two agree.
    """
    before, found = None, _listed_threads()
    while before != found:
        before, found = found, _listed_threads()
    return found


def _listed_threads() -> dict[str, str]:
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
        except OSError:
            continue  # it has just ended
        if not name.startswith("iou-"):
            found[task.name] = name
    return found


def _files() -> dict[str, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # that of the listing itself
    return found


def _new(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(f"{key} {name}" for key, name in after.items() if before.get(key) != name)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails a test that leaves a thread or a file descriptor; fixtures of a wider scope are set up before."""
    threads, files = _threads(), _files()
    yield
    deadline = time.monotonic() + LEAK_GRACE_S  # a thread that was joined may take a moment to vanish
    while True:
        left = [f"thread {name}" for name in _new(threads, _threads())]
        left += [f"file descriptor {name}" for name in _new(files, _files())]
        if not left:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {'; '.join(left)}", pytrace=False)
        gc.collect()
        time.sleep(0.01)
