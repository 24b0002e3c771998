"""Threads of the host: as the kernel sees them, and one that it refuses."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from .fake_guest import PATIENCE_S

LOOKS, LOOK_S = 40, 0.002


def _state(name: str) -> str:
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it may just have ended
            if (task / "comm").read_text().strip() == name:
                return (task / "stat").read_text().rpartition(")")[2].split()[0]
    raise AssertionError(f"no thread is called {name!r}")


def asleep(name: str) -> None:
    """Waits until the thread called `name` sleeps and stays so: one that looks for work all the time never does."""
    deadline, seen = time.monotonic() + PATIENCE_S / 2, 0
    while seen < LOOKS:
        assert time.monotonic() < deadline, f"the thread {name!r} does not sleep"
        seen = seen + 1 if _state(name) == "S" else 0
        time.sleep(LOOK_S)


def refuse_thread(patch: pytest.MonkeyPatch, name: str) -> None:
    """Threads called `name` cannot be started any more."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    patch.setattr(threading.Thread, "start", refuse)
