"""A split virtqueue as its device sees it: the rules VQ-1 to VQ-10 over guest memory.  `packed.py` has the other.

The chain is first listed, then judged.  Whose queue it is, and what a fault leads to, is said in
`virtio_device.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..conventions import STATUS
from ..virtqueue import (
    DESC_FLAG,
    RING_FLAG,
    VIRTIO_FEATURE,
    VIRTQ_AVAIL,
    VIRTQ_DESC,
    VIRTQ_PACKED_EVENT,
    VIRTQ_USED,
    VIRTQ_USED_ELEM,
)
from .guest_memory import GuestMemory

DESC_BYTES = VIRTQ_DESC.size
HEAD_BYTES = 2  # an entry of the available ring, and each of the two event words
_DESC = struct.Struct("<QIHH")
Buffers = list[tuple[int, int]]


@dataclass(frozen=True)
class Desc:
    """A descriptor as it lies in memory."""

    gpa: int
    size_bytes: int
    flags: int
    next: int

    def pack(self) -> bytes:
        """Its bytes."""
        return _DESC.pack(self.gpa, self.size_bytes, self.flags, self.next)

    @classmethod
    def unpack(cls, data: bytes) -> Desc:
        """From its bytes."""
        return cls(*_DESC.unpack(data))

    def has(self, flag: int) -> bool:
        """Whether `flag` is set."""
        return bool(self.flags & flag)


class Broken(Exception):
    """A driver broke `rule`."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


@dataclass(frozen=True)
class Areas:
    """Where a queue lies."""

    descriptors_gpa: int
    driver_gpa: int
    device_gpa: int

    def status(self, memory: GuestMemory, size: int, maximum: int, *, packed: bool = False) -> int:
        """What setting up a queue of `size` descriptors here answers: DEV-10, VQ-8."""
        if not 0 < size <= maximum or size & (size - 1):
            return STATUS.INVALID
        if self.descriptors_gpa % 16 or self.driver_gpa % (4 if packed else 2) or self.device_gpa % 4:
            return STATUS.UNALIGNED
        # used_event and avail_event have their place whether or not EVENT_IDX was agreed (virtio 2.7)
        sizes = (
            size * DESC_BYTES,
            VIRTQ_AVAIL.size + size * HEAD_BYTES + HEAD_BYTES,
            VIRTQ_USED.size + size * VIRTQ_USED_ELEM.size + HEAD_BYTES,
        )
        if packed:
            sizes = (size * DESC_BYTES, VIRTQ_PACKED_EVENT.size, VIRTQ_PACKED_EVENT.size)
        areas = zip((self.descriptors_gpa, self.driver_gpa, self.device_gpa), sizes, strict=True)
        return STATUS.OK if all(memory.contains(*area) for area in areas) else STATUS.BAD_ADDRESS


