"""The generated header: freestanding, pedantic C11 and C++, its numbers those of the declaration."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hypercall_abi import CONSTANTS, LIMITS, RECORDS, SERVICES
from hypercall_abi.emit import c
from hypercall_abi.schema import U8, U32, Record
from tests.hypercall_abi.compilers import INCLUDE, compile_c, each_compiler


@each_compiler
def test_compiles_freestanding(compiler: str, tmp_path: Path) -> None:
    """Alone, twice, with nothing of a C library but the two headers that every compiler brings."""
    source = tmp_path / "header.c"
    source.write_text('#include "paravirt_abi.h"\n#include "paravirt_abi.h"\nstruct pv_submission pv_used;\n')
    compile_c(compiler, source, tmp_path / "header.o", "-c", "-ffreestanding", "-nostdinc++")


@each_compiler
def test_numbers_are_the_declared_ones(compiler: str, tmp_path: Path) -> None:
    numbers: dict[str, int] = {}
    for constants in CONSTANTS.values():
        for value in constants:
            numbers[f"PV_{constants.name}_{value.name}".upper()] = getattr(constants, value.name)
    for limit in LIMITS.values():
        numbers[f"PV_LIMIT_{limit.name}"] = limit.number
        numbers[f"PV_LIMIT_ID_{limit.name}"] = limit.id
    for service in SERVICES.values():
        numbers[f"PV_SERVICE_{service.name}".upper()] = service.number
        for call in service.calls:
            numbers[f"PV_CALL_{service.name}_{call.name}".upper()] = service.number << 16 | call.number
    lines = ['#include "paravirt_abi.h"']
    for name, number in numbers.items():
        signed = f"{number}ll" if number < 0 else f"0x{number:x}ull"
        lines.append(f'PV_STATIC_ASSERT({name} == {signed}, "{name}");')
    source = tmp_path / "numbers.c"
    source.write_text("\n".join([*lines, "extern int pv_nothing;", ""]))
    compile_c(compiler, source, tmp_path / "numbers.o", "-c", "-ffreestanding")


def test_a_wrong_layout_does_not_compile(tmp_path: Path) -> None:
    """The assertions bite: a header in which a field became wider is refused."""
    text = (INCLUDE / "paravirt_abi.h").read_text()
    broken, count = re.subn(r"\tuint32_t flags; /\* Zero", "\tuint64_t flags; /* Zero", text, count=1)
    assert count == 1
    (tmp_path / "broken.c").write_text(broken)
    command = ["gcc", "-std=c11", "-c", str(tmp_path / "broken.c"), "-o", str(tmp_path / "broken.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "static assertion failed" in done.stderr


def test_every_field_and_size_is_asserted() -> None:
    text = (INCLUDE / "paravirt_abi.h").read_text()
    for record in RECORDS.values():
        name = f"struct pv_{record.name_}"
        assert f"sizeof({name}) == {record.size}," in text
        for f in record.fields:
            assert f"offsetof({name}, {f.name}) == {f.offset}," in text


def test_the_digest_changes_with_the_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    before = c.digest()
    wider = Record("boot_vcpus", "vCPUs.", "count" / U8[4] * "Not what it was.", "flags" / U32 * "Zero.")
    monkeypatch.setitem(RECORDS, "boot_vcpus", wider)
    assert c.digest() != before


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (4095, "4095"), (4096, "0x1000"), (-1, "(-1)"), (1 << 31, "0x80000000u"), (1 << 32, "0x100000000ull")],
)
def test_literals_have_a_type_that_holds_them(value: int, text: str) -> None:
    assert c.number(value) == text
