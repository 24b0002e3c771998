"""What holds for every test: KVM is not skipped where it exists, nothing runs for ever, nothing is left behind.

Guests run on KVM, or on the software vCPU where there is none or where ``PARAVIRT_ACCEL=software`` says so.
``PARAVIRT_NATIVE`` names a directory with another build of the extension (the sanitizers', see
tox.ini); ``PARAVIRT_EXAMPLES`` has generative tests try that many examples (``./dev fuzz``).
``PARAVIRT_RIGHTS=1`` says that this process may make TAP devices: a test that shows one of virtio's statements and is
skipped fails then.
"""

from __future__ import annotations

import fcntl
import gc
import importlib.util
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
from hypercall_abi.virtio_musts import MUSTS

KVM = Path("/dev/kvm")
KVM_GET_API_VERSION = 0xAE00
EXAMPLES = int(os.environ.get("PARAVIRT_EXAMPLES", "0"))
LIMIT_S = 120 if not EXAMPLES else 3600
LEAK_GRACE_S = 2.0
HAS_RIGHTS = os.environ.get("PARAVIRT_RIGHTS") == "1"
SHOWN = {f"tests/{test}": id for id, must in MUSTS.items() for test in must.tests}
"""A statement of virtio's that each of these tests shows."""

if "PARAVIRT_NATIVE" in os.environ:  # before anything imports the extension
    paravirt.__path__.insert(0, str(Path(os.environ["PARAVIRT_NATIVE"]).resolve()))

# A shell that starts us in the background has SIGINT ignored, and what is ignored is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("tests", deadline=None, print_blob=True)
settings.register_profile(
    "fuzz", deadline=None, print_blob=True, max_examples=EXAMPLES or 1, suppress_health_check=list(HealthCheck)
)
settings.load_profile("fuzz" if EXAMPLES else "tests")


def _kvm_is_here() -> bool:
    """Also where it may not be opened: then its tests fail, which is to be seen."""
    try:
        fd = os.open(KVM, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return isinstance(error, PermissionError)
    try:
        fcntl.ioctl(fd, KVM_GET_API_VERSION)
    except OSError:
        return False  # something else, such as /dev/null, lies there
    finally:
        os.close(fd)
    return True


def _accelerator() -> str:
    """What the tests' guests run on: ``kvm``, ``software``, or nothing."""
    wanted = os.environ.get("PARAVIRT_ACCEL", "auto")
    if wanted != "software" and KVM_IS_HERE:
        return "kvm"
    return "software" if importlib.util.find_spec("unicorn") else ""


KVM_IS_HERE = _kvm_is_here()
ACCELERATOR = _accelerator()
os.environ["PARAVIRT_ACCEL"] = ACCELERATOR or "auto"  # for the commands that tests start, too


def _accelerator_line() -> str:
    if ACCELERATOR == "kvm":
        return f"KVM: {KVM} is here; a test of guests that is skipped fails"
    why = "PARAVIRT_ACCEL says so" if KVM_IS_HERE else f"there is no {KVM}"
    if ACCELERATOR == "software":
        return f"NO KVM ({why}): THE GUESTS OF THE TESTS RUN ON THE SOFTWARE vCPU; what is about KVM itself is skipped"
    return f"NO KVM ({why}) and no engine (pip install unicorn): THE TESTS THAT RUN GUESTS ARE SKIPPED"


def pytest_report_header() -> str:
    return _accelerator_line()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ACCELERATOR != "kvm":
        terminalreporter.write_line(_accelerator_line(), red=True, bold=True)
    skipped = {_statement(report.nodeid) for report in terminalreporter.stats.get("skipped", ())} - {""}
    if skipped:
        line = f"NOT SHOWN HERE, since tests are skipped: {', '.join(sorted(skipped))}"
        terminalreporter.write_line(line, red=True, bold=True)


def _statement(nodeid: str) -> str:
    return SHOWN.get(nodeid.partition("[")[0], "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        only = item.get_closest_marker("only_kvm")
        if only and ACCELERATOR != "kvm":
            item.add_marker(pytest.mark.skip(reason=f"about KVM alone: {only.args[0]}"))
        elif item.get_closest_marker("kvm") and not ACCELERATOR:
            item.add_marker(pytest.mark.skip(reason=f"no {KVM} and no software vCPU"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns the skip of a test of guests into a failure where it could run: silence would look like success."""
    report = yield
    able = ACCELERATOR == "kvm" or (ACCELERATOR and not item.get_closest_marker("only_kvm"))
    able = able and not item.get_closest_marker("rights")
    if report.skipped and able and item.get_closest_marker("kvm") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped although guests run on {ACCELERATOR}: {report.longreprtext}"
    if report.skipped and HAS_RIGHTS and _statement(item.nodeid) and item.get_closest_marker("rights"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: skipped although PARAVIRT_RIGHTS says it can run: {report.longreprtext}"
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