@dataclass
class Virtqueue:
    """A queue of `size` descriptors that is enabled; `features` are those agreed."""

    memory: GuestMemory
    areas: Areas
    size: int
    features: int
    next_avail: int = 0
    next_used: int = 0
    told: int = field(default=0)
    """next_used when the driver was last asked whether it wants to be told."""
    fault: str | None = None
    """Id of the rule that the driver broke: the queue is silent (VQ-10)."""

    # ---- taking chains ----

    def pop(self) -> tuple[int, Buffers, Buffers] | None:
        """Head, readable and writable buffers of the next chain, None if none waits; raises `Broken`."""
        if self.fault:
            return None
        try:
            return self._pop()
        except Broken as broken:
            self.fault = broken.rule
            raise

    def _pop(self) -> tuple[int, Buffers, Buffers] | None:
        waiting = self._avail_index() - self.next_avail & 0xFFFF
        if not waiting:
            return None
        if waiting > self.size:
            raise Broken("VQ-7")
        head = self.memory.number(self._avail_entry(self.next_avail % self.size), HEAD_BYTES)
        readable, writable = self.chain(head)
        self.next_avail = self.next_avail + 1 & 0xFFFF
        return head, readable, writable

    @staticmethod
    def _unpack(data: bytes) -> Desc:
        return Desc.unpack(data)

    def _table(self, gpa: int, count: int) -> list[Desc]:
        data = self.memory.read(gpa, count * DESC_BYTES)
        return [self._unpack(data[i : i + DESC_BYTES]) for i in range(0, len(data), DESC_BYTES)]

    def _indirect_table(self, d: Desc) -> list[Desc]:
        if not self.features & VIRTIO_FEATURE.INDIRECT_DESC or d.has(DESC_FLAG.NEXT):
            raise Broken("VQ-6")
        count, rest = divmod(d.size_bytes, DESC_BYTES)
        if rest or not 1 <= count <= self.size:
            raise Broken("VQ-5")
        if not self.memory.contains(d.gpa, d.size_bytes):
            raise Broken("VQ-3")
        return self._table(d.gpa, count)

    def _descriptors(self, head: int) -> Iterator[Desc]:
        """The buffers' descriptors in their order, without end if they loop."""
        table, index, indirect = self._table(self.areas.descriptors_gpa, self.size), head, False
        while True:
            if index >= len(table):
                raise Broken("VQ-1")
            d = table[index]
            if d.has(DESC_FLAG.INDIRECT):  # VQ-9: whatever WRITE says
                if indirect:
                    raise Broken("VQ-5")
                table, index, indirect = self._indirect_table(d), 0, True
                continue
            yield d
            if not d.has(DESC_FLAG.NEXT):
                return
            index = d.next

    def chain(self, head: int) -> tuple[Buffers, Buffers]:
        """Readable and writable buffers, each (GPA, bytes); raises `Broken`."""
        return self._buffers(self._descriptors(head))

    def _buffers(self, descriptors: Iterator[Desc]) -> tuple[Buffers, Buffers]:
        readable: Buffers = []
        writable: Buffers = []
        for d in descriptors:
            if len(readable) + len(writable) == self.size:
                raise Broken("VQ-2")
            if not d.size_bytes or not self.memory.contains(d.gpa, d.size_bytes):
                raise Broken("VQ-3")
            if d.has(DESC_FLAG.WRITE):
                writable.append((d.gpa, d.size_bytes))
            elif writable:
                raise Broken("VQ-4")
            else:
                readable.append((d.gpa, d.size_bytes))
        return readable, writable

    # ---- giving them back ----

    def push(self, head: int, written_bytes: int) -> None:
        """Puts a chain into the used ring."""
        if self.fault:
            return
        at = self.areas.device_gpa + VIRTQ_USED.size + self.next_used % self.size * VIRTQ_USED_ELEM.size
        self.memory.write(at, VIRTQ_USED_ELEM.build({"id": head, "written_bytes": written_bytes}))
        self.next_used = self.next_used + 1 & 0xFFFF
        self.memory.put(self.areas.device_gpa + VIRTQ_USED.offset("index"), 2, self.next_used)

    def wants_interrupt(self) -> bool:
        """Whether the driver wants to be told of what was pushed since it was last asked."""
        pushed = self.next_used - self.told & 0xFFFF
        if self.fault or not pushed:
            return False
        self.told = self.next_used
        if not self.features & VIRTIO_FEATURE.EVENT_IDX:
            flags = self.memory.number(self.areas.driver_gpa + VIRTQ_AVAIL.offset("flags"), 2)
            return not flags & RING_FLAG.AVAIL_NO_INTERRUPT
        event = self.memory.number(self._avail_entry(self.size), HEAD_BYTES)
        return (self.next_used - event - 1 & 0xFFFF) < pushed

    def arm(self) -> bool:
        """Asks for a doorbell; true if buffers came meanwhile."""
        if self.fault:
            return False
        if self.features & VIRTIO_FEATURE.EVENT_IDX:
            self.memory.put(self._avail_event(), HEAD_BYTES, self.next_avail)
        else:
            self.memory.put(self.areas.device_gpa + VIRTQ_USED.offset("flags"), 2, 0)
        return self._avail_index() != self.next_avail

    def disarm(self) -> None:
        """Would rather have none: how a device says so with EVENT_IDX is its own affair."""
        if not self.fault:
            event = self.features & VIRTIO_FEATURE.EVENT_IDX
            self.memory.undefine(self._avail_event() if event else self.areas.device_gpa, HEAD_BYTES)

    def _avail_index(self) -> int:
        return self.memory.number(self.areas.driver_gpa + VIRTQ_AVAIL.offset("index"), 2)

    def _avail_entry(self, position: int) -> int:
        return self.areas.driver_gpa + VIRTQ_AVAIL.size + position * HEAD_BYTES

    def _avail_event(self) -> int:
        return self.areas.device_gpa + VIRTQ_USED.size + self.size * VIRTQ_USED_ELEM.size
