"""A connection to a program that speaks vhost-user, which is not trusted: every reply is bounded and checked.

Each wait has an end.  What is said when is left to ``front_end.py``.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import ECONNREFUSED, ENOENT
from pathlib import Path
from typing import NoReturn, Protocol

from ..listener import too_long
from .errors import PeerError, PeerGone
from .messages import (
    HEADER,
    NEED_REPLY,
    PAYLOAD_BYTES_MOST,
    REPLY,
    U64,
    VERSION,
    VERSION_MASK,
    Message,
    Request,
)

REPLY_S = 10.0
FDS_MOST = 8  # of a message that is read; more are closed by the kernel


def name_of(request: int) -> str:
    """What the protocol calls a request."""
    try:
        return Request(request).name
    except ValueError:
        return f"request {request}"


class Connection:
    """The front end's side of the socket at `path`; `what` names the device in errors, `example` a program
    that could be there ({} is the path).

    Raises PeerGone if nobody listens there, and everywhere below if the peer is gone or does not answer within
    `reply_s`; PeerError if it breaks the protocol.  After either the connection is of no use any more.
    """

    def __init__(self, path: Path, what: str, reply_s: float = REPLY_S, example: str = "") -> None:
        self._where = f"{what}: the vhost-user back end at {path}"
        self._what, self._path, self._reply_s, self._example = what, path, reply_s, example
        self.acknowledged = False
        """Whether REPLY_ACK holds: every message is answered."""
        self.ended = False
        """Whether the peer closed it, as its death does."""
        self._aside: tuple[socket.socket, Callable[[], None]] | None = None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.socket.settimeout(reply_s)
            self.socket.connect(os.fspath(path))
        except OSError as error:
            self.socket.close()
            self._not_there(error)
        except BaseException:
            self.socket.close()
            raise

    def _not_there(self, error: OSError) -> NoReturn:
        if isinstance(error, TimeoutError | BlockingIOError):  # the latter where as many wait as may
            raise PeerGone(f"{self._where} takes no connection; it may serve another machine, or hang") from error
        if error.errno in (ENOENT, ECONNREFUSED):
            other = error.errno == ECONNREFUSED and not self._path.is_socket()  # a disk's file, perhaps
            said = "{} is no socket; give one's path, and" if other else "nothing listens at {};"
            at = "SOCKET" if other else self._path
            example = f", for example {self._example.format(at)}" if self._example else ""
            raise PeerGone(f"{self._what}: {said.format(self._path)} start what serves it{example}") from error
        hint = too_long(self._path) or f"{error.strerror or error}; give the path of a socket"
        raise PeerGone(f"{self._what}: cannot connect to {self._path}: {hint}") from error

    def close(self) -> None:
        """Lets the peer go.  More than once is fine."""
        self.socket.close()

    def abandon(self) -> None:
        """Has all waits for the peer end as if it had closed the connection.  Any thread."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def hang_up(self) -> bool:
        """Says that this is the end; whether the peer closes its side in turn, as it does when it let go or is dead."""
        until = time.monotonic() + self._reply_s
        try:
            if not self.ended:
                self.socket.shutdown(socket.SHUT_WR)
            while not self.ended and (left_s := until - time.monotonic()) > 0:
                self.socket.settimeout(left_s)
                self.ended = not self.socket.recv(PAYLOAD_BYTES_MOST)
        except TimeoutError:
            return False
        except OSError:
            self.ended = True
        return self.ended

    def listen_to(self, source: socket.socket, hear: Callable[[], None]) -> None:
        """Calls `hear` when `source` can be read while an answer is waited for."""
        self._aside = source, hear

    def wrong(self, how: str) -> PeerError:
        """The error for a peer that breaks the protocol."""
        return PeerError(f"{self._where} {how}; it is not one that works here, or has a bug: update or replace it")

    def gone(self, how: str) -> PeerGone:
        """The error for a peer that died or hangs."""
        return PeerGone(f"{self._where} {how}; see what became of it and start it again")

    def closed(self, how: str) -> PeerGone:
        """The same for one that closed the connection."""
        self.ended = True
        return self.gone(f"closed the connection{how}")

    def expect_nothing(self) -> None:
        """Raises what it means that there is something to read although nothing was asked."""
        try:
            data = self.socket.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError as error:
            raise self.closed(f" ({error.strerror})") from error
        raise self.wrong("sent a message that nobody asked for") if data else self.closed("")

    # ---- saying ----

    def tell(self, request: Request, payload: bytes = b"", fds: Sequence[int] = ()) -> None:
        """Sends a message that has no answer of its own; with REPLY_ACK it must be answered by zero."""
        self._send(request, payload, fds, NEED_REPLY if self.acknowledged else 0)
        if not self.acknowledged:
            return
        (refused,) = U64.unpack(self._reply(request, U64.size).payload)
        if refused:
            raise self.wrong(f"refused {request.name} ({refused:#x})")

    def ask(self, request: Request, payload: bytes = b"", size_bytes: int | None = None, fds_most: int = 0) -> Message:
        """Sends a message and waits for its answer, which must have `size_bytes` of payload, if given.

        Descriptors that come with it are the caller's to close; more than `fds_most` are refused.
        """
        self._send(request, payload, (), 0)
        return self._reply(request, size_bytes, fds_most)

    def ask_number(self, request: Request) -> int:
        """The answer of a message that asks for one number."""
        (number,) = U64.unpack(self.ask(request, size_bytes=U64.size).payload)
        return int(number)

    def _send(self, request: Request, payload: bytes, fds: Sequence[int], flags: int) -> None:
        data = HEADER.pack(request, VERSION | flags, len(payload)) + payload
        try:
            sent = socket.send_fds(self.socket, [data], list(fds)) if fds else self.socket.send(data)
            if sent < len(data):
                self.socket.sendall(data[sent:])
        except TimeoutError as error:
            raise self.gone(f"does not read {request.name}") from error
        except OSError as error:
            raise self.closed(f" at {request.name} ({error.strerror})") from error

    def await_data(self, source: socket.socket, until: float, what: str) -> None:
        """Returns when `source`, one of the connection's sockets, has something to read."""
        poll = select.poll()  # unlike select(2) it takes any descriptor
        poll.register(source, select.POLLIN)
        aside = self._aside if source is self.socket else None
        if aside:
            poll.register(aside[0], select.POLLIN)
        while True:
            left_s = until - time.monotonic()
            ready = {fd for fd, _ in poll.poll(max(0.0, left_s) * 1000)}
            if source.fileno() in ready:
                return
            if left_s <= 0 or not ready:
                raise self.gone(f"does not send {what}")
            assert aside
            aside[1]()

    def _reply(self, request: Request, size_bytes: int | None, fds_most: int = 0) -> Message:
        message = receive(self, self.socket, self._reply_s, f"the answer to {request.name}")
        try:
            if message.request != request:
                raise self.wrong(f"answered {request.name} with {name_of(message.request)}")
            if not message.flags & REPLY:
                raise self.wrong(f"answered {request.name} with a message that is no reply")
            if size_bytes is not None and len(message.payload) != size_bytes:
                raise self.wrong(f"answered {request.name} with {len(message.payload)} bytes instead of {size_bytes}")
            if len(message.fds) > fds_most:
                raise self.wrong(f"sent {len(message.fds)} descriptors with {request.name}, {fds_most} at most are due")
        except BaseException:
            close_all(message.fds)
            raise
        return message


