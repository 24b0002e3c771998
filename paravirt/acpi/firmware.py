"""All of a machine's ACPI tables, for a place in its memory."""

from __future__ import annotations

from collections.abc import Sequence

from .dsdt import Window, definitions
from .tables import fadt, madt, rsdp, table, xsdt

RSDP_BYTES, ALIGN = 64, 64
GENERATION_BYTES = 16


def tables_at(gpa: int, vcpus: int, windows: Sequence[Window], generation: bytes) -> bytes:
    """The bytes to be put at `gpa`, which the RSDP is the first of; `generation` is the VM generation id's 16 bytes."""
    generation_gpa = gpa + RSDP_BYTES
    placed = bytearray(generation.ljust(ALIGN, b"\0"))

    def place(data: bytes) -> int:
        at = generation_gpa + len(placed)
        placed.extend(data + bytes(-len(data) % ALIGN))
        return at

    dsdt_gpa = place(table(b"DSDT", 2, definitions(windows, generation_gpa)))
    listed = [place(fadt(dsdt_gpa)), place(madt(vcpus))]
    return rsdp(place(xsdt(listed))).ljust(RSDP_BYTES, b"\0") + bytes(placed)
