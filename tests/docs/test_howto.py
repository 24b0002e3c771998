"""The pages for vendors: what they compile compiles, from the files and with the flags that they name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from hypercall_abi import VERSION
from hypercall_abi.services import console, system
from paravirt.boot.notes import parse_notes
from tests.docs.blocks import blocks, carry_out, environment
from tests.support.tree import ROOT


@pytest.mark.parametrize(
    ("page", "commands"),
    [
        ("host-vendor.md", 3),
        pytest.param("disks.md", 2, marks=pytest.mark.kvm),
        pytest.param("trace.md", 3, marks=pytest.mark.kvm),
        pytest.param("debug.md", 3, marks=pytest.mark.kvm),
        pytest.param("record-and-replay.md", 5, marks=pytest.mark.kvm),
        pytest.param("ship-an-extension.md", 5, marks=pytest.mark.kvm),
        pytest.param("guest-vendor.md", 14, marks=pytest.mark.kvm),
    ],
)
def test_howto(page: str, commands: int, tmp_path: Path) -> None:
    directory = tmp_path / "vendor"
    directory.mkdir()
    env = environment(tmp_path) | {"PARAVIRT": str(ROOT)}
    assert carry_out(ROOT / "docs/howto" / page, directory, env) == commands


def test_the_note_in_assembler(tmp_path: Path) -> None:
    """It assembles, and a host reads in it what the page says of it."""
    (source,) = (block for block in blocks(ROOT / "docs/abi/notes.md") if block.kind == "asm")
    (tmp_path / source.name).write_text(source.text)
    subprocess.run(["gcc", "-c", source.name, "-o", "notes.o"], cwd=tmp_path, check=True, timeout=60)
    with (tmp_path / "notes.o").open("rb") as file:
        section = ELFFile(file).get_section_by_name(".note.Paravirt")
        assert section
        assert (section["sh_type"], section["sh_addralign"]) == ("SHT_NOTE", 4)
        notes = parse_notes([(section.data(), 4)])
    assert notes.version == VERSION
    assert notes.services == {console.SERVICE.number: 0, system.SERVICE.number: 0}
