"""What a front end says to a device of ours, taken and answered one message at a time; it is not trusted.

What cannot be done is Refused: the front end is told so if it asked to be, and else has to go, since it would take the
device for one that works.  What each message does is left to ``session.py``.
"""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from typing import Any, cast

from ..interrupts import Held
from .connection import close_all, name_of, receive
from .errors import PeerError, PeerGone, Refused
from .messages import HEADER, NEED_REPLY, REPLY, U64, VERSION, Message, ProtocolFeature

HEAR_S = 10.0  # for the rest of a message that has begun, and for room for an answer


class Conversation(ABC):
    """Talks to the front end at the other end of `connection`, which errors call that of `title`."""

    def __init__(self, title: str, connection: socket.socket) -> None:
        self._title, self._connection = title, connection
        self._protocol = ProtocolFeature(0)
        connection.settimeout(HEAR_S)

    @abstractmethod
    def act(self, message: Message) -> Message | None:
        """Does what a message says; its answer, if it has one of its own.  Raises Refused, PeerError."""

    @abstractmethod
    def warn(self, text: str) -> None:
        """Says what is wrong to whoever runs the program."""

    # ---- what is wrong with it ----

    def wrong(self, how: str) -> PeerError:
        """The error for a front end that breaks the protocol."""
        return PeerError(f"{self._title}: the front end {how}; its session ends, another may begin")

    def closed(self, how: str) -> PeerGone:
        """The error for one that is gone."""
        return PeerGone(f"{self._title}: the front end closed the connection{how}")

    def await_data(self, source: socket.socket, until: float, what: str) -> None:
        """Returns when there is something to read.  Raises PeerGone after `until`."""
        source.settimeout(max(0.001, until - time.monotonic()))
        try:
            source.recv(1, socket.MSG_PEEK)
        except TimeoutError as error:
            raise PeerGone(f"{self._title}: the front end does not send {what}") from error
        except OSError:  # whoever reads finds out
            return

    # ---- messages ----

    def hear(self) -> None:
        """Takes and answers a message."""
        message = receive(self, self._connection, HEAR_S, "a message")
        try:
            with Held():  # a queue that was just started has an owner who stops it
                self._answer(message)
        finally:
            close_all(message.fds)

    def _answer(self, message: Message) -> None:
        if message.flags & REPLY:
            raise self.wrong(f"sent {name_of(message.request)}, which is not offered")
        wants = bool(message.flags & NEED_REPLY and ProtocolFeature.REPLY_ACK in self._protocol)
        refused = 0
        answer: Message | None = None
        try:
            answer = self.act(message)
        except Refused as error:
            if not wants:
                raise self.wrong(f"asks for what cannot be: {error}") from error
            self.warn(f"{self._title}: {name_of(message.request)} is refused: {error}")
            refused = 1
        if answer is None and wants:
            answer = Message(message.request, 0, U64.pack(refused))
        if answer:
            try:
                self._send(answer)
            finally:
                close_all(answer.fds)

    def _send(self, answer: Message) -> None:
        data = HEADER.pack(answer.request, VERSION | REPLY, len(answer.payload)) + answer.payload
        try:
            self._connection.settimeout(HEAR_S)
            sent = socket.send_fds(self._connection, [data], list(answer.fds))
            if sent < len(data):
                self._connection.sendall(data[sent:])
        except TimeoutError as error:
            raise PeerGone(f"{self._title}: the front end does not read its answers") from error
        except OSError as error:
            raise self.closed(f" ({error.strerror})") from error

    def _unpack(self, message: Message, layout: Any) -> tuple[int, ...]:
        if len(message.payload) != layout.size:
            raise self.wrong(f"sent {name_of(message.request)} with {len(message.payload)} bytes, not {layout.size}")
        return cast("tuple[int, ...]", layout.unpack(message.payload))

    def _number(self, message: Message) -> int:
        return self._unpack(message, U64)[0]

    def _fd_of(self, message: Message, due: bool = True) -> int:
        """The one descriptor that came with a message; -1: none is due."""
        if len(message.fds) != due:
            raise self.wrong(f"sent {len(message.fds)} descriptors with {name_of(message.request)}")
        return message.fds[0] if due else -1
