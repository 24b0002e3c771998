"""Where a replaying guest has its buffers: offsets into memory of its own, given out in three parts.

What a device may look at later (queues) is kept; ranges that only change hands (memory.discard) lie over one
another; the buffers of a call are free again for the next.  How long the first two are is known only once all was
given out, so a program is laid out twice.
"""

from __future__ import annotations

from ..config import PAGE_BYTES

KEPT_BYTES = 2 * PAGE_BYTES  # a part of a queue: at most a page, anywhere in one
RANGE_MOST_BYTES = 64 << 20  # limit MEMORY_BYTES


def _pages(size_bytes: int) -> int:
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


class Arena:
    """Gives out offsets; an address keeps its place within a page, and so its alignment."""

    def __init__(self) -> None:
        self._kept: dict[int, int] = {}
        self._range_bytes = 0
        self._ranges_at = 0
        self._calls_at = 0
        self._next = 0
        self._most = 0

    def begin_again(self) -> None:
        """The parts follow one another from now on, with the sizes found so far."""
        self._ranges_at = len(self._kept) * KEPT_BYTES
        self._calls_at = self._ranges_at + self._range_bytes
        self._most = 0

    @property
    def size_bytes(self) -> int:
        """Of all parts."""
        return self._calls_at + self._most

    def next_entry(self) -> None:
        """What was taken for the call before is free."""
        self._next = 0

    def take(self, size_bytes: int, gpa: int) -> int:
        """A place for a buffer that was at `gpa`."""
        offset = self._next + gpa % PAGE_BYTES
        self._next = _pages(offset + size_bytes)
        self._most = max(self._most, self._next)
        return self._calls_at + offset

    def keep(self, gpa: int) -> int:
        """A place for good for the part of a queue that was at `gpa`."""
        return self._kept.setdefault(gpa, len(self._kept) * KEPT_BYTES) + gpa % PAGE_BYTES

    def range(self, size_bytes: int, gpa: int) -> int:
        """A place for a range whose contents do not matter."""
        size_bytes = min(size_bytes, RANGE_MOST_BYTES)
        self._range_bytes = max(self._range_bytes, _pages(size_bytes + PAGE_BYTES))
        return self._ranges_at + gpa % PAGE_BYTES
