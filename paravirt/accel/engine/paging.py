"""x86-64 page walks over guest memory: where an address lies, what may be done there, or how it faults."""

from __future__ import annotations

from collections.abc import Callable

PAGE = 4096
PRESENT, WRITABLE, USER, LARGE, NO_EXECUTE = 1 << 0, 1 << 1, 1 << 2, 1 << 7, 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000

READ, WRITE, FETCH = range(3)
# bits of a page fault's error code
FAULT_PRESENT, FAULT_WRITE, FAULT_USER, FAULT_FETCH = 1, 2, 4, 16

CR0_WP, CR0_PG = 1 << 16, 1 << 31


class PageFault(Exception):
    """`address` may not be accessed so; `code` is the error code, None for an address that is not canonical."""

    def __init__(self, address: int, code: int | None) -> None:
        super().__init__(hex(address))
        self.address = address
        self.code = code


def canonical(address: int) -> bool:
    """Whether bits 63 to 47 are all alike."""
    return address >> 47 in (0, 0x1FFFF)


def walk(
    entry_at: Callable[[int], int | None], cr0: int, cr3: int, user: bool, address: int, access: int
) -> tuple[int, bool, bool]:
    """(physical page, writable, executable) of `address`, at CPL 3 if `user`.

    `entry_at` reads 8 bytes of physical memory, None where there is none.  Raises PageFault.
    """
    if not cr0 & CR0_PG:
        return address & 0xFFFF_F000, True, True
    if not canonical(address):
        raise PageFault(address, None)
    code = (FAULT_WRITE if access == WRITE else 0) | (FAULT_USER if user else 0)
    code |= FAULT_FETCH if access == FETCH else 0
    table, rights, no_execute = cr3 & ADDRESS, WRITABLE | USER, 0
    for shift in (39, 30, 21, 12):
        entry = entry_at(table + (address >> shift & 511) * 8)
        if entry is None or not entry & PRESENT:
            raise PageFault(address, code)
        rights &= entry
        no_execute |= entry & NO_EXECUTE
        table = entry & ADDRESS
        if entry & LARGE and shift in (30, 21):
            table = (table & -(1 << shift)) | (address & ((1 << shift) - 1) & -PAGE)
            break
    writable = bool(rights & WRITABLE) or (not user and not cr0 & CR0_WP)
    refused = (user and not rights & USER, access == WRITE and not writable, access == FETCH and no_execute)
    if any(refused):
        raise PageFault(address, code | FAULT_PRESENT)
    return table, writable, not no_execute
