"""Delivery of interrupts and exceptions through the guest's IDT, which Unicorn leaves to its user.

64-bit mode, to the same privilege level: what guests of this ABI have (BOOT-5).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .paging import PageFault, canonical

if TYPE_CHECKING:
    from .vcpu import Vcpu

DIVIDE, DEBUG, NMI, BREAKPOINT, OVERFLOW = range(5)
INVALID_OPCODE, DOUBLE_FAULT, PROTECTION, PAGE_FAULT = 6, 8, 13, 14
WITH_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17, 21, 29, 30))
CONTRIBUTORY = frozenset((0, 10, 11, 12, 13))

IO_MAP_OFFSET = 102
"""In a TSS: where its map of ports begins."""

_GATE = struct.Struct("<HHBBHII")
_INTERRUPT_GATE, _TRAP_GATE = 14, 15
_PRESENT, _CODE, _LONG = 0x80, 0x18, 0x20
FLAG_TF, FLAG_IF, FLAG_NT, FLAG_RF, FLAG_VM = 1 << 8, 1 << 9, 1 << 14, 1 << 16, 1 << 17
EFER_LMA = 1 << 10


class TripleFault(Exception):
    """No gate could take an exception."""


class Unsupported(Exception):
    """What this software vCPU does not do; the text says it."""


class _Refused(Exception):
    """The gate cannot be used: exception `vector` with `code` instead."""

    def __init__(self, vector: int, code: int) -> None:
        super().__init__(vector)
        self.vector, self.code = vector, code


def deliver(vcpu: Vcpu, vector: int, code: int = 0, *, software: bool = False) -> None:
    """Enters the handler of `vector`; an exception on the way becomes the double fault, then TripleFault.

    `software`: the guest asked for it by an instruction.  Raises Unsupported.
    """
    first = vector
    while True:
        try:
            _enter(vcpu, vector, code, software)
            return
        except PageFault as fault:
            vcpu.set("CR2", fault.address)
            found, code = (PAGE_FAULT, fault.code) if fault.code is not None else (PROTECTION, 0)
        except _Refused as refused:
            found, code = refused.vector, refused.code
        if vector == DOUBLE_FAULT:
            raise TripleFault
        pair = first == PAGE_FAULT and found in (*CONTRIBUTORY, PAGE_FAULT)
        pair |= first in CONTRIBUTORY and found in CONTRIBUTORY
        first = vector = DOUBLE_FAULT if pair else found
        code = 0 if pair else code
        software = False


def _enter(vcpu: Vcpu, vector: int, code: int, software: bool) -> None:
    if not vcpu.efer & EFER_LMA:
        raise TripleFault  # an entry by PVH that has not made its tables yet
    base, limit = vcpu.get("IDTR")
    index_code = vector << 3 | 2
    if vector * 16 + 15 > limit:
        raise _Refused(PROTECTION, index_code)
    low, selector, stack, access, middle, high, _ = _GATE.unpack(vcpu.read(base + vector * 16, 16, system=True))
    if access & 0x1F not in (_INTERRUPT_GATE, _TRAP_GATE) or (software and access >> 5 & 3 < vcpu.cpl):
        raise _Refused(PROTECTION, index_code)
    if not access & _PRESENT:
        raise _Refused(11, index_code)
    selector = _check_target(vcpu, selector)
    entry = low | middle << 16 | high << 32
    if not canonical(entry):
        raise _Refused(PROTECTION, 0)
    flags, rsp = vcpu.get("EFLAGS"), vcpu.get("RSP")
    top = _stack(vcpu, stack & 7) if stack & 7 else rsp
    frame = struct.pack("<5Q", vcpu.get("RIP"), vcpu.get("CS"), flags, rsp, vcpu.get("SS"))
    if vector in WITH_ERROR_CODE and not software:
        frame = struct.pack("<Q", code) + frame
    top = (top & -16) - len(frame)
    vcpu.write(top, frame)
    vcpu.set("RSP", top)
    vcpu.set("EFLAGS", flags & ~(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (FLAG_IF if access & 1 == 0 else 0)))
    if selector != vcpu.get("CS"):
        vcpu.set("CS", selector)
    vcpu.set("RIP", entry)


def _check_target(vcpu: Vcpu, selector: int) -> int:
    """The selector to enter a gate's code segment with: 64-bit, and of the level that runs."""
    base, limit = vcpu.get("GDTR")
    if selector & 4 or selector < 8 or (selector | 7) > limit:
        raise _Refused(PROTECTION, selector & ~3)
    access, flags = struct.unpack_from("<BB", vcpu.read(base + (selector & ~7), 8, system=True), 5)
    level = access >> 5 & 3
    if access & _CODE != _CODE or not flags & _LONG or level > vcpu.cpl:
        raise _Refused(PROTECTION, selector & ~3)
    if not access & _PRESENT:
        raise _Refused(11, selector & ~3)
    if level != vcpu.cpl and not access & 4:
        raise Unsupported("a gate to a more privileged level")
    return selector & ~3 | vcpu.cpl


def _stack(vcpu: Vcpu, number: int) -> int:
    """Stack `number` of the TSS's table (IST)."""
    base, limit = vcpu.get("TR")
    offset = 28 + 8 * number
    if offset + 7 > limit:
        raise _Refused(10, 0)
    (top,) = struct.unpack("<Q", vcpu.read(base + offset, 8, system=True))
    return int(top)


def forbidden(vcpu: Vcpu, port: int, width: int) -> bool:
    """Whether the TSS keeps the level that runs from a port; the library asks nobody."""
    if vcpu.cpl <= vcpu.get("EFLAGS") >> 12 & 3:
        return False
    base, limit = vcpu.get("TR")
    at = IO_MAP_OFFSET
    if limit < at + 1:
        return True
    at = int.from_bytes(vcpu.read(base + at, 2, system=True), "little") + port // 8
    if at + 1 > limit:
        return True
    bits = int.from_bytes(vcpu.read(base + at, 2, system=True), "little") >> port % 8
    return bool(bits & ((1 << width) - 1))
