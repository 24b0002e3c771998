"""What the front end of vhost-user says, and in which order; who says it when is ``device.py``.

Nothing here looks into a queue: the peer is told where it lies, by addresses that the C core has checked.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .connection import REPLY_S, Connection, close_all, receive
from .errors import PeerError
from .messages import (
    CONFIG,
    FEATURE_PROTOCOL,
    HEADER,
    NEED_REPLY,
    REGIONS_MOST,
    REPLY,
    U64,
    VERSION,
    VRING_ADDRESSES,
    VRING_STATE,
    BackendRequest,
    Message,
    ProtocolFeature,
    Region,
    Request,
    pack_memory,
)

P = ProtocolFeature
UNDERSTOOD = P.MQ | P.REPLY_ACK | P.BACKEND_REQ | P.CONFIG | P.RESET_DEVICE | P.STATUS
FEATURE_VERSION_1 = 1 << 32
STATUS_FEATURES_OK = 1 | 2 | 8  # ACKNOWLEDGE, DRIVER, FEATURES_OK
STATUS_DRIVER_OK = STATUS_FEATURES_OK | 4


class Vring(NamedTuple):
    """A queue that is given to the peer: host addresses, and its eventfds."""

    number: int
    size: int
    descriptors_hva: int
    available_hva: int
    used_hva: int
    kick_fd: int
    call_fd: int


class FrontEnd:
    """A session with the peer at `path`, up to its features and configuration.

    `reached` is given its connection before the first wait.  Raises PeerError and PeerGone, as all that follows does.
    """

    def __init__(
        self,
        path: Path,
        what: str,
        config_bytes: int,
        reply_s: float = REPLY_S,
        example: str = "",
        reached: Callable[[Connection], object] | None = None,
    ) -> None:
        self._what = what
        self.connection = Connection(path, what, reply_s, example)
        if reached:
            reached(self.connection)
        self.back_channel: socket.socket | None = None
        """Where the peer asks; its own side of the session."""
        self._error_fd = -1
        self._given: set[int] = set()
        self._in_use: set[int] = set()
        self.working = False
        """Whether the peer has guest memory, and has not given its queues back."""
        self.config_changed = False
        """Whether the peer says that it has another configuration than `config`."""
        self._config_bytes, self._reply_s = config_bytes, reply_s
        try:
            self._error_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._negotiate()
        except BaseException:
            self.close()
            raise

    def _negotiate(self) -> None:
        c = self.connection
        self.features = c.ask_number(Request.GET_FEATURES)
        self.protocol = ProtocolFeature(0)
        if not self.features & FEATURE_VERSION_1:
            raise c.wrong("does not offer virtio 1 (VERSION_1)")
        if self.features & FEATURE_PROTOCOL:
            self.protocol = ProtocolFeature(c.ask_number(Request.GET_PROTOCOL_FEATURES) & int(UNDERSTOOD))
            c.tell(Request.SET_PROTOCOL_FEATURES, U64.pack(self.protocol))
        c.acknowledged = ProtocolFeature.REPLY_ACK in self.protocol
        c.tell(Request.SET_OWNER)
        if self._config_bytes and ProtocolFeature.CONFIG not in self.protocol:
            raise c.wrong("does not offer its configuration (protocol feature CONFIG)")
        self.queues = c.ask_number(Request.GET_QUEUE_NUM) if ProtocolFeature.MQ in self.protocol else 1
        if self.queues < 1:
            raise c.wrong("offers no queue")
        if ProtocolFeature.BACKEND_REQ in self.protocol:
            self._open_back_channel()
        self.read_config()

    def _open_back_channel(self) -> None:
        self.back_channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.back_channel.settimeout(self._reply_s)
        with theirs:
            self.connection.tell(Request.SET_BACKEND_REQ_FD, b"", [theirs.fileno()])
        # It may ask while we do, and wait for its answer before it gives ours.
        self.connection.listen_to(self.back_channel, self.hear)

    def read_config(self) -> None:
        """Asks for the configuration space as the peer has it now."""
        self.config_changed, self.config = False, b""
        if size := self._config_bytes:
            answer = self.connection.ask(Request.GET_CONFIG, CONFIG.pack(0, size, 0) + bytes(size), CONFIG.size + size)
            self.config = answer.payload[CONFIG.size :]

    def close(self) -> None:
        """Ends the session.  More than once is fine."""
        self.connection.close()
        if self.back_channel:
            self.back_channel.close()
            self.back_channel = None
        if self._error_fd >= 0:
            os.close(self._error_fd)
            self._error_fd = -1

    # ---- a driver begins ----

    def start(self, features: int, regions: tuple[Region, ...], vrings: tuple[Vring, ...], in_use: int) -> None:
        """Gives the peer guest memory and queues; it works from now on, on those that `use` says."""
        c = self.connection
        if len(regions) > REGIONS_MOST:
            raise PeerError(
                f"guest memory and rings lie in {len(regions)} parts, a vhost-user back end is given {REGIONS_MOST} at "
                "most; give the guest memory in fewer parts"
            )
        c.tell(Request.SET_FEATURES, U64.pack(features | (self.features & FEATURE_PROTOCOL)))
        if ProtocolFeature.STATUS in self.protocol:
            c.tell(Request.SET_STATUS, U64.pack(STATUS_FEATURES_OK))
            if c.ask_number(Request.GET_STATUS) & STATUS_FEATURES_OK != STATUS_FEATURES_OK:
                raise c.wrong("refuses the features that it offered")
        self.working = True
        c.tell(Request.SET_MEM_TABLE, pack_memory(regions), [region.fd for region in regions])
        for vring in vrings:
            self._give(vring)
        self._given, self._in_use = {vring.number for vring in vrings}, set()
        self.use(in_use)
        if ProtocolFeature.STATUS in self.protocol:
            c.tell(Request.SET_STATUS, U64.pack(STATUS_DRIVER_OK))

    def use(self, count: int) -> None:
        """Has the peer work on those of the queues that it was given whose numbers are below `count`, and no other."""
        wanted = {number for number in self._given if number < count}
        for number in sorted(wanted ^ self._in_use):
            if self.features & FEATURE_PROTOCOL:
                self.connection.tell(Request.SET_VRING_ENABLE, VRING_STATE.pack(number, number in wanted))
        self._in_use = wanted

    def _give(self, v: Vring) -> None:
        c = self.connection
        c.tell(Request.SET_VRING_NUM, VRING_STATE.pack(v.number, v.size))
        c.tell(Request.SET_VRING_BASE, VRING_STATE.pack(v.number, 0))
        addresses = VRING_ADDRESSES.pack(v.number, 0, v.descriptors_hva, v.used_hva, v.available_hva, 0)
        c.tell(Request.SET_VRING_ADDR, addresses)
        c.tell(Request.SET_VRING_CALL, U64.pack(v.number), [v.call_fd])
        c.tell(Request.SET_VRING_ERR, U64.pack(v.number), [self._error_fd])
        c.tell(Request.SET_VRING_KICK, U64.pack(v.number), [v.kick_fd])

    # ---- it ends ----

    def stop(self, vrings: tuple[Vring, ...]) -> None:
        """Takes the queues back: the peer gives back what it has and touches guest memory no more."""
        c = self.connection
        self.use(0)
        for vring in vrings:
            answer = c.ask(Request.GET_VRING_BASE, VRING_STATE.pack(vring.number, 0), VRING_STATE.size)
            index, base = VRING_STATE.unpack(answer.payload)
            if index != vring.number or base >= 1 << 16:
                raise c.wrong(f"gave queue {index} back at {base} when asked for queue {vring.number}")
        if ProtocolFeature.STATUS in self.protocol:
            c.tell(Request.SET_STATUS, U64.pack(0))
        elif ProtocolFeature.RESET_DEVICE in self.protocol:
            c.tell(Request.RESET_DEVICE)
        self.working = False

    # ---- the peer speaks ----

    @property
    def sources(self) -> list[int]:
        """Descriptors that can be read when there is something for `listen`."""
        channels = [self.connection.socket] + ([self.back_channel] if self.back_channel else [])
        return [*(channel.fileno() for channel in channels), self._error_fd]

    def listen(self, ready: set[int]) -> None:
        """Takes what came by those of the `sources` that are `ready`.  Raises PeerError."""
        if self._error_fd in ready:
            raise PeerError(
                f"{self._what}: its back end says that a queue is in error: the driver broke a rule, or it failed "
                "itself; see what it says"
            )
        if self.connection.socket.fileno() in ready:
            self.connection.expect_nothing()
        if self.back_channel and self.back_channel.fileno() in ready:
            self.hear()

    def hear(self) -> None:
        """Takes and answers a message of the back channel.  Raises PeerError if this session has no such."""
        assert self.back_channel
        try:
            ended = not self.back_channel.recv(1, socket.MSG_PEEK)
        except OSError as error:  # it did not read our last answer
            raise self.connection.closed(f" for its own requests ({error.strerror})") from error
        if ended:
            raise self.connection.closed("")
        message = receive(self.connection, self.back_channel, self._reply_s, "a request of its own")
        close_all(message.fds)
        known = message.request == BackendRequest.CONFIG_CHANGE and ProtocolFeature.CONFIG in self.protocol
        if not known or message.payload or message.fds:
            raise self.connection.wrong(f"sent its request {message.request}, which was not agreed upon")
        self.config_changed = True
        if self.connection.acknowledged and message.flags & NEED_REPLY:
            self._answer(message)

    def _answer(self, message: Message) -> None:
        assert self.back_channel
        try:
            self.back_channel.sendall(HEADER.pack(message.request, VERSION | REPLY, U64.size) + U64.pack(0))
        except TimeoutError as error:
            raise self.connection.gone("does not read the answers to its own requests") from error
        except OSError as error:
            raise self.connection.closed(f" for its own requests ({error.strerror})") from error
