"""PVH: how a plain guest is entered (32-bit protected mode, paging off), after Xen's public interface.

The start info and what it points to lie in one block of guest memory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

MAGIC = 0x336EC578
VERSION = 1

# magic, version, flags, modules, their address, command line, ACPI, memory map, its entries, reserved
START_INFO = struct.Struct("<IIIIQQQQII")
MEMORY_MAP_ENTRY = struct.Struct("<QQII")  # first byte, size, kind of e820, reserved
MODULE = struct.Struct("<QQQQ")  # first byte, size, its command line, reserved


def start_info(
    gpa: int,
    command_line: str,
    memory_map: Sequence[tuple[int, int, int]],
    modules: Sequence[tuple[int, int]] = (),
    rsdp_gpa: int = 0,
) -> bytes:
    """The block to be put at `gpa`: start info, modules (gpa, size), memory map (gpa, size, kind), command line."""
    modules_gpa = gpa + START_INFO.size
    map_gpa = modules_gpa + len(modules) * MODULE.size
    text_gpa = map_gpa + len(memory_map) * MEMORY_MAP_ENTRY.size
    found_gpa = modules_gpa if modules else 0
    head = (MAGIC, VERSION, 0, len(modules), found_gpa, text_gpa, rsdp_gpa, map_gpa, len(memory_map), 0)
    listed = (MODULE.pack(*module, 0, 0) for module in modules)
    entries = (MEMORY_MAP_ENTRY.pack(*entry, 0) for entry in memory_map)
    return b"".join((START_INFO.pack(*head), *listed, *entries, command_line.encode(), b"\0"))
