"""Guest memory as a vCPU sees it: virtual addresses, by the guest's own page tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..accel.engine import paging
from ..memory import GuestMemory

_CR0, _CR3, _CR4 = 0, 2, 3  # in struct pv_registers' control
CR4_LA57 = 1 << 12


class Space:
    """Of the vCPU whose ``struct pv_registers *`` is given.  It reads and writes RAM, whatever the tables allow."""

    def __init__(self, memory: GuestMemory, registers: Any) -> None:
        self._memory = memory
        self._cr0, self._cr3 = registers.control[_CR0], registers.control[_CR3]
        self._five = bool(self._cr0 & paging.CR0_PG and registers.control[_CR4] & CR4_LA57)

    def _word(self, gpa: int) -> int | None:
        return int.from_bytes(self._memory.read(gpa, 8), "little") if self._memory.contains(gpa, 8) else None

    def gpa(self, address: int) -> int | None:
        """Where an address lies; None if nowhere, or not in RAM."""
        if not self._cr0 & paging.CR0_PG and address >> 32:
            return None  # a breakpoint of later, when there is paging
        table, below = self._cr3, address
        if self._five:
            table = self._word((table & paging.ADDRESS) + (address >> 48 & 511) * 8) or 0
            below = address % (1 << 48) | (0xFFFF << 48 if address >> 47 & 1 else 0)
            if not table & paging.PRESENT or address >> 56 not in (0, 0xFF):
                return None
        try:
            page, _, _ = paging.walk(self._word, self._cr0, table, False, below, paging.READ)
        except paging.PageFault:
            return None
        gpa = page | address % paging.PAGE
        return gpa if self._memory.contains(gpa, 1) else None

    def _pieces(self, address: int, size_bytes: int) -> Iterator[tuple[int, int]]:
        """(gpa, length) as far as it goes."""
        end = min(address + size_bytes, 1 << 64)
        while address < end:
            part = min(end - address, paging.PAGE - address % paging.PAGE)
            gpa = self.gpa(address)
            if gpa is None or not self._memory.contains(gpa, part):
                return
            yield gpa, part
            address += part

    def read(self, address: int, size_bytes: int) -> bytes:
        """What is there, up to the first page that is not."""
        return b"".join(self._memory.read(gpa, part) for gpa, part in self._pieces(address, size_bytes))

    def write(self, address: int, data: bytes) -> bool:
        """Stores all of it, or nothing: false."""
        pieces = list(self._pieces(address, len(data)))
        if sum(part for _, part in pieces) != len(data):
            return False
        for gpa, part in pieces:
            self._memory.write(gpa, data[:part])
            data = data[part:]
        return True
