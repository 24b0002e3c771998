"""PVH: how a plain guest is entered (32-bit protected mode, paging off), after Xen's public interface.

The start info and what it points to lie in one block of guest memory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

MAGIC = 0x336EC578
VERSION = 1
E820_RAM, E820_RESERVED = 1, 2

# magic, version, flags, modules, their address, command line, ACPI, memory map, its entries, reserved
START_INFO = struct.Struct("<IIIIQQQQII")
MEMORY_MAP_ENTRY = struct.Struct("<QQII")  # first byte, size, kind, reserved


def start_info(gpa: int, command_line: str, memory_map: Sequence[tuple[int, int, int]]) -> bytes:
    """The block to be put at `gpa`: start info, memory map (gpa, size, kind), command line."""
    map_gpa = gpa + START_INFO.size
    text_gpa = map_gpa + len(memory_map) * MEMORY_MAP_ENTRY.size
    head = START_INFO.pack(MAGIC, VERSION, 0, 0, 0, text_gpa, 0, map_gpa, len(memory_map), 0)
    entries = (MEMORY_MAP_ENTRY.pack(*entry, 0) for entry in memory_map)
    return head + b"".join(entries) + command_line.encode() + b"\0"
