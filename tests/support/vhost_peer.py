"""A vhost-user back end in Python: serves bytes as a disk, misbehaves as it is told, and dies at any moment.

Its walk of the ring is the C core's (``pv_queue_*``) over memory that it maps itself, as another process would.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hypercall_abi.devices.virtio_block import BLOCK_FEATURE, BLOCK_HEADER, BLOCK_REQUEST, BLOCK_STATUS
from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt._native import ffi, lib
from paravirt.abi import build
from paravirt.vhost_user.messages import (
    CONFIG,
    FEATURE_PROTOCOL,
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

SECTOR = 512
FEATURES = (
    VIRTIO_FEATURE.VERSION_1
    | VIRTIO_FEATURE.INDIRECT_DESC
    | VIRTIO_FEATURE.EVENT_IDX
    | BLOCK_FEATURE.FLUSH
    | FEATURE_PROTOCOL
)
PROTOCOL = ProtocolFeature.MQ | ProtocolFeature.CONFIG | ProtocolFeature.REPLY_ACK | ProtocolFeature.BACKEND_REQ
ASKED = (Request.GET_FEATURES, Request.GET_PROTOCOL_FEATURES, Request.GET_QUEUE_NUM, Request.GET_STATUS)

Prank = Callable[["VhostPeer", bytes], bytes | None]
"""Takes a request's payload; what is sent instead of the right answer, or None for nothing."""


def reply(request: int, payload: bytes = b"", *, flags: int = VERSION | REPLY, size: int | None = None) -> bytes:
    """A message as a back end sends it; `size` lies about its length."""
    return HEADER.pack(request, flags, len(payload) if size is None else size) + payload


class Died(Exception):
    """Ends the peer as a crash would."""


