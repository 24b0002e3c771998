"""How a vCPU begins: making its engine, and the states of entry, which the CPU itself is led into.

Unicorn's registers do not carry a privilege level, so it is an IRET in a scratch page, which no guest
sees, that brings the vCPU to its level, or to 32-bit mode.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from .emulator import Context, Emulator
from .paging import PAGE

if TYPE_CHECKING:
    from .memory import Memory
    from .vcpu import Vcpu

MODE_USER, MODE_SUPERVISOR, MODE_PVH = range(3)
TOP = 1 << 32
SCRATCH_GPA = TOP - PAGE
_FRAME, _LANDING, _GDT = 0x100, 0x200, 0x300  # in the scratch page
LANDING_GPA = SCRATCH_GPA + _LANDING
_IRETQ = b"\x48\xcf"
_CODE_32, _DATA_32 = 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF
_BUSY_TSS = 0x8B00
_FLAGS_ALWAYS, FLAG_IF = 2, 1 << 9

_CR0_PVH, _CR0_LONG, _CR4_LONG, _EFER_LONG = 0x11, 0x8001_0033, 0x620, 0xD00
MSR_EFER = 0xC000_0080
_GENERAL = "RAX RBX RCX RDX RSI RDI RBP R8 R9 R10 R11 R12 R13 R14 R15".split()


def hole(memory: Memory) -> tuple[int, int]:
    """The range below 4 GiB that is not RAM, but for the scratch page."""
    low_end = memory.ranges[0][0] + memory.ranges[0][1]
    return low_end, SCRATCH_GPA


def make_emulator(memory: Memory, vcpu: Vcpu) -> Emulator:
    """A CPU with guest memory in its places."""
    emulator = Emulator()
    at = memory.address
    for gpa, size in memory.ranges:
        emulator.map(gpa, size, at)
        at += size
    for region in memory.regions:
        emulator.map(region.gpa, region.size_bytes, region.address, read_only=region.read_only)
    base, end = hole(memory)
    emulator.map_device(
        base,
        end - base,
        lambda offset, size: vcpu.hole_read(base + offset, size),
        lambda offset, size, value: vcpu.hole_write(base + offset, size, value),
    )
    emulator.map(SCRATCH_GPA, PAGE)
    emulator.write(SCRATCH_GPA, _IRETQ.ljust(PAGE, b"\xf4"))
    emulator.write(SCRATCH_GPA + _GDT, struct.pack("<3Q", 0, _CODE_32, _DATA_32))
    return emulator


def _land(vcpu: Vcpu, cs: int, ss: int) -> None:
    """Loads the segments `cs` and `ss`, and with them level and width."""
    frame = struct.pack("<5Q", LANDING_GPA, cs, _FLAGS_ALWAYS, SCRATCH_GPA + _FRAME, ss)
    vcpu.emulator.write(SCRATCH_GPA + _FRAME, frame)
    vcpu.set("RSP", SCRATCH_GPA + _FRAME)
    vcpu.in_scratch = True
    try:
        vcpu.set("RIP", SCRATCH_GPA)
        while vcpu.get("RIP") != LANDING_GPA:  # a stop that came too late for the run before comes now
            vcpu.emulator.run(vcpu.get("RIP"))
        for name in ("DS", "ES", "FS", "GS"):
            vcpu.set(name, ss)
    finally:
        vcpu.in_scratch = False


def _registers(vcpu: Vcpu, rip: int, rsp: int, flags: int) -> None:
    for name in _GENERAL:
        vcpu.set(name, 0)
    for number in range(16):
        vcpu.set(f"XMM{number}", 0)
    vcpu.set("FPCW", 0x37F)
    vcpu.set("FPSW", 0)
    vcpu.set("FPTAG", 0xFFFF)
    vcpu.set("MXCSR", 0x1F80)
    vcpu.set("EFLAGS", flags)
    vcpu.set("RSP", rsp)
    vcpu.set("RIP", rip)


def begin(vcpu: Vcpu, entry_gpa: int, stack_gpa: int, argument: int, mode: Context | None) -> None:
    """The state that the machine's image is entered in, or that of a `mode` (see :func:`capture`)."""
    setup = vcpu.setup
    pvh = setup["mode"] == MODE_PVH and mode is None
    vcpu.emulator.restore(mode or vcpu.fresh)
    if mode is None:
        vcpu.emulator.set_msr(MSR_EFER, _EFER_LONG)
        vcpu.set("CR4", _CR4_LONG)
        vcpu.set("CR0", _CR0_LONG)
        if pvh:
            _begin_pvh(vcpu)
        else:
            _begin_long(vcpu, setup)
    _registers(vcpu, entry_gpa, stack_gpa, _FLAGS_ALWAYS | (0 if pvh else FLAG_IF))
    vcpu.set("RBX" if pvh else "RDI", argument)
    vcpu.apic.begin()
    vcpu.halted = False


def _begin_long(vcpu: Vcpu, setup: dict[str, Any]) -> None:
    user = setup["mode"] == MODE_USER
    vcpu.emulator.set_table("GDTR", setup["gdt_gpa"], setup["gdt_bytes"] - 1)
    vcpu.emulator.set_table("IDTR", setup["idt_gpa"], PAGE - 1)
    vcpu.emulator.set_table("TR", setup["tss_gpa"], setup["tss_bytes"] - 1, 0x28, _BUSY_TSS)
    _land(vcpu, *((0x23, 0x1B) if user else (0x08, 0x10)))
    vcpu.set("CR3", setup["page_table_gpa"])  # also forgets what was translated in the scratch page


def _begin_pvh(vcpu: Vcpu) -> None:
    vcpu.emulator.set_table("GDTR", SCRATCH_GPA + _GDT, 23)
    _land(vcpu, 0x08, 0x10)
    vcpu.set("CR0", _CR0_PVH)
    vcpu.emulator.set_msr(MSR_EFER, 0)
    vcpu.set("CR4", 0)
    vcpu.emulator.set_table("GDTR", 0, 0)
    vcpu.set("CR3", 0)


def capture(vcpu: Vcpu) -> Context:
    """The mode of a vCPU at a trap, for another that starts in it (VCPU-6)."""
    return vcpu.emulator.save()
