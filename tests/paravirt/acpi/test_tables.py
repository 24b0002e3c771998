"""ACPI tables: what iasl, which is others' reading of the specification, makes of them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from paravirt.acpi import aml, tables
from paravirt.acpi.dsdt import Window, definitions
from paravirt.acpi.firmware import reset_code, tables_at

GPA = 0xE_0000
WINDOWS = [Window(0xD000_0000 + 4096 * n, 512, 5 + n) for n in range(19)]


def disassembled(name: str, table: bytes, where: Path) -> str:
    """The table in ASL, or as a list of its fields."""
    if not shutil.which("iasl"):
        pytest.skip("there is no iasl (acpica-tools)")
    (where / f"{name}.aml").write_bytes(table)
    done = subprocess.run(["iasl", "-d", f"{name}.aml"], cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()
    return (where / f"{name}.dsl").read_text()


def test_definitions_compile_again_to_the_same(tmp_path: Path) -> None:
    table = tables.table(b"DSDT", 2, definitions(WINDOWS, GPA + 64))
    source = disassembled("dsdt", table, tmp_path)
    for found in ('"LNRO0005"', '"PVRT0001"', '"VM_Gen_Counter"', 'EisaId ("PNP0501")', r"Name (\_S5"):
        assert found in source
    assert source.count('"LNRO0005"') == len(WINDOWS)
    assert "0x00000017," in source, "the last line"
    # -oa: without the compiler's optimisations of names, which are shorter and mean the same.
    command = ["iasl", "-oa", "-p", "again", "dsdt.dsl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "0 Errors, 0 Warnings, 0 Remarks" in done.stdout, done.stdout
    assert (tmp_path / "again.aml").read_bytes()[36:] == table[36:]


@pytest.mark.parametrize(
    ("name", "table", "fields"),
    [
        ("facp", tables.fadt(GPA), ["Hardware Reduced (V5) : 1", "Reset Register Supported (V2) : 1"]),
        ("apic", tables.madt(3), ["Local Apic ID : 02", "I/O Apic ID"]),
        ("xsdt", tables.xsdt([GPA, GPA + 64]), ["ACPI Table Address   1"]),
    ],
)
def test_fixed_tables_are_read(name: str, table: bytes, fields: list[str], tmp_path: Path) -> None:
    listed = disassembled(name, table, tmp_path)
    assert all(field in listed for field in fields)
    assert "Incorrect checksum" not in listed


def test_each_table_is_found_from_the_pointer() -> None:
    generation = bytes(range(16))
    block = tables_at(GPA, 64, WINDOWS, generation)
    assert sum(block[:20]) % 256 == sum(block[:36]) % 256 == 0
    (xsdt_gpa,) = struct.unpack_from("<Q", block, 24)
    names = []
    for gpa in [xsdt_gpa, *struct.unpack_from("<2Q", block, xsdt_gpa - GPA + 36)]:
        signature, size = struct.unpack_from("<4sI", block, gpa - GPA)
        assert sum(block[gpa - GPA :][:size]) % 256 == 0
        names.append(signature)
        if signature == b"FACP":
            (dsdt_gpa,) = struct.unpack_from("<Q", block, gpa - GPA + 140)
    assert names == [b"XSDT", b"FACP", b"APIC"]
    assert block[dsdt_gpa - GPA :][:4] == b"DSDT"
    assert block[64:80] == generation
    assert len(block) < 0x2_0000 - 16, "the reset vector is behind them"


@pytest.mark.parametrize("size", [0, 62, 63, 4091, 4092, 70_000])
def test_lengths_count_themselves(size: int) -> None:
    encoded = aml.scope("_SB_", bytes(size))[1:]
    more = encoded[0] >> 6
    length = encoded[0] & (0x3F if more == 0 else 0xF)
    for n in range(more):
        length |= encoded[1 + n] << 4 + 8 * n
    assert length == len(encoded)


def test_the_reset_code_is_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "code").write_bytes(reset_code())
    command = ["objdump", "-D", "-b", "binary", "-m", "i8086", str(tmp_path / "code")]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split("\t")[2].split()[0] for line in listed.splitlines() if line.count("\t") == 2] == [
        "mov", "mov", "out", "hlt", "jmp"]  # fmt: skip
    assert "0x505a" in listed
