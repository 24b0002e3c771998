"""x86-64 tables that the host builds, since a guest at CPL 3 cannot: page tables, GDT, TSS, IDT.

Memory and device windows are mapped one to one (BOOT-2), page zero not at all, segments as their
program headers say (BOOT-4).  What the host keeps for itself is not mapped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..config import PAGE_BYTES

LARGE = 2 << 20
HUGE = 1 << 30
ENTRIES = 512
TABLE = struct.Struct(f"<{ENTRIES}Q")

PRESENT, WRITABLE, USER, UNCACHED, LARGE_PAGE = 1 << 0, 1 << 1, 1 << 2, 1 << 4, 1 << 7
NO_EXECUTE = 1 << 63

DATA = PRESENT | WRITABLE | USER | NO_EXECUTE
READ_ONLY = PRESENT | USER | NO_EXECUTE
SYSTEM = PRESENT | WRITABLE | NO_EXECUTE  # what the CPU reads for itself
DEVICE = DATA | UNCACHED
EVERYTHING = PRESENT | WRITABLE  # for a kernel that makes its own tables first of all

CODE_SELECTOR = {"user": 0x23, "supervisor": 0x08}
DATA_SELECTOR = {"user": 0x1B, "supervisor": 0x10}
TSS_HEAD_BYTES = 104
BUSY_TSS = 0x8B  # present, type 11


class PageTables:
    """A one-to-one map, built in Python and written out once.

    Large pages where a whole 2 MiB has one set of flags, small ones elsewhere.
    """

    def __init__(self) -> None:
        self._large: dict[int, int] = {}  # index of 2 MiB → flags
        self._small: dict[int, dict[int, int]] = {}  # index of 2 MiB → index of 4 KiB → flags

    def map(self, gpa: int, size_bytes: int, flags: int) -> None:
        """Maps the pages that hold a range; what was there before is replaced.  flags 0: not mapped."""
        at, end = gpa // PAGE_BYTES * PAGE_BYTES, gpa + size_bytes
        while at < end:
            index = at // LARGE
            if at % LARGE == 0 and end - at >= LARGE:
                self._small.pop(index, None)
                self._large[index] = flags
                at += LARGE
                continue
            if index not in self._small:
                before = self._large.pop(index, 0)
                self._small[index] = dict.fromkeys(range(ENTRIES), before) if before else {}
            self._small[index][at % LARGE // PAGE_BYTES] = flags
            at += PAGE_BYTES

    @property
    def page_count(self) -> int:
        """Pages that :meth:`build` will fill."""
        gigabytes = {i // 512 for i in (*self._large, *self._small)}
        return 1 + len({g // 512 for g in gigabytes}) + len(gigabytes) + len(self._small)

    def build(self, gpa: int) -> Iterator[tuple[int, bytes]]:
        """(gpa, bytes) of each table page; the first, at `gpa`, is the root."""
        table = PRESENT | WRITABLE | USER
        pages: dict[tuple[int, int], list[int]] = {(4, 0): [0] * ENTRIES}
        places = {(4, 0): gpa}

        def child(level: int, index: int) -> list[int]:
            key = (level, index)
            if key not in pages:
                parent = child(level + 1, index // 512) if level < 4 else pages[4, 0]
                pages[key], places[key] = [0] * ENTRIES, gpa + len(places) * PAGE_BYTES
                if level < 4:
                    parent[index % 512] = places[key] | table
            return pages[key]

        for index, flags in self._large.items():
            if flags:
                child(2, index // 512)[index % 512] = index * LARGE | flags | LARGE_PAGE
        for index, entries in self._small.items():
            leaf = child(1, index)
            for page, flags in entries.items():
                if flags:
                    leaf[page] = index * LARGE + page * PAGE_BYTES | flags
        for key, filled in pages.items():
            yield places[key], TABLE.pack(*filled)


def _code_or_data(code: bool, dpl: int) -> int:
    access = 0x9B if code else 0x93  # present, code or data, accessed
    flags = 0xA if code else 0xC  # 4 KiB granularity, 64-bit code
    return 0xFFFF | (access | dpl << 5) << 40 | 0xF << 48 | flags << 52


def gdt(tss_gpa: int, tss_bytes: int) -> bytes:
    """Null, code and data for CPL 0, data and code for CPL 3 (the order SYSRET wants), the TSS.

    One TSS serves all vCPUs: the level never changes, so nothing of it is read but the port bitmap.
    """
    entries = [0, _code_or_data(True, 0), _code_or_data(False, 0), _code_or_data(False, 3), _code_or_data(True, 3)]
    limit = tss_bytes - 1
    low = limit & 0xFFFF | (tss_gpa & 0xFFFFFF) << 16 | (limit >> 16 & 0xF) << 48 | (tss_gpa >> 24 & 0xFF) << 56
    entries += [low | BUSY_TSS << 40, tss_gpa >> 32]
    return struct.pack(f"<{len(entries)}Q", *entries)


def linux_gdt(_tss_gpa: int, _tss_bytes: int) -> bytes:
    """What Linux's boot protocol names: code at selector 0x10, data at 0x18; the kernel makes its own TSS."""
    code, data = _code_or_data(True, 0), _code_or_data(False, 0)
    return struct.pack("<4Q", 0, code, code, data)


def tss(ports: tuple[int, ...]) -> bytes:
    """A TSS whose I/O permission bitmap opens four ports from each of `ports` on (all else is closed)."""
    bitmap = bytearray(b"\xff" * (max(ports) // 8 + 2))  # and the byte of ones that ends it
    for first in ports:
        for port in range(first, first + 4):
            bitmap[port // 8] &= ~(1 << port % 8)
    head = bytearray(TSS_HEAD_BYTES)
    struct.pack_into("<H", head, 102, TSS_HEAD_BYTES)
    return bytes(head + bitmap)
