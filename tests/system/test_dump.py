"""Cores of machines that run, read by another hand."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from paravirt.boot.bundled import GUESTS
from paravirt.cli import main
from paravirt.config import MachineConfig
from paravirt.control.client import machines
from paravirt.control.server import Published
from paravirt.debug.debugger import debugger_of
from paravirt.errors import OutputError
from paravirt.machine import Machine
from tests.support.gdb import symbols
from tests.support.waiting import wait_for

pytestmark = pytest.mark.kvm
SPIN = GUESTS / "spin.elf"
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_a_running_machine_is_dumped_and_runs_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written: list[bytes] = []
    with Machine(MachineConfig(SPIN, name="spin", console=written.append)) as machine, Published(machine):
        machine.start()
        until = time.monotonic() + PATIENCE_S
        while not machines() or not written:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert main(["dump", "spin", "core"]) == 0
        assert main(["dump", "spin", "core"]) == 0, "an old one is replaced"
        assert not debugger_of(machine).stopped
        wait_for(lambda: not machine.vcpus[0].native.hold, "the vCPU is still held")
    assert "of memory" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"core", "paravirt"}
    check_core(tmp_path / "core")


def check_core(core: Path) -> None:
    """It has the code where it lay and the vCPU where it spun."""
    main_at = symbols(SPIN)["pv_main"]
    with core.open("rb") as file, SPIN.open("rb") as image:
        elf = ELFFile(file)
        assert elf["e_type"] == "ET_CORE"
        notes, *loads = elf.iter_segments()
        data = notes.data()
        assert data[12:17] == b"CORE\0"
        (rip,) = struct.unpack_from("<Q", data, 20 + 112 + 16 * 8)  # of elf_prstatus, after the note's head
        assert main_at <= rip < main_at + 64
        assert b"QEMU\0" in data
        text = next(s for s in ELFFile(image).iter_segments() if s["p_type"] == "PT_LOAD" and s["p_flags"] & 1)
        file.seek(loads[0]["p_offset"] + text["p_vaddr"])
        assert file.read(text["p_filesz"]) == text.data()
    assert core.stat().st_size > 128 << 20
    assert core.stat().st_blocks * 512 < 8 << 20


def test_a_core_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with Machine(MachineConfig(SPIN)) as machine:
        machine.start()
        with pytest.raises(OutputError, match="cannot write the core .*give another FILE"):
            debugger_of(machine).write_core(tmp_path / "no" / "core")
        (tmp_path / "there").mkdir()
        with pytest.raises(OutputError, match="Is a directory"):
            debugger_of(machine).write_core(tmp_path / "there")
        assert not debugger_of(machine).stopped
    assert os.listdir(tmp_path) == ["there"]
