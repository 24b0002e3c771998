"""The ABI as the C core has it is the declaration."""

from __future__ import annotations

import pytest

from hypercall_abi import CONSTANTS, RECORDS, SERVICES, VERSION
from hypercall_abi.emit.c import digest
from paravirt import abi
from paravirt._native import ffi, lib


def test_the_core_is_of_this_declaration() -> None:
    assert ffi.string(lib.pv_abi_digest()).decode() == digest()
    assert abi.VERSION == VERSION


@pytest.mark.parametrize("name", RECORDS)
def test_layouts(name: str) -> None:
    record = RECORDS[name]
    assert abi.size_of(name) == record.size
    for field in record.fields:
        assert ffi.offsetof(f"struct pv_{name}", field.name) == field.offset


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants(name: str) -> None:
    constants = abi.Constants(name.upper())
    for value in CONSTANTS[name]:
        assert getattr(constants, value.name) == getattr(CONSTANTS[name], value.name)


def test_services() -> None:
    assert {n: s.number for n, s in abi.SERVICES.items()} == {n: s.number for n, s in SERVICES.items()}
    for name, service in SERVICES.items():
        mine = abi.SERVICES[name]
        assert mine.optional == service.optional
        assert mine.calls == {c.name: (c.number, len(c.registers)) for c in service.calls}
        assert abi.call_name(service.id(service.calls[0])) == f"{name}.{service.calls[0].name}"
    assert abi.call_name(0x12345678) == "unknown 0x12345678"


def test_records_from_and_to_bytes() -> None:
    data = abi.build("boot_memory", gpa=1, size_bytes=2, kind=3)
    assert data == RECORDS["boot_memory"].build({"gpa": 1, "size_bytes": 2, "kind": 3, "flags": 0})
    assert abi.parse("boot_memory", data + b"more").size_bytes == 2
    with pytest.raises(ValueError, match="24 bytes, not 23"):
        abi.parse("boot_memory", data[:-1])


def test_another_declaration_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "_HEADER", __file__)
    with pytest.raises(ImportError, match="build it again"):
        abi._check_digest()
