"""A front end's session with a device of ours: what each of its messages does, once it was checked.

Every message is a method of the table below, which returns its answer or None.  How they are taken and answered is
``conversation.py``; those about memory are ``memory_messages.py``'s.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from .._native import ffi, lib
from .connection import name_of
from .errors import Refused
from .memory_messages import MemoryMessages
from .messages import (
    CONFIG,
    CONFIG_BYTES_MOST,
    FEATURE_PROTOCOL,
    HEADER,
    U64,
    VERSION,
    VRING_ADDRESSES,
    VRING_MASK,
    VRING_NO_FD,
    VRING_STATE,
    BackendRequest,
    Message,
    ProtocolFeature,
    Request,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .back_end import BackEnd
    from .served_queue import ServedQueue

P = ProtocolFeature
OFFERED = P.MQ | P.REPLY_ACK | P.INFLIGHT_SHMFD | P.RESET_DEVICE | P.CONFIGURE_MEM_SLOTS | P.STATUS
NEEDS_RESET = int(lib.PV_VIRTIO_STATUS_NEEDS_RESET)


class Session(MemoryMessages):
    """Talks to the front end at the other end of `connection`, for `back_end`.

    `hear` raises PeerGone once it is gone, and PeerError if it breaks the protocol; then there is `close`.
    """

    def __init__(self, back_end: BackEnd, connection: socket.socket) -> None:
        super().__init__(back_end, connection)
        self._back_channel: socket.socket | None = None
        self._status = 0

    def close(self) -> None:
        """The device leaves guest memory alone, which is given back."""
        self._reset()
        for queue in self._queues:
            queue.end()
        self.leave_memory()
        if self._back_channel:
            self._back_channel.close()
        self._connection.close()

    # ---- messages ----

    def act(self, message: Message) -> Message | None:
        """As `Conversation.act`."""
        act = ACTS.get(message.request)
        if act is None:
            raise self.wrong(f"sent {name_of(message.request)}, which is not offered")
        return act(self, message)

    def warn(self, text: str) -> None:
        """As `Conversation.warn`."""
        self._back_end.warn(text)

    def _queue(self, number: int) -> ServedQueue:
        if number >= len(self._queues):
            raise Refused(f"there is no queue {number}, {len(self._queues)} there are")
        return self._queues[number]

    # ---- features and state ----

    def _get_features(self, message: Message) -> Message:
        return Message(message.request, 0, U64.pack(self._back_end.features | FEATURE_PROTOCOL))

    def _set_features(self, message: Message) -> None:
        features = self._number(message)
        if features == self._features:
            return
        if any(queue.running for queue in self._queues):
            raise Refused("other features while queues are in use")
        driver = features & ~FEATURE_PROTOCOL
        if not lib.pv_vhost_back_end_agree(self._back_end.core, driver):
            self._features = None
            unknown = driver & ~self._back_end.features
            raise Refused(
                f"features that are not offered ({unknown:#x})" if unknown else "a driver that is not one of virtio 1"
            )
        self._features = features
        for queue in self._queues:
            queue.enabled |= not features & FEATURE_PROTOCOL  # else it is said of each

    def _get_protocol_features(self, message: Message) -> Message:
        return Message(message.request, 0, U64.pack(int(self._offered())))

    def _offered(self) -> ProtocolFeature:
        """A front end that makes the configuration itself need not know of ours, nor anybody that it changed."""
        config = P.CONFIG if self._back_end.configured else P(0)
        return OFFERED | config | (P.BACKEND_REQ if self._back_end.changes else P(0))

    def _set_protocol_features(self, message: Message) -> None:
        features = self._number(message)
        if unknown := features & ~int(self._offered()):
            raise Refused(f"protocol features that are not offered ({unknown:#x})")
        self._protocol = ProtocolFeature(features)

    def _get_queue_num(self, message: Message) -> Message:
        return Message(message.request, 0, U64.pack(self._back_end.queue_number))

    def _set_owner(self, message: Message) -> None:
        """The session begins, which it did with the connection."""

    def _reset_device(self, message: Message) -> None:
        self._reset()
        for queue in self._queues:
            queue.enabled = False

    def _reset(self) -> None:
        for queue in self._queues:
            queue.stop()
        self._features, self._status = None, 0
        self._back_end.reset()

    def _get_status(self, message: Message) -> Message:
        fault = NEEDS_RESET if self._back_end.native.state.status & NEEDS_RESET else 0
        return Message(message.request, 0, U64.pack(self._status | fault))

    def _set_status(self, message: Message) -> None:
        status = self._number(message)
        if not status:
            self._reset()
        self._status = status & 0xFF

    # ---- configuration ----

    def _config_of(self, message: Message) -> tuple[int, bytes]:
        if len(message.payload) < CONFIG.size:
            raise self.wrong(f"sent {name_of(message.request)} with {len(message.payload)} bytes")
        offset, size, _flags = CONFIG.unpack_from(message.payload)
        data = message.payload[CONFIG.size :]
        if size != len(data) or offset + size > CONFIG_BYTES_MOST:
            raise self.wrong(f"sent {name_of(message.request)} of {size} bytes at {offset} with {len(data)}")
        return offset, data

    def _get_config(self, message: Message) -> Message:
        offset, data = self._config_of(message)
        space = self._back_end.config().ljust(CONFIG_BYTES_MOST, b"\0")
        return Message(message.request, 0, message.payload[: CONFIG.size] + space[offset : offset + len(data)])

    def _set_config(self, message: Message) -> None:
        offset, data = self._config_of(message)
        if lib.pv_device_config_write(self._back_end.native, offset, data, len(data)) != lib.PV_STATUS_OK:
            raise Refused(f"{len(data)} bytes at {offset} of the configuration, which the driver may not write")

    def _set_backend_req_fd(self, message: Message) -> None:
        if P.BACKEND_REQ not in self._protocol:
            raise Refused("to be told by a socket, without the protocol feature BACKEND_REQ")
        fd = os.dup(self._fd_of(message))
        try:
            channel = socket.socket(fileno=fd)
        except OSError as error:
            os.close(fd)
            raise Refused(f"to be told by what is no socket: {error.strerror}") from error
        if (channel.family, channel.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
            channel.close()
            raise Refused("to be told by what is no stream socket of UNIX")
        if self._back_channel:
            self._back_channel.close()
        self._back_channel = channel

    @property
    def can_tell(self) -> bool:
        """Whether the front end hears of another configuration."""
        return self._back_channel is not None and P.CONFIG in self._protocol

    def tell_config(self) -> None:
        """There is another configuration.  Nobody waits for an answer: the front end may wait for one of ours."""
        assert self._back_channel
        data = HEADER.pack(BackendRequest.CONFIG_CHANGE, VERSION, 0)
        try:
            sent = self._back_channel.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            raise self.wrong(f"does not hear that its configuration changed ({error.strerror})") from error
        if sent != len(data):
            raise self.wrong("does not read that its configuration changed")

    # ---- queues ----

    def _vring(self, message: Message) -> tuple[ServedQueue, int]:
        number, value = self._unpack(message, VRING_STATE)
        return self._queue(number), value

    def _still(self, message: Message) -> tuple[ServedQueue, int]:
        queue, value = self._vring(message)
        if queue.running:
            raise Refused(f"{name_of(message.request)} of a queue that is in use")
        return queue, value

    def _set_vring_num(self, message: Message) -> None:
        queue, size = self._still(message)
        queue.size = size

    def _set_vring_base(self, message: Message) -> None:
        queue, base = self._still(message)
        queue.base = base

    def _set_vring_addr(self, message: Message) -> None:
        number, flags, descriptors, used, available, _log = self._unpack(message, VRING_ADDRESSES)
        queue, addresses = self._queue(number), (descriptors, available, used)
        if flags or (queue.running and addresses != queue.addresses):
            raise Refused("to log what it writes" if flags else "other addresses of a queue that is in use")
        queue.addresses = addresses

    def _get_vring_base(self, message: Message) -> Message:
        queue, _ = self._vring(message)
        return Message(message.request, 0, VRING_STATE.pack(queue.number, self._back_end.give_back(queue)))

    def _vring_fd(self, message: Message) -> tuple[ServedQueue, int]:
        number = self._number(message)
        return self._queue(number & VRING_MASK), self._fd_of(message, not number & VRING_NO_FD)

    def _set_vring_kick(self, message: Message) -> None:
        queue, fd = self._vring_fd(message)
        if fd < 0:
            raise Refused("a queue without a kick, which would have to be looked at all the time")
        with (
            self._paused()
        ):  # who sleeps on the one before lets go of it, and none of ours takes from one for two queues
            queue.kick(fd)
        self._run(queue)

    def _set_vring_call(self, message: Message) -> None:
        queue, fd = self._vring_fd(message)
        queue.call(fd)

    def _set_vring_err(self, message: Message) -> None:
        queue, fd = self._vring_fd(message)
        queue.errors(fd)

    def _set_vring_enable(self, message: Message) -> None:
        queue, enabled = self._vring(message)
        queue.enabled = bool(enabled)
        self._run(queue)

    def _run(self, queue: ServedQueue) -> None:
        wanted = queue.kicked and queue.enabled
        if wanted and not queue.running:
            if self._features is None:
                raise Refused(f"queue {queue.number} is kicked before there are features")
            inflight = self._inflight
            if inflight and queue.size > inflight.queue_size:
                raise Refused(f"to keep what a queue of {queue.size} has in a region for {inflight.queue_size}")
            of_queue = self._region_bytes(inflight.queue_size) if inflight else 0
            region = inflight.region(queue.number, of_queue) if inflight else ffi.NULL
            queue.start(self.memory, region, of_queue)
        elif queue.running and not wanted:
            queue.halt()

    _reset_owner = _set_owner  # what it means was never agreed upon


ACTS: dict[int, Callable[[Session, Message], Message | None]] = {
    request: act for request in Request if (act := getattr(Session, f"_{request.name.lower()}", None))
}
"""What each request does: the method of its name."""
