"""What the rules VQ-1 to VQ-9 say of a chain, in plain Python over a dictionary-like memory.

Written from the rules, not from the C: it first lists a chain's descriptors, then judges them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from hypercall_abi.virtqueue import DESC_FLAG

DESC_BYTES = 16


@dataclass(frozen=True)
class Desc:
    """A descriptor as it lies in memory."""

    gpa: int
    size_bytes: int
    flags: int
    next: int

    def pack(self) -> bytes:
        return struct.pack("<QIHH", self.gpa, self.size_bytes, self.flags, self.next)

    @classmethod
    def unpack(cls, data: bytes) -> Desc:
        return cls(*struct.unpack("<QIHH", data))

    def has(self, flag: int) -> bool:
        return bool(self.flags & flag)


class Broken(Exception):
    """A driver broke `rule`."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class Memory:
    """Ranges of guest memory: GPA → bytes."""

    def __init__(self, ranges: dict[int, bytearray]) -> None:
        self.ranges = ranges

    def within(self, gpa: int, size_bytes: int) -> bool:
        return any(base <= gpa and gpa + size_bytes <= base + len(data) for base, data in self.ranges.items())

    def read(self, gpa: int, size_bytes: int) -> bytes:
        base = max(b for b in self.ranges if b <= gpa)
        return bytes(self.ranges[base][gpa - base : gpa - base + size_bytes])

    def write(self, gpa: int, data: bytes) -> None:
        base = max(b for b in self.ranges if b <= gpa)
        self.ranges[base][gpa - base : gpa - base + len(data)] = data


@dataclass(frozen=True)
class QueueModel:
    """A queue of `size` descriptors at `table_gpa`."""

    memory: Memory
    table_gpa: int
    size: int
    indirect_agreed: bool

    def _table(self, gpa: int, count: int) -> list[Desc]:
        data = self.memory.read(gpa, count * DESC_BYTES)
        return [Desc.unpack(data[i : i + DESC_BYTES]) for i in range(0, len(data), DESC_BYTES)]

    def _indirect_table(self, d: Desc) -> list[Desc]:
        if not self.indirect_agreed or d.has(DESC_FLAG.NEXT):
            raise Broken("VQ-6")
        count, rest = divmod(d.size_bytes, DESC_BYTES)
        if rest or not 1 <= count <= self.size:
            raise Broken("VQ-5")
        if not self.memory.within(d.gpa, d.size_bytes):
            raise Broken("VQ-3")
        return self._table(d.gpa, count)

    def _descriptors(self, head: int) -> Iterator[Desc]:
        """The buffers' descriptors in their order, without end if they loop."""
        table, index, indirect = self._table(self.table_gpa, self.size), head, False
        while True:
            if index >= len(table):
                raise Broken("VQ-1")
            d = table[index]
            if d.has(DESC_FLAG.INDIRECT):
                if indirect:
                    raise Broken("VQ-5")
                table, index, indirect = self._indirect_table(d), 0, True
                continue
            yield d
            if not d.has(DESC_FLAG.NEXT):
                return
            index = d.next

    def chain(self, head: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Readable and writable buffers, each (GPA, bytes); raises `Broken`."""
        readable: list[tuple[int, int]] = []
        writable: list[tuple[int, int]] = []
        for d in self._descriptors(head):
            if len(readable) + len(writable) == self.size:
                raise Broken("VQ-2")
            if not d.size_bytes or not self.memory.within(d.gpa, d.size_bytes):
                raise Broken("VQ-3")
            if d.has(DESC_FLAG.WRITE):
                writable.append((d.gpa, d.size_bytes))
            elif writable:
                raise Broken("VQ-4")
            else:
                readable.append((d.gpa, d.size_bytes))
        return readable, writable
