"""The description of the target, and registers in its order."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from paravirt._native import ffi
from paravirt.debug import registers


def test_the_description_is_what_is_packed() -> None:
    target = ElementTree.fromstring(registers.description())
    described = [(reg.attrib["name"], int(reg.attrib["bitsize"])) for reg in target.iter("reg")]
    assert described == [(register.name, register.bits) for register in registers.registers()]
    core = target.find("feature[@name='org.gnu.gdb.i386.core']")
    assert core is not None
    names = [reg.attrib["name"] for reg in core.iter("reg")]
    assert names[:8] == "rax rbx rcx rdx rsi rdi rbp rsp".split()
    assert names[16:24] == "rip eflags cs ss ds es fs gs".split()
    assert len(registers.pack(ffi.new("struct pv_registers *"))) == sum(bits for _, bits in described) // 8


def test_each_register_has_a_place_of_its_own() -> None:
    values = ffi.new("struct pv_registers *")
    for number, register in enumerate(registers.registers()):
        register.write(values, bytes((number + 1,)) * (register.bits // 8))
    packed = registers.pack(values)
    expected = b"".join(bytes((n + 1,)) * (r.bits // 8) for n, r in enumerate(registers.registers()))
    assert packed == expected
    other = ffi.new("struct pv_registers *")
    registers.unpack(packed, other)
    assert registers.pack(other) == packed
    assert (values.general[7], values.rip) == (0x0808080808080808, 0x1111111111111111)


def test_half_a_register_is_refused() -> None:
    with pytest.raises(ValueError, match="half"):
        registers.unpack(bytes(12), ffi.new("struct pv_registers *"))
