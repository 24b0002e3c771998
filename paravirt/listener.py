"""Sockets of ours that other programs connect to: made in place of stale ones, removed if they are still ours."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import SocketError

BACKLOG = 128  # programs that connect before they are heard
TURN_S = 2.0  # for a directory's lock: anybody may hold that, such as /tmp's
TURN_STEP_S = 0.005
PATH_BYTES_MOST = 107  # of a socket: sockaddr_un has room for that and a NUL


def too_long(path: Path) -> str:
    """What to say of a path that no socket can have; empty: it is short enough."""
    size = len(os.fsencode(path))
    if size <= PATH_BYTES_MOST:
        return ""
    return f"the path has {size} bytes and a socket's at most {PATH_BYTES_MOST}; give a shorter one"


class Listener:
    """The listening socket at `path`, in place of one that nobody listens at; `what` it is of, in errors.

    Raises SocketError.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        if wrong := too_long(path):
            raise SocketError(f"{what}: {path} cannot be made: {wrong}")
        with _turn(path.parent):
            _remove_stale(path, what)
            self.socket = _listen(path, what)
            try:
                self._made = _identity(path)
            except OSError as error:
                self.socket.close()
                raise SocketError(f"{what}: {path} was removed at once; give another path") from error

    def close(self) -> None:
        """Closes the socket and removes it, unless somebody has put another in its place.  More than once is fine."""
        if self.socket.fileno() < 0:
            return
        with suppress(OSError):  # somebody has removed it
            if _identity(self.path) == self._made:
                os.unlink(self.path)
        self.socket.close()


@contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """One at a time: who finds a stale socket would remove the one that another has just put in its place."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # bind says what is wrong, if that is
        yield
        return
    try:
        until = time.monotonic() + TURN_S
        while not _locked(fd) and time.monotonic() < until:
            time.sleep(TURN_STEP_S)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _listen(path: Path, what: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(os.fsencode(path))
        listener.listen(BACKLOG)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        listener.close()
        why = getattr(error, "strerror", None) or error
        raise SocketError(
            f"{what}: {path} cannot be made: {why}; give a path in a directory that you may write"
        ) from error
    return listener


def _remove_stale(path: Path, what: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return  # nothing is there, or bind says what is wrong
    if not stat.S_ISSOCK(mode):
        raise SocketError(f"{what}: {path} exists and is no socket; give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        answer = probe.connect_ex(os.fsencode(path))
    if answer != errno.ECONNREFUSED:  # EAGAIN: somebody listens who has much to do
        raise SocketError(f"{what}: {path} is in use by another program; stop that one or give another path")
    with suppress(FileNotFoundError):
        os.unlink(path)


def _identity(path: Path) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