def close_all(fds: Sequence[int]) -> None:
    """Closes descriptors that somebody sent."""
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


class Reader(Protocol):
    """Who waits for messages, and says what is wrong with them."""

    def await_data(self, source: socket.socket, until: float, what: str) -> None:
        """Returns when `source` has something to read.  Raises PeerGone after `until`."""

    def wrong(self, how: str) -> PeerError:
        """The error for a peer that breaks the protocol."""

    def closed(self, how: str) -> PeerGone:
        """The error for one that closed the connection."""


def receive(connection: Reader, source: socket.socket, timeout_s: float, what: str) -> Message:
    """The next message from `source`, one of the connection's sockets.  Raises as `Connection` does."""
    until = time.monotonic() + timeout_s
    fds: list[int] = []
    try:
        request, flags, size = HEADER.unpack(_exactly(connection, source, HEADER.size, until, what, fds))
        if flags & VERSION_MASK != VERSION:
            raise connection.wrong(f"sent {what} in version {flags & VERSION_MASK} of the protocol")
        if size > PAYLOAD_BYTES_MOST:
            raise connection.wrong(f"sent {what} with a payload of {size} bytes")
        return Message(request, flags, _exactly(connection, source, size, until, what, fds), tuple(fds))
    except BaseException:
        close_all(fds)
        raise


def _exactly(connection: Reader, source: socket.socket, size: int, until: float, what: str, fds: list[int]) -> bytes:
    data = b""
    while len(data) < size:
        connection.await_data(source, until, what)
        try:
            piece, more, flags, _ = socket.recv_fds(source, size - len(data), FDS_MOST, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise connection.closed(f" instead of sending {what} ({error.strerror})") from error
        fds += more
        if flags & socket.MSG_CTRUNC or len(fds) > FDS_MOST:
            raise connection.wrong(f"sent too many descriptors with {what}")
        if not piece:
            raise connection.closed(f" instead of sending {what}")
        data += piece
    return data
