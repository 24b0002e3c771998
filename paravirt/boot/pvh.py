"""PVH: how a plain guest is entered (32-bit protected mode, paging off), after Xen's public interface.

The start info and what it points to lie in one block of guest memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from construct import Int32ul, Int64ul, Struct

MAGIC = 0x336EC578
VERSION = 1
E820_RAM, E820_RESERVED = 1, 2

START_INFO = Struct(
    "magic" / Int32ul,
    "version" / Int32ul,
    "flags" / Int32ul,
    "module_count" / Int32ul,
    "modules_gpa" / Int64ul,
    "command_line_gpa" / Int64ul,
    "acpi_gpa" / Int64ul,
    "memory_map_gpa" / Int64ul,
    "memory_map_count" / Int32ul,
    "reserved" / Int32ul,
)
MEMORY_MAP_ENTRY = Struct("gpa" / Int64ul, "size_bytes" / Int64ul, "kind" / Int32ul, "reserved" / Int32ul)


def start_info(gpa: int, command_line: str, memory_map: Sequence[tuple[int, int, int]]) -> bytes:
    """The block to be put at `gpa`: start info, memory map (gpa, size, kind), command line."""
    map_gpa = gpa + START_INFO.sizeof()
    text_gpa = map_gpa + len(memory_map) * MEMORY_MAP_ENTRY.sizeof()
    head: bytes = START_INFO.build(
        {
            "magic": MAGIC,
            "version": VERSION,
            "flags": 0,
            "module_count": 0,
            "modules_gpa": 0,
            "command_line_gpa": text_gpa,
            "acpi_gpa": 0,
            "memory_map_gpa": map_gpa,
            "memory_map_count": len(memory_map),
            "reserved": 0,
        }
    )
    entries = (
        MEMORY_MAP_ENTRY.build({"gpa": start, "size_bytes": size, "kind": kind, "reserved": 0})
        for start, size, kind in memory_map
    )
    return head + b"".join(entries) + command_line.encode() + b"\0"
