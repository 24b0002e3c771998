"""What a triple fault was probably about: the guest had no gate that could have said so itself."""

from __future__ import annotations

from typing import Any

from .boot.image import Image
from .boot.layout import Layout
from .config import PAGE_BYTES
from .memory import GuestMemory

# First byte of instructions that CPL 3 may not use here, and what does the same.
PRIVILEGED = {
    0xF4: "`hlt` is not for CPL 3; wait by vcpu.block",
    0xFA: "`cli` is not for CPL 3; hold upcalls back by upcall_mask",
    0xFB: "`sti` is not for CPL 3; hold upcalls back by upcall_mask",
}
IN_OUT = (*range(0xE4, 0xE8), *range(0xEC, 0xF0))


def _writable(image: Image, layout: Layout, memory: GuestMemory, gpa: int) -> bool:
    if gpa < PAGE_BYTES or not memory.contains(gpa, 8) or layout.time_page_gpa <= gpa < layout.host_end_gpa:
        return False
    pages = (
        (s.gpa // PAGE_BYTES * PAGE_BYTES, s.end_gpa + -s.end_gpa % PAGE_BYTES, s.writable) for s in image.segments
    )
    return all(writable for start, end, writable in pages if start <= gpa < end)


def triple_fault(image: Image, layout: Layout, memory: GuestMemory, user: bool, result: Any) -> str:
    """A hint for a ``struct pv_exit``; the guest may have mapped memory otherwise, so it may be wrong."""
    if result.rsp < 8 or not _writable(image, layout, memory, result.rsp - 8):
        return f"rsp {result.rsp:#x} is not in writable memory: the stack overflowed or was never set"
    if result.cr2:
        return f"the last page fault was at {result.cr2:#x}"
    opcode = memory.read(result.rip, 1)[0] if memory.contains(result.rip, 1) else 0
    if user and opcode in IN_OUT:
        return "CPL 3 may use the trap's and the doorbell's port alone, with 32 bits; take them from boot_abi"
    if user and opcode in PRIVILEGED:
        return PRIVILEGED[opcode]
    return "look there with objdump -d"
