"""Guest memory: a memfd mapped into this process, and where it lies in guest-physical space.

RAM begins at zero; what does not fit below LOW_RAM_END goes on at 4 GiB, since devices lie between.
Guest memory is touched through the checked copies here (or by the C core), never by slices.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._native import ffi, lib
from .errors import HostMemory
from .outcome import MemoryStatistics

if TYPE_CHECKING:
    from .vhost_user.messages import Region

LOW_RAM_END = 0xC000_0000
HIGH_RAM_BASE = 1 << 32
HUGE_BYTES = int(lib.PV_RAM_HUGE_BYTES)
PIECE_BYTES = 256 << 20  # of populating, between two words of how far it is
SHMEM_ENABLED = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
BLOCK_BYTES = 512  # st_blocks, whatever the file system's are
# Processes of modules and of the software vCPU have the file too: one that cut it would have us end by SIGBUS.
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def ram_ranges(memory_bytes: int) -> tuple[tuple[int, int], ...]:
    """(gpa, size in bytes) of the ranges that `memory_bytes` of RAM lie in."""
    low = min(memory_bytes, LOW_RAM_END)
    return ((0, low),) if low == memory_bytes else ((0, low), (HIGH_RAM_BASE, memory_bytes - low))


class GuestMemory:
    """`memory_bytes` of zeroed RAM.  ``native`` is the C core's ``struct pv_memory *``.

    With `huge_pages` of 2 MiB: those of the host's reserve, which stay the machine's whatever the guest gives back,
    or else where the host makes them of free memory, which come and go.  Raises HostMemory.
    """

    def __init__(self, memory_bytes: int, native: Any, *, huge_pages: bool = False) -> None:
        self.native = native
        self.ranges = ram_ranges(memory_bytes)
        self._total_bytes = memory_bytes
        self.fd, self._hva = _reserved(memory_bytes) if huge_pages else (-1, ffi.NULL)
        native.kept = self.fd >= 0
        if self.fd < 0:
            self.fd, self._hva = _mapped(memory_bytes, 0)
            if huge_pages and (problem := self._ask_for_huge_pages()):
                self.close()
                raise HostMemory(problem)
        at = 0
        for gpa, size in self.ranges:
            if lib.pv_memory_add(native, gpa, size, self._hva + at):
                raise HostMemory(f"no room for guest memory at {gpa:#x}")
            at += size

    def _ask_for_huge_pages(self) -> str:
        try:
            allowed = "[never]" not in SHMEM_ENABLED.read_text() and "[deny]" not in SHMEM_ENABLED.read_text()
        except OSError:
            allowed = False
        if allowed and lib.pv_ram_huge(self._hva, self._total_bytes) == 0:
            return ""
        return (
            f"no huge pages for {self._total_bytes >> 20}M of guest memory; reserve them by "
            f"sysctl vm.nr_hugepages={self._total_bytes // HUGE_BYTES}, or allow them by "
            f"echo advise > {SHMEM_ENABLED}"
        )

    def populate(self, tell: Callable[[int, int], object] | None = None) -> None:
        """Has the host back all of it now; `tell` is called with the bytes done and those to do.  Raises HostMemory."""
        done = 0
        for gpa, size in self.ranges:
            for at in range(0, size, PIECE_BYTES):
                piece = min(PIECE_BYTES, size - at)
                if error := lib.pv_memory_populate(self.native, gpa + at, piece):
                    why = os.strerror(-error)
                    raise HostMemory(f"cannot back guest memory now: {why}; give less, or leave --populate out")
                done += piece
                if tell:
                    tell(done, self._total_bytes)

    def statistics(self, machine: Any) -> MemoryStatistics:
        """Figures now, with what the ``struct pv_machine *`` has counted."""
        state = machine.state
        resident_bytes = os.fstat(self.fd).st_blocks * BLOCK_BYTES
        balloon = state.balloon_target_bytes, state.balloon_bytes
        return MemoryStatistics(self._total_bytes, resident_bytes, *balloon, machine.reported_bytes)

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
            found.append(Region(gpa, size, int(ffi.cast("uintptr_t", self._hva + offset)), self.fd, offset))
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
        lib.pv_ram_unmap(self._hva, self._total_bytes)
        os.close(self.fd)


def _mapped(memory_bytes: int, flags: int) -> tuple[int, Any]:
    """A sealed file and its address.  Raises HostMemory."""
    fd = -1
    try:
        fd = os.memfd_create("paravirt-ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
        os.ftruncate(fd, memory_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        hva = lib.pv_ram_map(fd, memory_bytes)
        if hva == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        wanted = f"{memory_bytes >> 20}M"
        raise HostMemory(f"cannot get {wanted} of guest memory: {error.strerror}; give less") from error
    return fd, ffi.cast("uint8_t *", hva)


def _reserved(memory_bytes: int) -> tuple[int, Any]:
    """The same of huge pages of the host's reserve; -1 if it has not so many."""
    try:
        return _mapped(memory_bytes, os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    except HostMemory:
        return -1, ffi.NULL
