"""Guest memory as the engine's process has it: the host's memfd, mapped once for all vCPUs, and mapped disks' files."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_FAILED = ctypes.c_void_p(-1).value


class Region(NamedTuple):
    """A mapped disk: memory of the guest's that the CPU does not run or keep tables in."""

    gpa: int
    size_bytes: int
    read_only: bool
    address: int
    """Where it is in this process."""


def map_file(fd: int, size_bytes: int, read_only: bool) -> int:
    """The address of a file's first bytes, which nothing in Python looks at.  Raises OSError."""
    rights = mmap.PROT_READ | (0 if read_only else mmap.PROT_WRITE)
    address = _libc.mmap(None, size_bytes, rights, mmap.MAP_SHARED, fd, 0)
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


class Memory:
    """Guest memory as this process maps it; `ranges` are (gpa, size in bytes), one after the other in the file."""

    def __init__(self, fd: int, ranges: list[tuple[int, int]], regions: Sequence[Region] = ()) -> None:
        self.ranges = ranges
        self.regions = regions
        self.map = mmap.mmap(fd, sum(size for _, size in ranges))
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        """Where it is in this process."""

    def offset(self, gpa: int, size_bytes: int) -> int | None:
        """Where `gpa` is in the file; None if the range is not wholly RAM."""
        before = 0
        for start_gpa, size in self.ranges:
            if start_gpa <= gpa and gpa + size_bytes <= start_gpa + size:
                return before + gpa - start_gpa
            before += size
        return None

    def region(self, gpa: int) -> int | None:
        """The number of the region that `gpa` is in, or None."""
        for number, region in enumerate(self.regions):
            if region.gpa <= gpa < region.gpa + region.size_bytes:
                return number
        return None

    def word(self, gpa: int) -> int | None:
        """8 bytes as a number, None outside of RAM."""
        at = self.offset(gpa, 8)
        return None if at is None else int.from_bytes(self.map[at : at + 8], "little")

    def put_bit(self, gpa: int, value: bool) -> bool:
        """Sets or clears bit 0 of a byte of RAM, while no guest code runs; what it was."""
        at = self.offset(gpa, 1)
        if at is None:
            return False
        before = self.map[at]
        self.map[at] = before & 0xFE | value
        return bool(before & 1)
