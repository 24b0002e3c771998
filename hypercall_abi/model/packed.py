"""A packed virtqueue as its device sees it: the rules of `virtqueue.py`, and VQ-13.

Places are counted without end: the place in the ring is the rest by its size, and the wrap counter is 1 in
even rounds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..virtqueue import DESC_FLAG, VIRTIO_FEATURE, VIRTQ_EVENT, VIRTQ_PACKED_DESC, VIRTQ_PACKED_EVENT
from .virtqueue import DESC_BYTES, Broken, Buffers, Desc, Virtqueue

AVAIL, USED = DESC_FLAG.PACKED_AVAIL, DESC_FLAG.PACKED_USED
_PACKED = struct.Struct("<QIHH")
WRAP = 1 << 15
"""Of an event's descriptor word."""


@dataclass
class PackedVirtqueue(Virtqueue):
    """A packed queue that is enabled; `next_avail`, `next_used` and `told` are places."""

    held: dict[int, int] = field(default_factory=dict)
    """Places of the chains that the device has, by buffer id."""

    @staticmethod
    def _unpack(data: bytes) -> Desc:
        gpa, size_bytes, name, flags = _PACKED.unpack(data)
        return Desc(gpa, size_bytes, flags, name)

    def _wrap(self, place: int) -> bool:
        return place // self.size % 2 == 0

    def _gpa(self, place: int) -> int:
        return self.areas.descriptors_gpa + place % self.size * DESC_BYTES

    def _available(self, place: int) -> bool:
        flags = self.memory.number(self._gpa(place) + VIRTQ_PACKED_DESC.offset("flags"), 2)
        return flags & (AVAIL | USED) == (AVAIL if self._wrap(place) else USED)

    # ---- taking chains ----

    def _pop(self) -> tuple[int, Buffers, Buffers] | None:
        if not self._available(self.next_avail):
            return None
        last: list[Desc] = []
        readable, writable = self._buffers(self._ring(last))
        name = last[-1].next
        if name >= self.size or name in self.held:  # VQ-13
            raise Broken("VQ-13")
        self.held[name] = len(last)
        self.next_avail += len(last)
        return name, readable, writable

    def _ring(self, seen: list[Desc]) -> Iterator[Desc]:
        """The buffers' descriptors in their order; `seen` gets those of the ring."""
        while True:
            if len(seen) == self.size:
                raise Broken("VQ-2")
            place = self.next_avail + len(seen)
            if not self._available(place) or place - self.next_used >= self.size:
                raise Broken("VQ-13")
            d = self._table(self._gpa(place), 1)[0]
            seen.append(d)
            if d.has(DESC_FLAG.INDIRECT):  # VQ-9: whatever WRITE says
                yield from self._entries(d)
            else:
                yield d
            if not d.has(DESC_FLAG.NEXT):
                return

    def _entries(self, d: Desc) -> Iterator[Desc]:
        for entry in self._indirect_table(d):
            if entry.has(DESC_FLAG.INDIRECT):
                raise Broken("VQ-5")
            yield entry

    # ---- giving them back ----

    def push(self, head: int, written_bytes: int) -> None:
        """Makes a chain's place used; `head` is its buffer id."""
        if self.fault:
            return
        at = self._gpa(self.next_used)
        flags = (AVAIL | USED if self._wrap(self.next_used) else 0) | (DESC_FLAG.WRITE if written_bytes else 0)
        self.memory.write(at + VIRTQ_PACKED_DESC.offset("id"), struct.pack("<HH", head, flags))
        if written_bytes:
            self.memory.put(at + VIRTQ_PACKED_DESC.offset("size_bytes"), 4, written_bytes)
        else:
            self.memory.undefine(at + VIRTQ_PACKED_DESC.offset("size_bytes"), 4)
        self.next_used += self.held.pop(head)

    def wants_interrupt(self) -> bool:
        """Whether the driver wants to be told of what was pushed since it was last asked."""
        before, self.told = self.told, self.told if self.fault else self.next_used
        if self.fault or before == self.next_used:
            return False
        descriptor, flags = struct.unpack("<HH", self.memory.read(self.areas.driver_gpa, VIRTQ_PACKED_EVENT.size))
        if flags & 3 != VIRTQ_EVENT.DESC or not self.features & VIRTIO_FEATURE.EVENT_IDX:
            return bool(flags & 3 != VIRTQ_EVENT.DISABLE)
        place, wrap = descriptor % WRAP % self.size, bool(descriptor & WRAP)
        return any(n % self.size == place and self._wrap(n) == wrap for n in range(before, self.next_used))

    def arm(self) -> bool:
        """Asks for a doorbell; true if buffers came meanwhile."""
        if self.fault:
            return False
        if self.features & VIRTIO_FEATURE.EVENT_IDX:
            place = self.next_avail % self.size | (WRAP if self._wrap(self.next_avail) else 0)
            self.memory.write(self.areas.device_gpa, struct.pack("<HH", place, VIRTQ_EVENT.DESC))
        else:
            self.memory.put(self.areas.device_gpa + VIRTQ_PACKED_EVENT.offset("flags"), 2, VIRTQ_EVENT.ENABLE)
            self.memory.undefine(self.areas.device_gpa, 2)
        return self._available(self.next_avail)

    def disarm(self) -> None:
        """Would rather have none: a hint, which a device gives as it likes."""
        if not self.fault:
            self.memory.undefine(self.areas.device_gpa, VIRTQ_PACKED_EVENT.size)
