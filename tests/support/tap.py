"""TAP devices of tests and benchmarks, in network namespaces of their own."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

CLONE_NEWNET = 0x40000000
HOST = "10.0.2.2"
PATIENCE_S = 60.0


class NoTap(Exception):
    """What this process lacks for one: a right or a program.  What goes wrong with these is no NoTap."""


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def await_up(name: str) -> None:
    """Waits until the device `name`, which somebody has open now, passes frames on: the kernel takes its time."""
    deadline = time.monotonic() + PATIENCE_S
    while "state UP" not in _ip("link", "show", name):
        assert time.monotonic() < deadline, f"{name} does not come up"
        time.sleep(0.01)


def set_queue_length(name: str, frames: int) -> None:
    """How many frames may wait in the device `name`."""
    _ip("link", "set", name, "txqueuelen", str(frames))


def set_mtu(name: str, mtu: int) -> None:
    """Largest payload of a frame of the device `name`."""
    _ip("link", "set", name, "mtu", str(mtu))


@contextmanager
def tap_device(name: str, *, pairs: int = 1) -> Iterator[None]:
    """The TAP device `name` with the address HOST, until the context ends; raises NoTap.

    It lies in a network namespace that the calling thread is in meanwhile, with all that it starts.
    """
    if os.geteuid() != 0 or not shutil.which("ip"):
        raise NoTap("a TAP device takes root and ip")
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as why:
        raise NoTap(f"a TAP device takes /dev/net/tun: {why.strerror}") from why
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(CLONE_NEWNET):
            raise NoTap("this process may not have a network namespace of its own")
        try:
            _ip("tuntap", "add", name, "mode", "tap", *(["multi_queue"] if pairs > 1 else []))
            _ip("addr", "add", f"{HOST}/24", "dev", name)
            _ip("link", "set", name, "up")
            _ip("link", "set", "lo", "up")
            yield
        finally:
            libc.setns(before, 0)
    finally:
        os.close(before)


@contextmanager
def needed_tap(name: str, *, pairs: int = 1) -> Iterator[None]:
    """`tap_device` for a test, which is skipped where this process may have none; all else that fails is a failure."""
    with ExitStack() as stack:
        try:
            stack.enter_context(tap_device(name, pairs=pairs))
        except NoTap as why:
            pytest.skip(str(why))
        yield
