"""The back end's side of vhost-user in Python: sessions, requests, memory, queues; pranks, and death at any moment.

Its walk of a ring is the C core's (``pv_queue_*``) over memory that it maps itself, as another process would.  What
its chains mean is left to ``vhost_peer.py`` (disks) and ``net_peer.py``.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from paravirt._native import ffi, lib
from paravirt.vhost_user.messages import (
    CONFIG,
    HEADER,
    MEMORY,
    NEED_REPLY,
    REGION,
    REPLY,
    U64,
    VERSION,
    VRING_ADDRESSES,
    VRING_STATE,
    BackendRequest,
    ProtocolFeature,
    Request,
)

ASKED = (Request.GET_FEATURES, Request.GET_PROTOCOL_FEATURES, Request.GET_QUEUE_NUM, Request.GET_STATUS)
QUEUE_FD_MASK = 0xFF  # number of the queue, in a message with a descriptor

Prank = Callable[[Any, bytes], bytes | None]
"""Takes the peer and a request's payload; what is sent instead of the right answer, or None for nothing."""


def reply(request: int, payload: bytes = b"", *, flags: int = VERSION | REPLY, size: int | None = None) -> bytes:
    """A message as a back end sends it; `size` lies about its length."""
    return HEADER.pack(request, flags, len(payload) if size is None else size) + payload


class Died(Exception):
    """Ends the peer as a crash would."""


class PeerQueue:
    """A queue that the peer was given."""

    def __init__(self) -> None:
        self.size = self.base = 0
        self.addresses: tuple[int, ...] = ()
        self.kick_fd = self.call_fd = self.error_fd = -1
        self.enabled = False
        self.native: Any = None
        self._kept: tuple[Any, ...] = ()

    def begin(self, memory: Any, features: int, gpa: Callable[[int], int]) -> None:
        _, _, descriptors, used, available, _ = self.addresses
        state = ffi.new("struct pv_queue_state *")
        state.size, state.next_avail = self.size, self.base
        state.descriptors_gpa, state.driver_gpa, state.device_gpa = map(gpa, (descriptors, available, used))
        state.next_used = state.signalled = ffi.cast("uint16_t *", lib.pv_memory_at(memory, state.device_gpa, 4))[1]
        queue = ffi.new("struct pv_queue *")
        queue.state, queue.memory, queue.maximum, queue.doorbell_fd = state, memory, self.size, -1
        queue.features = features
        assert lib.pv_queue_enable(queue) == 0
        self.native, self._kept = queue, (state, memory)

    @property
    def works(self) -> bool:
        return self.native is not None and self.enabled

    def pop(self) -> Any:
        """The next chain, or None; then the next kick says that there is one."""
        chain = ffi.new("struct pv_chain *")
        while self.works:
            if lib.pv_queue_pop(self.native, chain) == 1:
                return chain
            if not lib.pv_queue_arm(self.native):
                break
        return None

    def push(self, chain: Any, written_bytes: int) -> None:
        lib.pv_queue_push(self.native, chain.head, written_bytes)

    def tell(self) -> None:
        if self.works and lib.pv_queue_wants_interrupt(self.native):
            os.eventfd_write(self.call_fd, 1)

    def end(self) -> int:
        """The position that it came to."""
        position = int(self.native.state.next_avail) if self.native is not None else 0
        self.native, self.enabled = None, False
        for fd in (self.kick_fd, self.call_fd, self.error_fd):
            if fd >= 0:
                os.close(fd)
        self.kick_fd = self.call_fd = self.error_fd = -1
        return position


