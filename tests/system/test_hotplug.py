"""Devices that arrive and leave while their guest runs (DEV-22, DEV-23)."""

from __future__ import annotations

from pathlib import Path

import pytest

from paravirt import Disk, Machine, MachineConfig
from paravirt.errors import ConfigError, DeviceNotInManifest, DiskNotFound
from tests.support.built import GUESTS
from tests.support.told import PATIENCE_S, Told

pytestmark = [pytest.mark.kvm]


@pytest.fixture
def late(tmp_path: Path) -> Disk:
    path = tmp_path / "late"
    path.write_bytes(bytes(1 << 20))
    return Disk("late", path)


def test_a_disk_comes_and_goes(late: Disk) -> None:
    told = Told()
    with Machine(MachineConfig(GUESTS / "hotplug.elf", console=told, timeout_s=90)) as machine:
        machine.start()
        for turn in range(2):
            told.wait(f"waits {turn}".encode())
            machine.devices.arrive(late)
            with pytest.raises(ConfigError, match="has a disk 'late'; let it leave first"):
                machine.devices.arrive(late)
            told.wait(b"in use")
            told.text.clear()
            assert machine.devices.leave("late", PATIENCE_S)
            with pytest.raises(ConfigError, match="no device 'late'"):
                machine.devices.leave("late", 0)
            with late.path.open("r+b"):
                pass
        outcome = machine.wait()
        machine.stop()
    assert outcome.status == 0, told.text.decode()
    assert b"not ok" not in told.text


def test_a_guest_that_keeps_its_device(late: Disk) -> None:
    """It stays asked; the machine ends in order all the same."""
    with Machine(MachineConfig(GUESTS / "spin.elf")) as machine, pytest.raises(DeviceNotInManifest):
        machine.devices.arrive(late)
    told = Told()
    config = MachineConfig(GUESTS / "growing.elf", disks=(late.replace(name="data"),), console=told)
    with Machine(config) as machine:
        machine.start()
        told.wait(b"has 2048 sectors")
        assert not machine.devices.leave("data", 0.01)


def test_a_disk_that_cannot_be_opened_leaves_nothing(late: Disk, tmp_path: Path) -> None:
    told = Told()
    with Machine(MachineConfig(GUESTS / "hotplug.elf", console=told)) as machine:
        machine.start()
        told.wait(b"waits 0")
        with pytest.raises(DiskNotFound):
            machine.devices.arrive(late.replace(path=tmp_path / "none"))
        machine.devices.arrive(late)
        told.wait(b"in use")


def test_over_virtio_mmio_nothing_arrives(late: Disk) -> None:
    config = MachineConfig(GUESTS / "growing.elf", disks=(late.replace(name="data"),), transport="mmio")
    with Machine(config) as machine, pytest.raises(ConfigError, match="over virtio-mmio devices do not arrive"):
        machine.devices.arrive(late)
