"""Guest memory as a front end describes it: parts of its files, mapped here; which is believed of nothing.

Nobody may work on guest memory while the table changes, but for regions that are added.
"""

from __future__ import annotations

import os
import stat
from typing import Any, NamedTuple

from .._native import ffi, lib
from .errors import Refused
from .messages import Region

ADDRESSES = 1 << 64


class Mapping(NamedTuple):
    """A part of a file that is mapped from the file's beginning on, which every page size allows."""

    at: Any
    size_bytes: int
    file: tuple[int, int]
    """Which one: device and inode."""

    def unmap(self) -> None:
        """Nobody touches it any more."""
        lib.pv_peer_memory_unmap(self.at, self.size_bytes)


def map_file(fd: int, offset: int, size_bytes: int, lost_fd: int, what: str) -> Mapping:
    """Maps a file up to the end of a part of it, which must be there; `lost_fd` is written once it is not any more.

    Raises Refused.
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{what} is not in a file that can be shared; have the front end share its memory (share=on)")
    if not lib.pv_peer_memory_is_here(fd):
        raise Refused(f"{what} is in a file whose pages may never come; use a memfd, /dev/shm or a local disk")
    if not size_bytes or found.st_size < offset + size_bytes:
        raise Refused(f"{what} is {size_bytes:#x} bytes at {offset:#x} of a file that has {found.st_size:#x}")
    page = max(found.st_blksize, 1)
    whole = -(-(offset + size_bytes) // page) * page
    at = lib.pv_peer_memory_map(fd, 0, whole, lost_fd)
    if at == ffi.NULL:
        raise Refused(f"{what} cannot be mapped: {os.strerror(ffi.errno)}")
    return Mapping(ffi.cast("uint8_t *", at), whole, (found.st_dev, found.st_ino))


class Known:
    """A region that is mapped, and how often it was given: QEMU gives a network's once for each pair of queues."""

    def __init__(self, region: Region, mapping: Mapping) -> None:
        self.region, self.mapping = region, mapping
        self.times = 1

    def is_the_same(self, region: Region) -> bool:
        """Whether `region`, with its descriptor, is this one again."""
        found = os.fstat(region.fd)
        same = self.region._replace(fd=region.fd) == region
        return same and (found.st_dev, found.st_ino) == self.mapping.file


class MemoryTable:
    """The regions of a session; `native` is the ``struct pv_memory *`` that they are in."""

    def __init__(self, native: Any, lost_fd: int) -> None:
        self._native, self._lost_fd = native, lost_fd
        self._regions: list[Known] = []

    def __len__(self) -> int:
        return len(self._regions)

    def add(self, region: Region) -> None:
        """Maps a region; its descriptor stays the caller's.  Raises Refused."""
        what = f"guest memory at {region.gpa:#x}"
        if region.gpa + region.size_bytes > ADDRESSES or region.hva + region.size_bytes > ADDRESSES:
            raise Refused(f"{what} ends beyond all addresses: {region.size_bytes:#x} bytes")
        for known in self._regions:
            if known.is_the_same(region):
                known.times += 1
                return
            other = known.region
            if region.hva < other.hva + other.size_bytes and other.hva < region.hva + region.size_bytes:
                raise Refused(f"{what} has the front end's addresses of that at {other.gpa:#x}")
        mapping = map_file(region.fd, region.offset, region.size_bytes, self._lost_fd, what)
        if lib.pv_memory_add(self._native, region.gpa, region.size_bytes, mapping.at + region.offset):
            mapping.unmap()
            most = int(lib.PV_MAX_REGIONS)
            raise Refused(f"{what} overlaps with another region, is not aligned, or there are {most} already")
        self._regions.append(Known(region, mapping))

    def remove(self, region: Region) -> None:
        """Unmaps one that is so described.  Raises Refused."""
        for known in self._regions:
            if known.region[:3] == region[:3]:  # all but where it is in its file
                known.times -= 1
                if not known.times:
                    self._forget(known)
                return
        raise Refused(f"guest memory at {region.gpa:#x}, which is to go, is not there")

    def _forget(self, known: Known) -> None:
        self._regions.remove(known)
        self._native.count = 0
        for left in self._regions:
            at = left.mapping.at + left.region.offset
            lib.pv_memory_add(self._native, left.region.gpa, left.region.size_bytes, at)
        known.mapping.unmap()

    def clear(self) -> None:
        """Unmaps all."""
        self._native.count = 0
        while self._regions:
            self._regions.pop().mapping.unmap()

    def gpa(self, hva: int) -> int:
        """Where one of the front end's addresses is.  Raises Refused."""
        for region in (known.region for known in self._regions):
            if region.hva <= hva < region.hva + region.size_bytes:
                return region.gpa + hva - region.hva
        raise Refused(f"a queue lies at {hva:#x}, which is not in guest memory")