class Session(ABC):
    """Listens at `path`, one session after the other, in a thread; a context manager.

    `pranks` answer requests instead of it.
    """

    queue_number = 1
    """What it says when it is asked for that."""

    def __init__(
        self, path: Path, features: int, protocol: ProtocolFeature, pranks: Mapping[Request, Prank] | None = None
    ) -> None:
        self.path, self.features, self.protocol = path, features, protocol
        self.pranks = dict(pranks or {})
        self.heard: list[int] = []
        self.connection: socket.socket | None = None
        self.back_channel: socket.socket | None = None
        self.status = 0
        self.accepted = 0
        self.queues: dict[int, PeerQueue] = {}
        self.lock = threading.RLock()
        self._memory: Any = None
        self._maps: list[tuple[mmap.mmap, Any]] = []
        self._regions: list[tuple[int, int, int]] = []
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ending = False
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._live, name="vhost peer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.die()

    def die(self) -> None:
        """As a crash: whatever it had taken is not given back.  More than once is fine."""
        if self._wake_fd < 0:
            return
        self._ending = True
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join()
        self._listener.close()
        os.close(self._wake_fd)
        self._wake_fd = -1

    # ---- what kinds of peers are ----

    def config(self) -> bytes:
        """The configuration space."""
        return b""

    @abstractmethod
    def serve(self, number: int) -> None:
        """The queue of that number may have something.  With the lock."""

    def watched(self) -> list[int]:
        """Further descriptors that `came` is called for."""
        return []

    def came(self) -> None:  # noqa: B027 - who watches nothing has none
        """One of them can be read.  With the lock."""

    def parting(self) -> None:  # noqa: B027 - most hold nothing
        """A queue is about to be given back: nothing may be held.  With the lock."""

    # ---- sessions ----

    def _live(self) -> None:
        while not self._ending:
            if self._listener.fileno() in select.select([self._listener.fileno(), self._wake_fd], [], [])[0]:
                self.connection, _ = self._listener.accept()
                with suppress(Died, OSError):
                    self._session()
                self._end_session()

    def _session(self) -> None:
        assert self.connection
        while not self._ending:
            kicks = [queue.kick_fd for queue in self.queues.values() if queue.kick_fd >= 0]
            ready = select.select([self.connection.fileno(), self._wake_fd, *kicks, *self.watched()], [], [])[0]
            if self.connection.fileno() in ready:
                self._hear()
            with self.lock:
                for number, queue in self.queues.items():
                    if queue.kick_fd in ready:
                        with suppress(BlockingIOError):
                            os.eventfd_read(queue.kick_fd)
                        self.serve(number)
                if set(self.watched()) & set(ready):
                    self.came()

    def _end_session(self) -> None:
        with self.lock:
            for queue in self.queues.values():
                queue.end()
            self.queues = {}
            for view in self._maps:
                ffi.release(view[1])
                view[0].close()
            self._maps, self._regions = [], []
            for channel in (self.connection, self.back_channel):
                if channel:
                    channel.close()
            self.connection = self.back_channel = None

    def _hear(self) -> None:
        assert self.connection
        head, fds, _, _ = socket.recv_fds(self.connection, HEADER.size, 8)
        if len(head) < HEADER.size:
            raise Died
        number, flags, size = HEADER.unpack(head)
        payload = self.connection.recv(size, socket.MSG_WAITALL) if size else b""
        self.heard.append(number)
        request = Request(number)
        prank = self.pranks.get(request)
        if prank:
            for fd in fds:
                os.close(fd)
            answer = prank(self, payload)
        else:
            with self.lock:
                answer = self._answer(request, payload, fds)
            if answer is None and flags & NEED_REPLY:
                answer = reply(request, U64.pack(0))
        if answer:
            self.connection.sendall(answer)

    # ---- requests ----

    def _answer(self, request: Request, payload: bytes, fds: list[int]) -> bytes | None:
        if request in ASKED:
            numbers = {
                Request.GET_FEATURES: self.features,
                Request.GET_PROTOCOL_FEATURES: int(self.protocol),
                Request.GET_QUEUE_NUM: self.queue_number,
                Request.GET_STATUS: self.status,
            }
            return reply(request, U64.pack(numbers[request]))
        if request == Request.GET_CONFIG:
            return reply(request, payload[: CONFIG.size] + self.config()[: len(payload) - CONFIG.size])
        if request == Request.GET_VRING_BASE:
            (number, _) = VRING_STATE.unpack(payload)
            self.parting()
            return reply(request, VRING_STATE.pack(number, self.queues.pop(number).end()))
        self._set(request, payload, fds)
        return None

    def _set(self, request: Request, payload: bytes, fds: list[int]) -> None:
        if request == Request.SET_MEM_TABLE:
            self._map(payload, fds)
        elif request == Request.SET_BACKEND_REQ_FD:
            self.back_channel = socket.socket(fileno=fds[0])
        elif request == Request.SET_FEATURES:
            self.accepted = U64.unpack(payload)[0]
        elif request == Request.SET_STATUS:
            self.status = U64.unpack(payload)[0]
        elif request in (Request.SET_VRING_KICK, Request.SET_VRING_CALL, Request.SET_VRING_ERR):
            queue = self._queue(U64.unpack(payload)[0] & QUEUE_FD_MASK)
            if request == Request.SET_VRING_CALL:
                queue.call_fd = fds[0]
            elif request == Request.SET_VRING_ERR:
                queue.error_fd = fds[0]
            else:
                queue.kick_fd = fds[0]
                queue.begin(self._memory, self.accepted, self._gpa)
                queue.enabled = not self.protocol  # without the protocol's features nobody says so
        elif request == Request.SET_VRING_ADDR:
            addresses = VRING_ADDRESSES.unpack(payload)
            self._queue(addresses[0]).addresses = addresses
        elif request in (Request.SET_VRING_NUM, Request.SET_VRING_BASE, Request.SET_VRING_ENABLE):
            number, value = VRING_STATE.unpack(payload)
            queue = self._queue(number)
            if request == Request.SET_VRING_NUM:
                queue.size = value
            elif request == Request.SET_VRING_BASE:
                queue.base = value
            else:
                if not value:
                    self.parting()
                queue.enabled = bool(value)

    def _queue(self, number: int) -> PeerQueue:
        return self.queues.setdefault(number, PeerQueue())

    def _map(self, payload: bytes, fds: list[int]) -> None:
        count, _ = MEMORY.unpack_from(payload)
        self._memory = ffi.new("struct pv_memory *")
        assert count == len(fds)
        for number, fd in enumerate(fds):
            gpa, size, hva, offset = REGION.unpack_from(payload, MEMORY.size + REGION.size * number)
            mapped = mmap.mmap(fd, size, offset=offset)
            view = ffi.from_buffer(mapped)
            os.close(fd)
            self._maps.append((mapped, view))
            self._regions.append((gpa, size, hva))
            assert lib.pv_memory_add(self._memory, gpa, size, view) == 0

    def _gpa(self, hva: int) -> int:
        return next(gpa + hva - start for gpa, size, start in self._regions if start <= hva < start + size)

    def change_config(self, flags: int = VERSION, request: int = BackendRequest.CONFIG_CHANGE) -> None:
        assert self.back_channel
        self.back_channel.sendall(reply(request, flags=flags))


def chains(queue: PeerQueue) -> Iterator[Any]:
    """Those that wait."""
    while chain := queue.pop():
        yield chain
