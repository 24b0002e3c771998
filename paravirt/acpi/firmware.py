"""All of a machine's ACPI tables, for a place in its memory, and the one piece of code that a PC's firmware has."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .._native import lib
from .dsdt import Window, definitions
from .tables import fadt, madt, rsdp, table, xsdt

RSDP_BYTES, ALIGN = 64, 64
RESET_VECTOR_GPA = 0xF_FFF0
GENERATION_BYTES = 16


def generation_place(gpa: int) -> int:
    """Where the VM generation id is of tables that begin at `gpa`."""
    return gpa + RSDP_BYTES


def tables_at(gpa: int, vcpus: int, windows: Sequence[Window], generation: bytes) -> bytes:
    """The bytes to be put at `gpa`, which the RSDP is the first of; `generation` is the VM generation id's 16 bytes."""
    generation_gpa = generation_place(gpa)
    placed = bytearray(generation.ljust(ALIGN, b"\0"))

    def place(data: bytes) -> int:
        at = generation_gpa + len(placed)
        placed.extend(data + bytes(-len(data) % ALIGN))
        return at

    dsdt_gpa = place(table(b"DSDT", 2, definitions(windows, generation_gpa)))
    listed = [place(fadt(dsdt_gpa)), place(madt(vcpus))]
    return rsdp(place(xsdt(listed))).ljust(RSDP_BYTES, b"\0") + bytes(placed)


def reset_code() -> bytes:
    """What a kernel runs in real mode that resets a PC as of old: Linux does where ACPI knows no PC hardware.

    ``mov dx, PORT; mov al, VALUE; out dx, al``, then ``hlt`` for ever.
    """
    return struct.pack("<BHBBBBH", 0xBA, lib.PV_RESET_PORT, 0xB0, lib.PV_RESET_VALUE, 0xEE, 0xF4, 0xFDEB)
