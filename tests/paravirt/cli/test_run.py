"""``paravirt run`` when things go well, its options, and its end by signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from paravirt import errors
from paravirt.cli import build_parser, main
from paravirt.cli.run import _configuration
from paravirt.config import Disk
from tests.support.elf import privilege, require
from tests.support.guests import DATA_GPA, UNDEFINED, call, crash_report, say, shutdown, write_guest
from tests.support.threads import refuse_thread

pytestmark = pytest.mark.kvm

HELLO = "grüß dich\n"


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    return write_guest(tmp_path / "hello.elf", say(HELLO) + shutdown(), HELLO.encode())


def process(*argv: str, **options: Any) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-m", "paravirt", *argv], env=environment, **options)


def test_success_is_silent_but_for_the_console(hello: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(hello)]) == 0
    assert capfd.readouterr() == (HELLO, "")


def test_a_pvh_guest_and_each_level(hello: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for level in ("user", "supervisor"):
        assert main(["run", str(hello), "--privilege", level]) == 0
    assert capfd.readouterr().out == HELLO * 2
    for note in (privilege(1), privilege(2)):
        write_guest(tmp_path / "fixed.elf", shutdown(), notes=[require(), note])
        assert main(["run", str(tmp_path / "fixed.elf"), "--poison"]) == 0


def test_the_console_goes_to_a_file(hello: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    console = tmp_path / "console"
    console.write_text("something longer than what the guest says")
    assert main(["run", str(hello), "--console", str(console)]) == 0
    assert console.read_text() == HELLO
    assert capfd.readouterr() == ("", "")


def test_json(hello: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(hello), "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == HELLO  # the console, out of the way
    answer = json.loads(out)
    assert answer["outcome"] == {"kind": "shutdown", "reason": "POWEROFF", "status": 0}
    assert answer["error"] is None
    assert answer["statistics"]["vcpus"][0]["calls"] == 2
    assert answer["statistics"]["console_bytes"] == len(HELLO.encode())
    assert 0 < answer["durations"]["run_ns"] < 60e9
    assert 0 < answer["durations"]["create_ns"] < 60e9


@pytest.mark.parametrize(
    ("code", "options", "error", "ended"),
    [
        (shutdown(1, 9), [], errors.GuestFailed, True),
        (UNDEFINED, [], errors.TripleFault, False),
        (call(8 << 16 | 2, DATA_GPA), [], errors.GuestCrashed, False),
        (b"", ["--timeout", "0.2"], errors.GuestTimeout, False),
    ],
)
def test_json_of_a_failure(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    code: bytes,
    options: list[str],
    error: type[errors.ParavirtError],
    ended: bool,
) -> None:
    image = write_guest(tmp_path / "guest.elf", code, crash_report(b"why"))
    assert main(["run", str(image), "--json", *options]) == error.exit_status
    out, err = capfd.readouterr()
    answer = json.loads(out)
    assert answer["error"]["type"] == error.__name__
    assert answer["error"]["exit_status"] == error.exit_status
    assert err == f"paravirt: {answer['error']['text']}\n"
    assert (answer["outcome"] is not None) == ended
    assert len(answer["statistics"]["vcpus"]) == 1


def test_json_of_a_bad_image(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = write_guest(tmp_path / "guest.elf", b"", notes=[("Paravirt", 1, b"")])
    assert main(["run", str(image), "--json"]) == errors.BadNote.exit_status
    answer = json.loads(capfd.readouterr().out)
    assert answer["error"]["rule"] == "NOTE-1"
    assert answer["statistics"] is answer["outcome"] is None


def test_the_trace_is_written(hello: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    assert main(["run", str(hello), "--trace", str(trace)]) == 0
    names = {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"console.write", "system.shutdown"} <= names


def test_no_thread_for_the_trace(
    hello: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refuse_thread(monkeypatch, "trace")
    before = len(os.listdir("/proc/self/fd"))
    assert main(["run", str(hello), "--trace", str(tmp_path / "trace.json")]) == errors.HostCallFailed.exit_status
    said = capfd.readouterr().err
    assert "cannot start the thread of the trace: can't start new thread; see ulimit -u" in said
    assert said.count("\n") == 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_debug_shows_the_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for argv in (["run", str(tmp_path / "none"), "--debug"], ["--debug", "run", str(tmp_path / "none")]):
        assert main(argv) == 10
        err = capfd.readouterr().err
        assert err.startswith("Traceback")
        assert err.splitlines()[-1].startswith("paravirt: ")


def test_a_bug_of_ours_is_one_line_too(
    hello: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("paravirt.machine.Machine.run", broken)
    assert main(["run", str(hello)]) == 70
    line = "paravirt: internal error: RuntimeError: two\\nlines; please report it with the output of --debug\n"
    assert capfd.readouterr().err == line


def test_every_option_reaches_the_configuration(tmp_path: Path) -> None:
    argv = [
        *[
            "run",
            "a.elf",
            "--disk",
            "x=y,ro",
            "--disk",
            "z=,ro,ro",
            "--memory",
            "64M",
            "--vcpus",
            "3",
            "--cmdline",
            "a b",
        ],
        *[
            "--privilege",
            "supervisor",
            "--transport",
            "mmio",
            "--poison",
            "--deny",
            "time,vcpu.start",
            "--deny",
            "trace",
        ],
        *["--trace", "t.json", "--timeout", "2.5", "--console", "c.txt", "--kvm-device", "/dev/other"],
    ]
    args = build_parser(["run"]).parse_args(argv)
    (tmp_path / "a.elf").touch()
    with contextlib.chdir(tmp_path):
        from paravirt.cli.console import ConsoleFile

        config = _configuration(args, ConsoleFile(1, "here"))
    assert config.image == Path("a.elf")
    assert config.disks == (Disk("x", Path("y"), True), Disk("z", Path(",ro"), True))
    assert (config.memory_bytes, config.vcpus, config.command_line) == (64 << 20, 3, "a b")
    assert (config.privilege, config.transport, config.poison) == ("supervisor", "mmio", True)
    assert config.deny == {"time", "vcpu.start", "trace"}
    assert (config.trace, config.timeout_s, config.kvm_device) == (Path("t.json"), 2.5, Path("/dev/other"))
    assert (config.console_input, config.name) == (b"", "a")


# ---- ends from outside ----


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, b"interrupted"), (signal.SIGTERM, 143, b"terminated")]
)
def test_signals(tmp_path: Path, number: signal.Signals, status: int, word: bytes) -> None:
    image = write_guest(tmp_path / "loop.elf", say("ready\n"), b"ready\n")
    with process("run", str(image), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        began = time.monotonic()
        running.send_signal(number)
        out, err = running.communicate(timeout=20)
    assert (running.returncode, out, err) == (status, b"", b"paravirt: " + word + b"\n")
    assert time.monotonic() - began < 5


def test_nobody_reads_the_console(tmp_path: Path) -> None:
    image = write_guest(tmp_path / "talk.elf", say("x" * 4000) * 50 + shutdown(), b"x" * 4000)
    with process("run", str(image), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(20) == 141


def test_a_reader_that_stalls_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """The time-out is kept although a vCPU waits in console.write for a pipe that is full."""
    write = say("x" * 4096)
    loop = write + b"\xe9" + struct.pack("<i", -len(write) - 5)
    image = write_guest(tmp_path / "flood.elf", loop, b"x" * 4096)
    with process("run", str(image), "--timeout", "1", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            assert running.wait(15) == errors.GuestTimeout.exit_status
        finally:
            running.kill()


def test_a_full_standard_output(hello: Path) -> None:
    for argv in (["inspect", str(hello)], ["run", str(hello)], ["abi"], ["doctor"], ["demo"]):
        with open("/dev/full", "wb") as full, process(*argv, stdout=full, stderr=subprocess.PIPE) as running:
            assert running.stderr is not None
            line = running.stderr.read()
            assert running.wait(20) == 46
        assert line.startswith(b"paravirt: cannot write")
        assert line.count(b"\n") == 1


def test_standard_streams_may_be_closed(hello: Path) -> None:
    shell = 'exec "$0" -m paravirt run "$1" <&- >&- 2>&-'
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["sh", "-c", shell, sys.executable, str(hello)], env=environment, timeout=60)
    assert done.returncode in (0, 46)


def test_the_console_is_read_from_standard_input(tmp_path: Path) -> None:
    """console.read into the data, console.write of it; the length is what was put in."""
    image = write_guest(tmp_path / "echo.elf", call(2 << 16 | 1, DATA_GPA, 4) + say("ping") + shutdown(), bytes(4))
    done = process("run", str(image), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with done:
        assert done.communicate(b"ping", timeout=60)[0] == b"ping"
