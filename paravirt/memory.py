"""Guest memory: a memfd mapped into this process, and where it lies in guest-physical space.

RAM begins at zero; what does not fit below LOW_RAM_END goes on at 4 GiB, since devices lie between.
Guest memory is touched through the checked copies here (or by the C core), never by slices.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TYPE_CHECKING, Any

from ._native import ffi, lib
from .errors import HostMemory
from .outcome import MemoryStatistics

if TYPE_CHECKING:
    from .vhost_user.messages import Region

LOW_RAM_END = 0xC000_0000
HIGH_RAM_BASE = 1 << 32
BLOCK_BYTES = 512  # st_blocks, whatever the file system's are
# Processes of modules and of the software vCPU have the file too: one that cut it would have us end by SIGBUS.
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def ram_ranges(memory_bytes: int) -> tuple[tuple[int, int], ...]:
    """(gpa, size in bytes) of the ranges that `memory_bytes` of RAM lie in."""
    low = min(memory_bytes, LOW_RAM_END)
    return ((0, low),) if low == memory_bytes else ((0, low), (HIGH_RAM_BASE, memory_bytes - low))


class GuestMemory:
    """`memory_bytes` of zeroed RAM.  ``native`` is the C core's ``struct pv_memory *``."""

    def __init__(self, memory_bytes: int, native: Any) -> None:
        self.native = native
        self.ranges = ram_ranges(memory_bytes)
        self.fd = os.memfd_create("paravirt-ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, memory_bytes)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, SEALS)
            self._map = mmap.mmap(self.fd, memory_bytes)
        except OSError as error:
            os.close(self.fd)
            wanted = f"{memory_bytes >> 20}M"
            raise HostMemory(f"cannot get {wanted} of guest memory: {error.strerror}; give less") from error
        self._view = ffi.from_buffer(self._map)
        at = 0
        for gpa, size in self.ranges:
            if lib.pv_memory_add(native, gpa, size, self._view + at):
                raise HostMemory(f"no room for guest memory at {gpa:#x}")
            at += size

    def statistics(self, machine: Any) -> MemoryStatistics:
        """Figures now, with what the ``struct pv_machine *`` has counted."""
        state = machine.state
        resident_bytes = os.fstat(self.fd).st_blocks * BLOCK_BYTES
        total_bytes = sum(size for _, size in self.ranges)
        balloon = state.balloon_target_bytes, state.balloon_bytes
        return MemoryStatistics(total_bytes, resident_bytes, *balloon, machine.reported_bytes)

    def hva(self, gpa: int, size_bytes: int) -> Any:
        """Host address of a range, as a ``void *``.  Raises ValueError if it is not wholly guest memory."""
        address = lib.pv_memory_at(self.native, gpa, size_bytes)
        if address == ffi.NULL:
            raise ValueError(f"{gpa:#x}+{size_bytes:#x} is not guest memory")
        return address

    def regions(self) -> tuple[Region, ...]:
        """What a peer maps to share it; the descriptors stay this object's."""
        from .vhost_user.messages import Region

        found, offset = [], 0
        for gpa, size in self.ranges:
            found.append(Region(gpa, size, int(ffi.cast("uintptr_t", self._view + offset)), self.fd, offset))
            offset += size
        return tuple(found)

    def contains(self, gpa: int, size_bytes: int) -> bool:
        """Whether a range is wholly guest memory."""
        return bool(lib.pv_memory_at(self.native, gpa, size_bytes) != ffi.NULL)

    def read(self, gpa: int, size_bytes: int) -> bytes:
        """A copy of `size_bytes` at `gpa`.  Raises ValueError outside of guest memory."""
        return bytes(ffi.buffer(self.hva(gpa, size_bytes), size_bytes))

    def write(self, gpa: int, data: bytes | memoryview) -> None:
        """Copies `data` to `gpa`.  Raises ValueError outside of guest memory."""
        ffi.memmove(self.hva(gpa, len(data)), data, len(data))

    def close(self) -> None:
        """Unmaps it.  Nothing may use it any more."""
        self.native.count = 0
        ffi.release(self._view)
        self._map.close()
        os.close(self.fd)
