"""Page tables of guests, of four levels and of five, as debuggers and cores follow them."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from paravirt.debug.mappings import mappings
from paravirt.debug.space import Space

PG, LA57 = 1 << 31, 1 << 12
PRESENT, LARGE = 1, 1 << 7
KERNEL, PROGRAM = 0xFFFF_FFFF_8000_0000, 0x40_0000
KERNEL_GPA, PROGRAM_GPA = 0x20_0000, 0x30_0000


class Memory:
    """4 MiB from 0 on."""

    def __init__(self) -> None:
        self._bytes = bytearray(4 << 20)
        self._free = 0x1000

    def contains(self, gpa: int, size_bytes: int) -> bool:
        return gpa + size_bytes <= len(self._bytes)

    def read(self, gpa: int, size_bytes: int) -> bytes:
        return bytes(self._bytes[gpa : gpa + size_bytes])

    def table(self) -> int:
        self._free += 0x1000
        return self._free

    def map(self, table: int, levels: int, address: int, gpa: int, last: int = 12) -> None:
        """A page, of 2 MiB with `last` 21."""
        for shift in range(12 + 9 * (levels - 1), last, -9):
            at = table + 8 * (address >> shift & 511)
            (entry,) = struct.unpack_from("<Q", self._bytes, at)
            if not entry:
                entry = self.table() | PRESENT
                struct.pack_into("<Q", self._bytes, at, entry)
            table = entry & ~0xFFF
        flags = PRESENT | (LARGE if last == 21 else 0)
        struct.pack_into("<Q", self._bytes, table + 8 * (address >> last & 511), gpa | flags)


@pytest.fixture(params=[4, 5], ids=["four", "five"])
def seen(request: pytest.FixtureRequest) -> tuple[Memory, Any]:
    """Memory, and a vCPU's registers: a kernel's 2 MiB page, two pages of a program's and one that is where it is."""
    memory, levels = Memory(), int(request.param)
    root = memory.table()
    memory.map(root, levels, PROGRAM, PROGRAM_GPA)
    memory.map(root, levels, PROGRAM + 0x1000, PROGRAM_GPA + 0x1000)
    memory.map(root, levels, 0x5000, 0x5000)
    memory.map(root, levels, KERNEL, KERNEL_GPA, last=21)
    return memory, SimpleNamespace(control=[PG, 0, root, LA57 if levels == 5 else 0, 0])


def test_an_address_is_found(seen: tuple[Any, Any]) -> None:
    space = Space(*seen)
    assert space.gpa(KERNEL + 0x1234) == KERNEL_GPA + 0x1234
    assert space.gpa(PROGRAM + 0x1FFF) == PROGRAM_GPA + 0x1FFF
    for nowhere in (PROGRAM + 0x2000, PROGRAM + (1 << 47), KERNEL ^ (1 << 63), 1 << 56 | PROGRAM):
        assert space.gpa(nowhere) is None


def test_without_paging_there_are_32_bits(seen: tuple[Any, Any]) -> None:
    space = Space(seen[0], SimpleNamespace(control=[0, 0, 0, 0, 0]))
    assert space.gpa(0x1234) == 0x1234
    assert space.gpa(KERNEL) is None and space.gpa(1 << 32 | 0x1234) is None


def test_the_kernel_comes_first_and_what_is_where_it_is_not_at_all(seen: tuple[Any, Any]) -> None:
    assert mappings(*seen) == [(KERNEL, KERNEL_GPA, 2 << 20), (PROGRAM, PROGRAM_GPA, 0x2000)]
