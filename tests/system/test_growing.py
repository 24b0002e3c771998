"""A disk that grows while its guest runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from paravirt import Disk, Machine, MachineConfig
from paravirt.errors import ConfigError, DiskNotWritable
from tests.support.built import GUESTS
from tests.support.told import Told, check_tap

pytestmark = [pytest.mark.kvm]

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(bytes(MIB))
    return path


@pytest.mark.parametrize("by_owner", [False, True], ids=["by the host", "by the file's owner"])
@pytest.mark.parametrize("options", [{}, {"transport": "mmio"}], ids=["calls", "mmio"])
def test_a_disk_grows(path: Path, options: dict[str, Any], by_owner: bool) -> None:
    """DEV-19, and the driver uses what there is more of."""
    told = Told()
    config = MachineConfig(GUESTS / "growing.elf", disks=(Disk("data", path),), console=told, timeout_s=90, **options)
    with Machine(config) as machine:
        machine.start()
        told.wait(b"has 2048 sectors")
        if by_owner:
            os.truncate(path, 2 * MIB)
        machine.devices.grow("data", 2 * MIB)
        told.wait(b"has 4096 sectors")
        outcome = machine.wait()
    assert outcome.status == 0
    check_tap(told, 7)
    assert path.stat().st_size == 2 * MIB
    assert path.read_bytes()[-512:] == b"\x5a" * 512


@pytest.mark.parametrize(
    ("name", "size_bytes", "words"),
    [
        ("data", MIB // 2, "under a guest it only grows, by sectors of 512, and it has 1048576"),
        ("data", MIB + 1, "by sectors of 512"),
        ("other", 2 * MIB, "no disk 'other'"),
    ],
)
def test_what_cannot_be(path: Path, name: str, size_bytes: int, words: str) -> None:
    with (
        Machine(MachineConfig(GUESTS / "growing.elf", disks=(Disk("data", path),))) as machine,
        pytest.raises(ConfigError, match=words),
    ):
        machine.devices.grow(name, size_bytes)
    assert path.stat().st_size == MIB


def test_a_file_that_may_not_be_written_does_not_grow(path: Path) -> None:
    config = MachineConfig(GUESTS / "growing.elf", disks=(Disk("data", path, read_only=True),))
    with Machine(config) as machine, pytest.raises(DiskNotWritable, match="cannot grow to 2097152 bytes"):
        machine.devices.grow("data", 2 * MIB)
