"""Where a guest's page tables map its memory to, but for what is mapped to its own guest-physical address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..accel.engine.paging import ADDRESS, CR0_PG, LARGE, PRESENT
from .space import CR4_LA57

if TYPE_CHECKING:
    from ..memory import GuestMemory

MAPPINGS_MOST = 32_768  # an ELF file has room for 65,535
TABLES_MOST = 20_000  # the guest makes them: they may lead in circles
_ENTRIES = 512
_CR0, _CR3, _CR4 = 0, 2, 3


class _Walk:
    def __init__(self, memory: GuestMemory, top: int) -> None:
        self._memory = memory
        self._top = top
        self._tables = 0

    def leaves(self, table: int, shift: int, base: int) -> Iterator[tuple[int, int, int]]:
        """(address, GPA, size) of every page under a table, in order; the kernel's half of all before programs'."""
        self._tables += 1
        if self._tables > TABLES_MOST or not self._memory.contains(table, 8 * _ENTRIES):
            return
        entries = memoryview(self._memory.read(table, 8 * _ENTRIES)).cast("Q")
        numbers = [n for n in range(_ENTRIES) if entries[n] & PRESENT]
        if shift == self._top:
            numbers.sort(key=lambda n: n < _ENTRIES // 2)
        for number in numbers:
            entry, address = entries[number], base | number << shift
            if shift == self._top and number >= _ENTRIES // 2:
                address |= (1 << 64) - (1 << shift + 9)
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
    top = 48 if registers.control[_CR4] & CR4_LA57 else 39
    for address, gpa, size in _Walk(memory, top).leaves(registers.control[_CR3] & ADDRESS, top, 0):
        if address == gpa or not memory.contains(gpa, size):
            continue
        start, begin, length = found[-1] if found else (0, 0, 0)
        if (start + length, begin + length) == (address, gpa) and memory.contains(begin, length + size):
            found[-1] = (start, begin, length + size)
        elif len(found) < MAPPINGS_MOST:
            found.append((address, gpa, size))
    return found
