"""Signals to commands that start processes or keep temporary files: what they began goes with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.built import GUESTS
from tests.support.tree import ROOT
from tests.support.waiting import wait_for

GOLDEN = ROOT / "tests/paravirt/recording/golden"
# Prints its number to a file of its own, since its output is read as TAP, and sleeps.
HOST = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
LAUNCHER = f"{sys.executable} -c {HOST!r} {{pid}} {{image}}"
COMMANDS = {
    "conform host": ["conform", "host", "--chapter", "calls", "--launcher", LAUNCHER],
    "replay": ["replay", str(GOLDEN / "hello.pcapng"), "--launcher", LAUNCHER],
}


def begin(command: list[str], place: Path) -> subprocess.Popen[str]:
    """`command` in a process whose temporary files go to `place`."""
    command = [word.replace("{pid}", str(place.parent / "pid")) for word in command]
    environment = os.environ | {"TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "paravirt", *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def word_in(path: Path) -> str:
    wait_for(lambda: path.exists() and path.read_text(), f"nothing is in {path}")
    return path.read_text()


def gone(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return False
    return True


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    return place


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "the terminal is gone"),
    ],
)
def test_the_host_and_the_files_go(place: Path, command: str, number: signal.Signals, status: int, word: str) -> None:
    with begin(COMMANDS[command], place) as running:
        host = int(word_in(place.parent / "pid"))
        running.send_signal(number)
        out, err = running.communicate(timeout=20)
    assert (running.returncode, out, err) == (status, "", f"paravirt: {word}\n")
    assert gone(host)
    assert not list(place.iterdir())


@pytest.mark.kvm
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_machine_of_our_own_goes(place: Path, number: signal.Signals) -> None:
    """The strict host runs in the command's own process."""
    with begin(["conform", "guest", str(GUESTS / "spin.elf"), "--inject", "poison"], place) as running:
        until = time.monotonic() + 30
        while not list(place.glob("*/calls.pcapng")):
            assert time.monotonic() < until and running.poll() is None
            time.sleep(0.01)
        running.send_signal(number)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 128 + number
    assert err.count("\n") == 1
    assert not list(place.iterdir())


def test_nohup_is_respected(place: Path) -> None:
    """A signal that the caller ignores is not heard."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = begin(COMMANDS["replay"], place)
    finally:
        signal.signal(signal.SIGHUP, before)
    with running:
        word_in(place.parent / "pid")
        running.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert running.poll() is None
        running.terminate()
        running.communicate(timeout=20)
    assert running.returncode == 143
