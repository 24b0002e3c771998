"""A driver of packed virtqueues (virtio 2.8) in plain Python, in place of the split one of `fake_guest.py`.

Positions are counted without end: the place in the ring is the rest by its size, the wrap counter is 1 in
even rounds.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Sequence

from hypercall_abi.virtqueue import DESC_FLAG, VIRTQ_EVENT

from .fake_guest import PATIENCE_S, Driver, PluggedDevice, Segment

DESC = struct.Struct("<QIHH")
EVENT = struct.Struct("<HH")
WRAP = 1 << 15


class PackedDriver(Driver):
    """The driver's side of a packed virtqueue; a chain's head is its buffer id."""

    def __init__(self, device: PluggedDevice, index: int, size: int, features: int) -> None:
        super().__init__(device, index, size, features)
        self.available = self.guest.place(bytes(EVENT.size))
        self.used = self.guest.place(bytes(EVENT.size))
        self._shown = 0
        self._held: list[tuple[int, int]] = []

    def wrap(self, position: int) -> bool:
        return position // self.size % 2 == 0

    def place(self, position: int) -> int:
        """GPA of the descriptor there."""
        return self.descriptors + 16 * (position % self.size)

    def put(self, position: int, segment: Segment, name: int, flags: int) -> None:
        """Writes a descriptor; those of the first one to be published wait for it."""
        mine = DESC_FLAG.PACKED_AVAIL if self.wrap(position) else DESC_FLAG.PACKED_USED
        whole = DESC.pack(segment.gpa, segment.size_bytes, name, flags | mine)
        gpa, kept = self.place(position), 14 if position == self._shown else 16
        self.guest.write(gpa, whole[:kept])
        if kept < 16:
            self._held.append((gpa + 14, flags | mine))

    def add(self, segments: Sequence[Segment], *, indirect: bool = False) -> int:
        """Puts a chain into the ring, not published yet; its buffer id."""
        name = self._free[0]
        rooms = sum(s.size_bytes for s in segments if s.write)
        if indirect:
            table = b"".join(
                DESC.pack(s.gpa, s.size_bytes, 0xABCD, DESC_FLAG.WRITE if s.write else 0) for s in segments
            )
            parts = [(Segment(self.guest.place(table), len(table)), DESC_FLAG.INDIRECT)]
        else:
            parts = [(s, DESC_FLAG.WRITE if s.write else 0) for s in segments]
        for number, (segment, flags) in enumerate(parts):
            last = number == len(parts) - 1
            self.put(self._added + number, segment, name if last else 0xFFFF, flags | (0 if last else DESC_FLAG.NEXT))
        self._chains[name] = [self._free.pop(0) for _ in parts]
        self._rooms[name] = rooms
        self._added += len(parts)
        return name

    def show(self) -> None:
        """Makes what was added available, and does not ring."""
        self._shown = self._added
        for gpa, flags in self._held:
            self._put16(gpa, flags)
        self._held.clear()

    def publish(self) -> None:
        """Makes what was added available and rings if the device asked for it."""
        before = self._shown
        self.show()
        with self._fence:  # a full barrier: the flags are written before the wish is read
            pass
        if before != self._added and self._wants_doorbell(before):
            self.doorbells += 1
            os.eventfd_write(int(self.device.native.queues[self.index].doorbell_fd), 1)

    def _wants_doorbell(self, before: int) -> bool:
        at, flags = EVENT.unpack(self.guest.read(self.used, EVENT.size))
        if flags != VIRTQ_EVENT.DESC:
            return bool(flags == VIRTQ_EVENT.ENABLE)
        passed = ((n % self.size, self.wrap(n)) for n in range(before, self._added))
        return (at & ~WRAP, bool(at & WRAP)) in passed

    def _waiting(self) -> bool:
        flags = self._get16(self.place(self._seen) + 14)
        both = DESC_FLAG.PACKED_AVAIL | DESC_FLAG.PACKED_USED
        return flags & both == (both if self.wrap(self._seen) else 0)

    def collect(self) -> dict[int, int]:
        """Chains used since the last look: buffer id → bytes written."""
        found: dict[int, int] = {}
        while self._waiting():
            _, length, name, flags = DESC.unpack(self.guest.read(self.place(self._seen), 16))
            for one, written in self.returned(name, length if flags & DESC_FLAG.WRITE else 0):
                assert one not in found
                self._seen += len(self._chains[one])
                self._free += self._chains.pop(one)
                found[one] = written
        return found

    def _sleep(self) -> None:
        at = self._seen % self.size | (WRAP if self.wrap(self._seen) else 0)
        flags = VIRTQ_EVENT.DESC if self.event_index else VIRTQ_EVENT.ENABLE
        self.guest.write(self.available, EVENT.pack(at, flags))
        with self._fence:  # the wish is written before the flags are read
            pass
        if not self._waiting():
            ready = select.select([self.device.interrupt_fd], [], [], PATIENCE_S / 2)[0]
            assert ready, "no interrupt came"
            os.eventfd_read(self.device.interrupt_fd)

    def mute(self) -> None:
        """Asks for no interrupts."""
        self.guest.write(self.available, EVENT.pack(0, VIRTQ_EVENT.DISABLE))
