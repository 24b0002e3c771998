"""Guest memory as the engine's process has it: the host's memfd, mapped once for all vCPUs."""

from __future__ import annotations

import ctypes
import mmap


class Memory:
    """Guest memory as this process maps it; `ranges` are (gpa, size in bytes), one after the other in the file."""

    def __init__(self, fd: int, ranges: list[tuple[int, int]]) -> None:
        self.ranges = ranges
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

    def word(self, gpa: int) -> int | None:
        """8 bytes as a number, None outside of RAM."""
        at = self.offset(gpa, 8)
        return None if at is None else int.from_bytes(self.map[at : at + 8], "little")
