"""Starts one image in a host that is a process, and hands its console on line by line.

The host may be any command: it may fail, hang, flood its output or leave children behind.  What the
lines mean is for ``tap.py``.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

from ..errors import ConfigError, one_line

OUTPUT_MOST_BYTES = 32 << 20
ERRORS_SHOWN_BYTES = 4096
GRACE_S = 2.0  # from SIGTERM to SIGKILL, so that a host can put its terminal and files in order
GUARD = ("sh", "-c", "read -r released || kill -s KILL -- -$0")  # the end of its input is the end of this process


class End(NamedTuple):
    """How the host's process ended."""

    status: int | None
    """Its exit status, negative for a signal; None: it was ended here."""
    why: str
    """Why it was ended here, else empty."""
    left: str
    """What the console held after its last line's end."""
    errors: str
    """The last line on standard error."""
    seconds: float


def launch(
    command: Sequence[str], environment: Mapping[str, str], timeout_s: float, line: Callable[[str], None]
) -> End:
    """Runs `command` until it ends or `timeout_s` is over; its standard output goes to `line`.

    Raises ConfigError if there is no such command.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(environment),
                start_new_session=True,  # its children are ended with it
            )
        except OSError as error:
            raise ConfigError(f"cannot start {command[0]!r}: {error.strerror}; check --launcher") from error
        console = _Console(line)
        with _ended(process):
            why = console.follow(process, began + timeout_s, timeout_s)
        status = None if why else process.returncode
        return End(status, why, console.left, _last_line(errors), time.monotonic() - began)


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends `process` and what it started; has a guard kill them if this process is itself killed meanwhile."""
    guard = None
    try:
        guard = subprocess.Popen(
            [*GUARD, str(process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what kills our group leaves the guard
        )
        yield
    finally:
        _end(process)
        if guard:
            guard.communicate(b"released\n")


class _Console:
    """Cuts a stream into lines."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._rest = b""

    @property
    def left(self) -> str:
        return self._rest.decode("utf-8", "replace")

    def follow(self, process: subprocess.Popen[bytes], until: float, timeout_s: float) -> str:
        """Reads until the process is gone; why it has to be ended, or nothing."""
        assert process.stdout is not None
        fd, total = process.stdout.fileno(), 0
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while (left_s := until - time.monotonic()) > 0:
            if not poll.poll(min(left_s, 1.0) * 1000 + 1):
                continue
            data = os.read(fd, 65536)
            if not data:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(until - time.monotonic(), 0.1))
                    return ""
                break
            total += len(data)
            if total > OUTPUT_MOST_BYTES:
                return f"the host wrote more than {OUTPUT_MOST_BYTES >> 20}M to its standard output"
            self._cut(data)
        return f"the host did not end within {timeout_s:g} s"

    def _cut(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for text in lines:
            self._line(text.decode("utf-8", "replace").rstrip("\r"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process, if it runs, and whatever it started."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    _signal(process, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the group is empty
        os.killpg(process.pid, number)


def _last_line(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(size - ERRORS_SHOWN_BYTES, 0))
    lines = errors.read().decode("utf-8", "replace").splitlines()
    return next((one_line(text.strip()) for text in reversed(lines) if text.strip()), "")
