"""Guest memory: ranges of bytes, and which of them are undefined until somebody has looked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..schema import Record

PAGE_BYTES = 4096


class GuestMemory:
    """Ranges of guest memory: GPA → size in bytes (zeroed), or GPA → bytes, which it then works on."""

    def __init__(self, ranges: Mapping[int, int | bytearray]) -> None:
        self.ranges = {gpa: bytearray(r) if isinstance(r, int) else r for gpa, r in ranges.items()}
        self.undefined: list[tuple[int, int]] = []
        """(GPA, bytes) whose contents the standard left open since the last :meth:`adopt`."""

    def contains(self, gpa: int, size_bytes: int) -> bool:
        """Whether a range lies wholly inside one range of guest memory; one that is empty may lie at an end."""
        return self._base(gpa, size_bytes) is not None

    def _base(self, gpa: int, size_bytes: int) -> int | None:
        for base, data in self.ranges.items():
            if base <= gpa and gpa + size_bytes <= base + len(data):
                return base
        return None

    def _at(self, gpa: int, size_bytes: int) -> tuple[bytearray, slice]:
        base = self._base(gpa, size_bytes)
        if base is None:
            raise ValueError(f"{gpa:#x}+{size_bytes:#x} is not guest memory")
        return self.ranges[base], slice(gpa - base, gpa - base + size_bytes)

    def read(self, gpa: int, size_bytes: int) -> bytes:
        """A copy; raises ValueError outside of guest memory."""
        data, where = self._at(gpa, size_bytes)
        return bytes(data[where])

    def write(self, gpa: int, new: bytes) -> None:
        """Writes; raises ValueError outside of guest memory."""
        data, where = self._at(gpa, len(new))
        data[where] = new

    def number(self, gpa: int, size_bytes: int) -> int:
        """The little-endian number at `gpa`."""
        return int.from_bytes(self.read(gpa, size_bytes), "little")

    def put(self, gpa: int, size_bytes: int, number: int) -> None:
        """Writes a little-endian number, reduced to its width."""
        self.write(gpa, (number & (1 << 8 * size_bytes) - 1).to_bytes(size_bytes, "little"))

    def records(self, record: Record, gpa: int, count: int) -> list[Any]:
        """`count` records at `gpa`, parsed."""
        data = self.read(gpa, count * record.size)
        return [record.parse(data[at : at + record.size]) for at in range(0, len(data), record.size)]

    def undefine(self, gpa: int, size_bytes: int) -> None:
        """Whatever is in these bytes now, the host may have put it there."""
        if size_bytes:
            self.undefined.append((gpa, size_bytes))

    def adopt(self, real: GuestMemory) -> None:
        """Takes what `real` has where this memory is undefined: from now on it stays as it is."""
        for gpa, size_bytes in self.undefined:
            self.write(gpa, real.read(gpa, size_bytes))
        self.undefined.clear()

    def difference(self, real: GuestMemory) -> str:
        """Where `real` differs first, in words; empty if nowhere."""
        for base, data in self.ranges.items():
            if data != (other := real.ranges[base]):
                at = next(i for i, (a, b) in enumerate(zip(data, other, strict=True)) if a != b)
                return f"memory at {base + at:#x} is {other[at]:#04x} and should be {data[at]:#04x}"
        return ""
