"""Descriptors that a front end sends for what they are not good for."""

from __future__ import annotations

import os
import pty
import tty
from pathlib import Path

import pytest

from paravirt._native import ffi, lib
from paravirt.devices.queue import Queue
from paravirt.vhost_user.errors import Refused
from paravirt.vhost_user.memory_table import map_file
from paravirt.vhost_user.served_queue import check_kick
from tests.support.front_end import FrontEndPuppet
from tests.support.hostile import check_serves

FLAGS = os.EFD_CLOEXEC | os.EFD_NONBLOCK


def test_a_kick_that_is_a_semaphore(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It would be taken 2^64 times after it was written once."""
    with FrontEndPuppet(path) as bad:
        os.close(bad.kick_fd)
        bad.kick_fd = os.eventfd(0, FLAGS | os.EFD_SEMAPHORE)
        bad.begin()
        assert bad.share()
        bad.describe()
        assert not bad.kick()
    assert "a kick is a semaphore" in caplog.text
    check_serves(path)


@pytest.mark.parametrize("count", [0, 1, 2**64 - 2])
def test_kicks_that_are_good(count: int) -> None:
    """Empty, rung, and full ones; none waits."""
    fd = os.eventfd(0, FLAGS)
    try:
        os.eventfd_write(fd, count)
        check_kick(fd)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)
    finally:
        os.close(fd)


def test_memory_that_need_not_come() -> None:
    """A file of the kernel's stands for those of programs and of other machines."""
    with (
        Path("/sys/kernel/mm/transparent_hugepage/enabled").open("rb") as file,
        pytest.raises(Refused, match="guest memory is in a file whose pages may never come"),
    ):
        map_file(file.fileno(), 0, 16, -1, "guest memory")


def test_doorbells_where_nowait_is_unknown() -> None:
    """Linux before 5.8 does not know RWF_NOWAIT of an eventfd, as others do not of a terminal."""
    writer, reader = pty.openpty()
    try:
        tty.setraw(reader)
        with pytest.raises(OSError, match="not supported"):
            os.preadv(reader, [bytearray(8)], -1, os.RWF_NOWAIT)
        device = ffi.new("struct pv_device *")
        device.queues[0].doorbell_fd, device.queues[0].kick_fd = reader, -1
        queue = Queue(device, 0)
        queue.drain_doorbell()  # nothing is there
        os.write(writer, bytes(8))
        queue.drain_doorbell()
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        assert not lib.pv_vhost_back_end_take(reader)
    finally:
        os.close(writer)
        os.close(reader)
