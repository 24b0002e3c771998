"""Where a guest's page tables map its memory to, but for what is mapped to its own guest-physical address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..accel.engine.paging import ADDRESS, CR0_PG, LARGE, PRESENT

if TYPE_CHECKING:
    from ..memory import GuestMemory

MAPPINGS_MOST = 4096
TABLES_MOST = 20_000  # the guest makes them: they may lead in circles
_ENTRIES = 512
_CR0, _CR3 = 0, 2


class _Walk:
    def __init__(self, memory: GuestMemory) -> None:
        self._memory = memory
        self._tables = 0

    def leaves(self, table: int, shift: int, base: int) -> Iterator[tuple[int, int, int]]:
        """(address, GPA, size) of every page under a table, in order."""
        self._tables += 1
        if self._tables > TABLES_MOST or not self._memory.contains(table, 8 * _ENTRIES):
            return
        entries = memoryview(self._memory.read(table, 8 * _ENTRIES)).cast("Q")
        for number, entry in enumerate(entries):
            if not entry & PRESENT:
                continue
            address = base | number << shift
            if address >> 47 & 1:
                address |= 0xFFFF << 48
            if shift == 12 or (entry & LARGE and shift in (21, 30)):
                yield address, entry & ADDRESS & -(1 << shift), 1 << shift
            else:
                yield from self.leaves(entry & ADDRESS, shift - 9, address)


def mappings(memory: GuestMemory, registers: Any) -> list[tuple[int, int, int]]:
    """(address, GPA, size in bytes) as the vCPU of that ``struct pv_registers *`` sees memory, what belongs together
    in one; at most MAPPINGS_MOST."""
    found: list[tuple[int, int, int]] = []
    if not registers.control[_CR0] & CR0_PG:
        return found
    for address, gpa, size in _Walk(memory).leaves(registers.control[_CR3] & ADDRESS, 39, 0):
        if address == gpa or not memory.contains(gpa, size):
            continue
        start, begin, length = found[-1] if found else (0, 0, 0)
        if (start + length, begin + length) == (address, gpa) and memory.contains(begin, length + size):
            found[-1] = (start, begin, length + size)
        elif len(found) < MAPPINGS_MOST:
            found.append((address, gpa, size))
    return found
