"""A vCPU's registers as debuggers know them: their names and order, gdb's description of the target, and packing.

Both accelerators fill in the C core's ``struct pv_registers``, which is what is read and written here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from .._native import ffi

GENERAL = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15".split()
SEGMENTS = "cs ss ds es fs gs".split()
FPU = "fctrl fstat ftag fiseg fioff foseg fooff fop".split()
CONTROL = "cr0 cr2 cr3 cr4 cr8".split()
FLAG_TF = 1 << 8
_FLAGS = {0: "CF", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF", 14: "NT", 16: "RF"}


class Register(NamedTuple):
    """One of them: of `bits` bits, in the feature `feature` of the description; `at` finds its bytes."""

    name: str
    bits: int
    kind: str
    feature: str
    at: Callable[[Any], Any]

    def read(self, registers: Any) -> bytes:
        """Its bytes, the lowest first."""
        return bytes(self.at(registers)[0 : self.bits // 8])

    def write(self, registers: Any, value: bytes) -> None:
        """The same the other way; what is above its width becomes zero."""
        place = self.at(registers)
        place[:] = value.ljust(len(place), b"\0")


def _field(name: str, index: int | None = None) -> Callable[[Any], Any]:
    def at(registers: Any) -> Any:
        struct = ffi.typeof("struct pv_registers")
        kind = dict(struct.fields)[name].type
        place = ffi.addressof(registers[0], name)
        if index is None:
            return ffi.buffer(place, ffi.sizeof(kind))
        size = ffi.sizeof(kind.item)
        return ffi.buffer(ffi.cast("char *", place) + index * size, size)

    return at


@cache
def registers() -> tuple[Register, ...]:
    """All of them, in the order of their numbers."""
    core, sse = "org.gnu.gdb.i386.core", "org.gnu.gdb.i386.sse"
    bases, control = "org.gnu.gdb.i386.segments", "paravirt.control"
    in_order = "rax rbx rcx rdx rsi rdi rbp rsp".split() + GENERAL[8:]
    return (
        *(
            Register(n, 64, "data_ptr" if n in ("rbp", "rsp") else "int64", core, _field("general", GENERAL.index(n)))
            for n in in_order
        ),
        Register("rip", 64, "code_ptr", core, _field("rip")),
        Register("eflags", 32, "flags", core, _field("rflags")),
        *(Register(name, 32, "int32", core, _field("segments", n)) for n, name in enumerate(SEGMENTS)),
        *(Register(f"st{n}", 80, "i387_ext", core, _field("st", n)) for n in range(8)),
        *(Register(name, 32, "int", core, _field("fpu", n)) for n, name in enumerate(FPU)),
        *(Register(f"xmm{n}", 128, "vec128", sse, _field("xmm", n)) for n in range(16)),
        Register("mxcsr", 32, "int", sse, _field("mxcsr")),
        Register("fs_base", 64, "int64", bases, _field("fs_base")),
        Register("gs_base", 64, "int64", bases, _field("gs_base")),
        *(Register(name, 64, "int64", control, _field("control", n)) for n, name in enumerate(CONTROL)),
        Register("efer", 64, "int64", control, _field("efer")),
    )


_VECTOR = """\
<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>\
<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>\
<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>\
<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>\
<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>\
<field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>"""


@cache
def description() -> bytes:
    """The target as gdb wants it described: a document of its own (``target.xml``)."""
    flags = "".join(f'<field name="{name}" start="{bit}" end="{bit}"/>' for bit, name in _FLAGS.items())
    types = {"org.gnu.gdb.i386.core": f'<flags id="flags" size="4">{flags}</flags>', "org.gnu.gdb.i386.sse": _VECTOR}
    parts = ['<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">']
    parts.append("<architecture>i386:x86-64</architecture>")
    for feature in dict.fromkeys(register.feature for register in registers()):
        parts.append(f'<feature name="{feature}">{types.get(feature, "")}')
        parts += [
            f'<reg name="{r.name}" bitsize="{r.bits}" type="{r.kind}"/>' for r in registers() if r.feature == feature
        ]
        parts.append("</feature>")
    parts.append("</target>")
    return "".join(parts).encode()


def pack(values: Any) -> bytes:
    """All registers, one after the other."""
    return b"".join(register.read(values) for register in registers())


def unpack(data: bytes, values: Any) -> None:
    """The same the other way; the last may be missing.  Raises ValueError for half a register."""
    for register in registers():
        if not data:
            return
        size = register.bits // 8
        if len(data) < size:
            raise ValueError("half a register")
        register.write(values, data[:size])
        data = data[size:]


def by_name(values: Any, name: str) -> int:
    """A register as a number."""
    return int.from_bytes(next(r for r in registers() if r.name == name).read(values), "little")
