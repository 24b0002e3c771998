"""A queue of the C core in memory of its own, driven by hand; memory is two ranges side by side."""

from __future__ import annotations

import struct
from typing import Any

from hypercall_abi import STATUS
from hypercall_abi.model import GuestMemory
from hypercall_abi.model.virtqueue import Areas, Desc, Virtqueue
from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt._native import ffi, lib

LOW, HIGH = 0x1_0000, 0x1_4000  # two ranges side by side: nothing may lie across
RANGES = {LOW: HIGH - LOW, HIGH: 0x1000}
END = HIGH + RANGES[HIGH]
TABLE, AVAIL, USED, DATA = LOW, LOW + 0x1000, LOW + 0x2000, LOW + 0x3000
ALL = VIRTIO_FEATURE.VERSION_1 | VIRTIO_FEATURE.INDIRECT_DESC | VIRTIO_FEATURE.EVENT_IDX


class Ring:
    """A queue of the C core in memory of its own; the model reads the same memory."""

    def __init__(self, size: int = 8, features: int = ALL, next_avail: int = 0) -> None:
        self.size = size
        self._buffers = {gpa: ffi.new("uint8_t[]", length) for gpa, length in RANGES.items()}
        self.native_memory = ffi.new("struct pv_memory *")
        for gpa, buffer in self._buffers.items():
            assert lib.pv_memory_add(self.native_memory, gpa, len(buffer), buffer) == 0
        self.state = ffi.new(
            "struct pv_queue_state *",
            {
                "size": size,
                "descriptors_gpa": TABLE,
                "driver_gpa": AVAIL,
                "device_gpa": USED,
                "next_avail": next_avail,
                "next_used": next_avail,
                "signalled": next_avail,
            },
        )
        self.queue = ffi.new(
            "struct pv_queue *",
            {"state": self.state, "memory": self.native_memory, "maximum": 256, "features": features},
        )
        self.chain = ffi.new("struct pv_chain *")
        self.offered = next_avail

    def enable(self) -> int:
        return int(lib.pv_queue_enable(self.queue))

    def enabled(self) -> Ring:
        assert self.enable() == STATUS.OK
        return self

    def view(self) -> GuestMemory:
        return GuestMemory({gpa: bytearray(ffi.buffer(b)) for gpa, b in self._buffers.items()})

    def model(self) -> Virtqueue:
        """The model of this queue, in a copy of its memory."""
        s, areas = self.state, Areas(TABLE, AVAIL, USED)
        seen = (s.next_avail, s.next_used, s.signalled)
        return Virtqueue(self.view(), areas, self.size, self.queue.features, *seen)

    def write(self, gpa: int, data: bytes) -> None:
        base = max(b for b in self._buffers if b <= gpa)
        ffi.memmove(self._buffers[base] + (gpa - base), data, len(data))

    def read(self, gpa: int, size_bytes: int) -> bytes:
        return self.view().read(gpa, size_bytes)

    def describe(self, table: list[Desc], gpa: int = TABLE) -> None:
        self.write(gpa, b"".join(d.pack() for d in table))

    def offer(self, head: int) -> None:
        """One more entry of the available ring."""
        self.write(AVAIL + 4 + 2 * (self.offered % self.size), struct.pack("<H", head))
        self.offered += 1
        self.set_avail_index(self.offered)

    def set_avail_index(self, index: int) -> None:
        self.write(AVAIL + 2, struct.pack("<H", index & 0xFFFF))

    def pop(self) -> int:
        return int(lib.pv_queue_pop(self.queue, self.chain))

    @property
    def fault(self) -> str | None:
        return None if self.queue.fault == ffi.NULL else ffi.string(self.queue.fault).decode()

    def gpa_of(self, pointer: Any) -> int:
        for gpa, buffer in self._buffers.items():
            offset = int(ffi.cast("uintptr_t", pointer)) - int(ffi.cast("uintptr_t", buffer))
            if 0 <= offset < len(buffer):
                return gpa + offset
        raise AssertionError("a segment outside guest memory")

    def segments(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Those of the popped chain, as the model gives them."""
        count = self.chain.readable + self.chain.writable
        found = [(self.gpa_of(s.iov_base), s.iov_len) for s in self.chain.segments[0:count]]
        return found[: self.chain.readable], found[self.chain.readable :]

    def check_silent(self) -> None:
        """VQ-10: whatever comes, nothing is taken and nothing is used."""
        before = self.read(USED, 6 + 8 * self.size)
        self.offer(0)
        assert self.pop() == 0
        lib.pv_queue_push(self.queue, 0, 1)
        assert not lib.pv_queue_wants_interrupt(self.queue)
        assert not lib.pv_queue_arm(self.queue)
        lib.pv_queue_disarm(self.queue)
        assert self.read(USED, 6 + 8 * self.size) == before
