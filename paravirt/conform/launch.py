"""Starts one image in a host that is a process, and hands its console on line by line.

The host may be any command: it may fail, hang, flood its output or leave children behind.  What the
lines mean is for ``tap.py``.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from ..errors import ConfigError, one_line
from ..interrupts import Held

OUR_HOST = (sys.executable, "-P", "-m", "paravirt", "run")
PACKAGES = Path(__file__).resolve().parents[2]
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


def check_launcher(launcher: str) -> None:
    """Raises ConfigError if `launcher` is no command with a place for the image."""
    try:
        words = shlex.split(launcher)
    except ValueError as error:
        raise ConfigError(f"the launcher {launcher!r} cannot be read: {error}; check its quotes") from error
    if not any("{image}" in word for word in words):
        raise ConfigError(f"the launcher {launcher!r} has no {{image}}; write it where the ELF file's path belongs")


def fill_in(launcher: str, **values: object) -> list[str]:
    """The command `launcher` with the `values` in its places; what is in braces and has none stays."""
    place = re.compile(rf"\{{({'|'.join(values)})\}}")
    return [place.sub(lambda found: str(values[found[1]]), word) for word in shlex.split(launcher)]


def _environment(more: Iterable[tuple[str, str]]) -> dict[str, str]:
    """That of this process and `more`; ``python -m paravirt`` is this package wherever it lies."""
    path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **dict(more)}


def launch(
    command: Sequence[str],
    timeout_s: float,
    line: Callable[[str], None],
    environment: Iterable[tuple[str, str]] = (),
) -> End:
    """Runs `command` until it ends or `timeout_s` is over; each line of its standard output goes to `line`.

    `environment` comes before this process's own.  What is not printable in a line is escaped.  Raises
    ConfigError if there is no such command.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        console = _Console(line)
        with _running(command, environment, errors) as process:
            why = console.follow(process, errors, began + timeout_s, timeout_s)
        status = None if why else process.returncode
        return End(status, why, console.left, _last_line(errors), time.monotonic() - began)


@contextmanager
def _running(
    command: Sequence[str], environment: Iterable[tuple[str, str]], errors: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts `command`, and ends it with what it started; a guard kills them if this process is itself killed."""
    process = guard = None
    try:
        with Held():  # the host may be at work before its number is known here
            process = _start(command, environment, errors)
            guard = subprocess.Popen(
                [*GUARD, str(process.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # what kills our group leaves the guard
            )
        yield process
    finally:
        with Held():
            if process:
                _end(process)
            if guard:
                guard.communicate(b"released\n")


def _start(
    command: Sequence[str], environment: Iterable[tuple[str, str]], errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(environment),
            start_new_session=True,  # its children are ended with it
        )
    except OSError as error:
        raise ConfigError(f"cannot start {command[0]!r}: {error.strerror}; check --launcher") from error


class _Console:
    """Cuts a stream into lines."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._rest = b""

    @property
    def left(self) -> str:
        return _text(self._rest)

    def follow(self, process: subprocess.Popen[bytes], errors: IO[bytes], until: float, timeout_s: float) -> str:
        """Reads until the process is gone; why it has to be ended, or nothing."""
        assert process.stdout is not None
        fd, total = process.stdout.fileno(), 0
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while (left_s := until - time.monotonic()) > 0:
            if os.fstat(errors.fileno()).st_size > OUTPUT_MOST_BYTES:
                return f"the host wrote more than {OUTPUT_MOST_BYTES >> 20}M to its standard error"
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
            self._line(_text(text.rstrip(b"\r")))


def _text(data: bytes) -> str:
    """A line that a terminal and an XML file can bear: a host may write anything."""
    return one_line(data.decode("utf-8", "replace"))


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
