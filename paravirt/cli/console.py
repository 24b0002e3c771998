"""Where a command puts the guest's console: a file descriptor that may fail or stall."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import OutputError

if TYPE_CHECKING:
    from ..machine import Machine

STALL_MS = 500  # a pipe that poll() finds ready takes PIPE_BUF bytes without waiting


class ConsoleFile:
    """Where console bytes go.  A failed write is kept for the end: it must not end a vCPU's thread.

    A reader may stall for ever (a pager, a terminal on hold); a machine that is to end then waits for it
    no longer than STALL_MS.  Call `watch` before the machine runs.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.ending: Callable[[], bool] = lambda: False
        """Whether the machine is to end."""
        self._fd = fd
        self._name = name
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._error: OSError | None = None

    def watch(self, machine: Machine) -> None:
        """The machine whose end counts."""
        self.ending = lambda: machine.ending

    def write(self, data: bytes) -> None:
        """Writes all of `data`, or nothing more after an error or when nobody reads any more."""
        view = memoryview(data)
        while view and self._error is None:
            try:
                if self._poll.poll(STALL_MS):
                    view = view[os.write(self._fd, view[: select.PIPE_BUF]) :]
                elif self.ending():
                    return
            except OSError as error:
                self._error = error

    def check(self) -> None:
        """Raises what went wrong: BrokenPipeError if nobody reads any more, else OutputError."""
        if isinstance(self._error, BrokenPipeError):
            raise self._error
        if self._error is not None:
            raise OutputError(f"cannot write the console to {self._name}: {self._error.strerror}; make room for it")