class VhostPeer:
    """Listens at `path` and serves `disk`, one session after the other, in a thread; a context manager.

    `pranks` answer requests instead of it.  While `holding` it takes chains and gives none back.
    """

    def __init__(
        self,
        path: Path,
        disk: bytearray,
        *,
        features: int = FEATURES,
        protocol: ProtocolFeature = PROTOCOL,
        pranks: Mapping[Request, Prank] | None = None,
        holding: bool = False,
    ) -> None:
        self.path, self.disk, self.features, self.protocol = path, disk, features, protocol
        self.pranks = dict(pranks or {})
        self.holding = holding
        self.serial = b"disk"
        self.taken: list[Any] = []  # chains, in the order in which they came
        self.heads: list[int] = []  # of all chains that came, ever
        self.heard: list[int] = []
        self.connection: socket.socket | None = None
        self.back_channel: socket.socket | None = None
        self.status = 0
        self.accepted = 0
        self._memory: Any = None
        self._maps: list[tuple[mmap.mmap, Any]] = []
        self._regions: list[tuple[int, int, int]] = []
        self._queue: Any = None
        self._state: Any = None
        self._fds: dict[Request, int] = {}
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.RLock()
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
            kick = self._fds.get(Request.SET_VRING_KICK, self._wake_fd)
            ready = select.select([self.connection.fileno(), self._wake_fd, kick], [], [])[0]
            if self.connection.fileno() in ready:
                self._hear()
            if kick in ready and kick == self._fds.get(Request.SET_VRING_KICK):  # not given back just now
                with suppress(BlockingIOError):
                    os.eventfd_read(kick)
                self._serve()

    def _end_session(self) -> None:
        with self._lock:
            if self._queue is not None:
                self._queue = None
            for view in self._maps:
                ffi.release(view[1])
                view[0].close()
            self._maps, self._regions = [], []
            for fd in self._fds.values():
                os.close(fd)
            self._fds = {}
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
                Request.GET_QUEUE_NUM: 1,
                Request.GET_STATUS: self.status,
            }
            return reply(request, U64.pack(numbers[request]))
        if request == Request.GET_CONFIG:
            return reply(request, payload[: CONFIG.size] + self.config()[: len(payload) - CONFIG.size])
        if request == Request.GET_VRING_BASE:
            return self._give_back()
        self._set(request, payload, fds)
        return None

    def config(self) -> bytes:
        return build("block_config", capacity_sectors=len(self.disk) // SECTOR)

    def _set(self, request: Request, payload: bytes, fds: list[int]) -> None:
        if request == Request.SET_MEM_TABLE:
            self._map(payload, fds)
        elif request == Request.SET_BACKEND_REQ_FD:
            self.back_channel = socket.socket(fileno=fds[0])
        elif request in (Request.SET_VRING_KICK, Request.SET_VRING_CALL):
            self._fds[request] = fds[0]
            if request == Request.SET_VRING_KICK:
                self._enable()
        elif request == Request.SET_FEATURES:
            self.accepted = U64.unpack(payload)[0]
        elif request == Request.SET_STATUS:
            self.status = U64.unpack(payload)[0]
        elif request == Request.SET_VRING_NUM:
            self._size = VRING_STATE.unpack(payload)[1]
        elif request == Request.SET_VRING_BASE:
            self._base = VRING_STATE.unpack(payload)[1]
        elif request == Request.SET_VRING_ADDR:
            self._addresses = VRING_ADDRESSES.unpack(payload)

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

    def _enable(self) -> None:
        _, _, descriptors, used, available, _ = self._addresses
        state = ffi.new("struct pv_queue_state *")
        state.size, state.next_avail = self._size, self._base
        state.descriptors_gpa, state.driver_gpa, state.device_gpa = map(self._gpa, (descriptors, available, used))
        at = ffi.cast("uint16_t *", lib.pv_memory_at(self._memory, state.device_gpa, 4))
        state.next_used = state.signalled = at[1]
        queue = ffi.new("struct pv_queue *")
        queue.state, queue.memory, queue.maximum, queue.doorbell_fd = state, self._memory, 256, -1
        queue.features = self.accepted
        assert lib.pv_queue_enable(queue) == 0
        self._state, self._queue = state, queue

    def _give_back(self) -> bytes:
        self.holding = False
        self._serve()
        position = self._state.next_avail
        self._queue = None
        os.close(self._fds.pop(Request.SET_VRING_KICK))
        os.close(self._fds.pop(Request.SET_VRING_CALL))
        return reply(Request.GET_VRING_BASE, VRING_STATE.pack(0, position))

    def change_config(self, flags: int = VERSION, request: int = BackendRequest.CONFIG_CHANGE) -> None:
        assert self.back_channel
        self.back_channel.sendall(reply(request, flags=flags))

    # ---- the queue ----

    def _serve(self) -> None:
        with self._lock:
            more = True
            while more and self._queue is not None:
                chain = ffi.new("struct pv_chain *")
                if lib.pv_queue_pop(self._queue, chain) == 1:
                    self.taken.append(chain)
                    self.heads.append(chain.head)
                else:
                    more = lib.pv_queue_arm(self._queue)
            if not self.holding:
                self.complete(*range(len(self.taken)))

    def complete(self, *which: int) -> None:
        """Does those of the chains that were taken, and gives them back in this order."""
        with self._lock:
            chains = [self.taken[n] for n in which]
            self.taken = [chain for n, chain in enumerate(self.taken) if n not in which]
            for chain in chains:
                lib.pv_queue_push(self._queue, chain.head, self._do(chain))
            if chains and lib.pv_queue_wants_interrupt(self._queue):
                os.eventfd_write(self._fds[Request.SET_VRING_CALL], 1)

    def used_again(self, head: int) -> None:
        """A lie: gives back a chain that nobody gave it."""
        with self._lock:
            self._queue.taken[head].places = 1
            lib.pv_queue_push(self._queue, head, 0)
            os.eventfd_write(self._fds[Request.SET_VRING_CALL], 1)

    def _do(self, chain: Any) -> int:
        head = ffi.new("uint8_t[]", BLOCK_HEADER.size)
        lib.pv_chain_read(chain, 0, head, BLOCK_HEADER.size)
        header = BLOCK_HEADER.parse(bytes(ffi.buffer(head)))
        at, written = header.sector * SECTOR, chain.writable_bytes
        if header.type == BLOCK_REQUEST.READ:
            lib.pv_chain_write(chain, 0, bytes(self.disk[at : at + written - 1]), written - 1)
        elif header.type == BLOCK_REQUEST.GET_ID:
            lib.pv_chain_write(chain, 0, self.serial.ljust(20, b"\0"), 20)
        elif header.type == BLOCK_REQUEST.WRITE:
            data = ffi.new("uint8_t[]", chain.readable_bytes - BLOCK_HEADER.size)
            lib.pv_chain_read(chain, BLOCK_HEADER.size, data, len(data))
            self.disk[at : at + len(data)] = bytes(ffi.buffer(data))
        lib.pv_chain_write(chain, written - 1, bytes([BLOCK_STATUS.OK]), 1)
        return int(written)
