"""What a front end says about memory: the guest's, and the region for requests in flight.

How files are mapped, and what they are not believed, is ``memory_table.py`` and ``inflight.py``.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from .._native import ffi, lib
from .connection import name_of
from .conversation import Conversation
from .errors import Refused
from .inflight import Inflight, make_region
from .memory_table import MemoryTable
from .messages import (
    INFLIGHT,
    INFLIGHT_PADDED_BYTES,
    MEMORY,
    MEMORY_REGION,
    REGION,
    U64,
    Message,
    Region,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .back_end import BackEnd

RING_PACKED = int(lib.PV_VIRTIO_F_RING_PACKED)


class MemoryMessages(Conversation):
    """The part of a session that has its memory."""

    def __init__(self, back_end: BackEnd, connection: socket.socket) -> None:
        super().__init__(back_end.title, connection)
        self._back_end = back_end
        self._queues = back_end.queues
        self.memory = MemoryTable(ffi.addressof(back_end.machine, "memory"), back_end.lost_fd)
        self._inflight: Inflight | None = None
        self._features: int | None = None

    def leave_memory(self) -> None:
        """Gives all of it back.  No queue runs."""
        if self._inflight:
            self._inflight.close()
            self._inflight = None
        self.memory.clear()

    # ---- the guest's ----

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Nobody works on guest memory."""
        core = self._back_end.core
        lib.pv_vhost_back_end_pause(core)
        try:
            yield
        finally:
            all_run = lib.pv_vhost_back_end_resume(core)
            for queue in self._queues:
                if not all_run:
                    queue.look()
                queue.tell()

    def _set_mem_table(self, message: Message) -> None:
        if len(message.payload) < MEMORY.size:
            raise self.wrong(f"sent SET_MEM_TABLE with {len(message.payload)} bytes")
        count, _ = MEMORY.unpack_from(message.payload)
        if count != len(message.fds) or len(message.payload) < MEMORY.size + count * REGION.size:
            raise self.wrong(f"sent SET_MEM_TABLE of {count} regions with {len(message.fds)} descriptors")
        parts = [REGION.unpack_from(message.payload, MEMORY.size + n * REGION.size) for n in range(count)]
        with self._paused():
            self.memory.clear()
            for (gpa, size, hva, offset), fd in zip(parts, message.fds, strict=True):
                self.memory.add(Region(gpa, size, hva, fd, offset))

    def _get_max_mem_slots(self, message: Message) -> Message:
        return Message(message.request, 0, U64.pack(int(lib.PV_MAX_REGIONS)))

    def _region_of(self, message: Message, fd: int) -> Region:
        if len(message.payload) != MEMORY_REGION.size + REGION.size:
            raise self.wrong(f"sent {name_of(message.request)} with {len(message.payload)} bytes")
        gpa, size, hva, offset = REGION.unpack_from(message.payload, MEMORY_REGION.size)
        return Region(gpa, size, hva, fd, offset)

    def _add_mem_reg(self, message: Message) -> None:
        self.memory.add(self._region_of(message, self._fd_of(message)))  # others stay where they are

    def _rem_mem_reg(self, message: Message) -> None:
        with self._paused():  # a descriptor that comes with it is allowed, and of no use
            self.memory.remove(self._region_of(message, -1))

    # ---- requests in flight ----

    def _inflight_of(self, message: Message) -> tuple[int, int, int, int]:
        if len(message.payload) not in (INFLIGHT.size, INFLIGHT_PADDED_BYTES):
            raise self.wrong(f"sent {name_of(message.request)} with {len(message.payload)} bytes")
        return cast("tuple[int, int, int, int]", INFLIGHT.unpack_from(message.payload))

    def _get_inflight_fd(self, message: Message) -> Message:
        _, _, queues, size = self._inflight_of(message)
        self._check_inflight(queues, size)
        region_bytes = queues * self._region_bytes(size)
        payload = INFLIGHT.pack(region_bytes, 0, queues, size).ljust(len(message.payload), b"\0")
        return Message(message.request, 0, payload, (make_region(region_bytes),))

    def _check_inflight(self, queues: int, size: int) -> None:
        most = int(lib.PV_MAX_QUEUE_SIZE)
        if not 0 < queues <= len(self._queues) or not 0 < size <= most or size & (size - 1):
            raise Refused(f"to keep what {queues} queues of {size} have; there are {len(self._queues)} of {most}")

    def _region_bytes(self, size: int) -> int:
        return int(lib.pv_vhost_back_end_inflight_bytes(bool((self._features or 0) & RING_PACKED), size))

    def _set_inflight_fd(self, message: Message) -> None:
        size_bytes, offset, queues, size = self._inflight_of(message)
        fd = self._fd_of(message)
        self._check_inflight(queues, size)
        if offset % 8:
            raise Refused(f"requests in flight at offset {offset}, which is not a multiple of 8")
        if size_bytes < queues * self._region_bytes(size):
            raise Refused(f"a region of {size_bytes} bytes for requests in flight, {queues} queues need more")
        if any(queue.running for queue in self._queues):
            raise Refused("another region for requests in flight while there may be some")
        fresh = Inflight(fd, offset, size_bytes, queues, size, self._back_end.lost_fd)
        if self._inflight:
            self._inflight.close()
        self._inflight = fresh
