"""A front end that fills an eventfd between our question and our write holds its own queue up, nothing else."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from paravirt.vhost_user.messages import U64, VRING_STATE, Request
from tests.support.front_end import AVAILABLE, SIZE, FrontEndPuppet
from tests.support.served_device import InProcess, wait_for
from tests.support.tree import ROOT

WRITE = "1"  # the system call's number, as /proc has it
BLOCK = ("block", "--disk", "{}/disk.img,queues=1")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    shim = tmp_path / "filling_poll.so"
    source = ROOT / "tests" / "support" / "filling_poll.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", source, "-o", shim], check=True)
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    return {"LD_PRELOAD": str(shim)}


@pytest.fixture
def disk(tmp_path: Path, environment: dict[str, str]) -> Iterator[InProcess]:
    with InProcess(tmp_path / "s", *(word.format(tmp_path) for word in BLOCK), environment=environment) as process:
        yield process


def makes_wait(fd: int) -> None:
    """Who writes to a full one, waits."""
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)


def is_held(process: InProcess) -> bool:
    """Whether a thread of its waits in a write."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return any((task / "syscall").read_text().split()[0] == WRITE for task in tasks)


def hold(front_end: FrontEndPuppet, process: InProcess) -> None:
    makes_wait(front_end.call_fd)
    front_end.start()
    os.eventfd_read(front_end.call_fd)  # of the beginning
    front_end.offer_read(1)
    wait_for(lambda: front_end.used() == 1 and is_held(process), "its thread does not wait")


def test_a_queue_is_given_back(tmp_path: Path, disk: InProcess) -> None:
    """By a thread that waits, and then the next session's is."""
    for _ in range(2):
        with FrontEndPuppet(tmp_path / "s") as bad:
            hold(bad, disk)
            assert VRING_STATE.unpack(bad.ask(Request.GET_VRING_BASE, VRING_STATE.pack(0, 0))) == (0, 1)
            assert bad.share()
            bad.describe(base=1)
            assert bad.kick()
            bad.offer_read(2)
            wait_for(lambda bad=bad: bad.used() == 2, "the queue does not go on")  # type: ignore[misc]


def test_memory_changes_and_the_session_ends(tmp_path: Path, disk: InProcess) -> None:
    for _ in range(2):
        with FrontEndPuppet(tmp_path / "s") as bad:
            hold(bad, disk)
            assert bad.share()
            os.eventfd_read(bad.call_fd)
            bad.offer_read(2)
            wait_for(lambda bad=bad: bad.used() == 2 and is_held(disk), "it does not go on")  # type: ignore[misc]


def test_the_program_ends(tmp_path: Path, disk: InProcess) -> None:
    with FrontEndPuppet(tmp_path / "s") as bad:
        hold(bad, disk)
        assert disk.stop() == (143, "paravirt: terminated\n")
    assert not (tmp_path / "s").exists()


def test_devices_in_python(tmp_path: Path, environment: dict[str, str]) -> None:
    """Their thread is everybody's: it nudges itself."""
    with (
        InProcess(tmp_path / "s", "entropy", environment=environment),
        FrontEndPuppet(tmp_path / "s") as bad,
    ):
        makes_wait(bad.call_fd)
        bad.start()
        for count in range(1, 4):
            bad.offer_room(64)
            wait_for(lambda count=count: bad.used() == count, "no random bytes")  # type: ignore[misc]


def test_errors(tmp_path: Path, disk: InProcess) -> None:
    """What tells of a fault is the program's main thread."""
    error_fd = os.eventfd(0, os.EFD_CLOEXEC)
    with FrontEndPuppet(tmp_path / "s") as bad:
        bad.start()
        assert bad.told(Request.SET_VRING_ERR, U64.pack(0), [error_fd])
        bad.memory[AVAILABLE + 2 : AVAILABLE + 4] = struct.pack("<H", SIZE + 1)
        os.eventfd_write(bad.kick_fd, 1)
        assert os.eventfd_read(error_fd)
        wait_for(lambda: U64.unpack(bad.ask(Request.GET_STATUS))[0] & 64, "no fault")
    os.close(error_fd)
    status, said = disk.stop()
    assert (status, said.count("\n")) == (143, 2)
    assert "broke rule VQ-7" in said
