"""Devices that arrive and leave while their guest runs (DEV-22, DEV-23)."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.devices.types import DEVICE_TYPE
from paravirt import Disk, Machine, MachineConfig
from paravirt.attachments.net import Net
from paravirt.attachments.pmem import Pmem
from paravirt.devices.block import BlockDevice
from paravirt.devices.net import NetDevice
from paravirt.errors import ConfigError, DeviceNotInManifest, DiskNotFound, GuestReset, HostCallFailed
from tests.support.built import GUESTS
from tests.support.elf import BLOCK, NET, OPTIONAL, SPIN, manifest, require
from tests.support.guests import RESET, call, write_guest
from tests.support.told import PATIENCE_S, Told

pytestmark = [pytest.mark.kvm]


def take_turns(machine: Machine, told: Told, late: Disk) -> Iterator[None]:
    """The disk arrives, twice; each time it is in use before it is the caller's to take away."""
    for turn in range(2):
        told.wait(f"waits {turn}".encode())
        machine.devices.arrive(late)
        told.wait(b"in use")
        told.text.clear()
        yield


@pytest.fixture
def late(tmp_path: Path) -> Disk:
    path = tmp_path / "late"
    path.write_bytes(bytes(1 << 20))
    return Disk("late", path)


def test_a_disk_comes_and_goes(late: Disk) -> None:
    told = Told()
    with Machine(MachineConfig(GUESTS / "hotplug.elf", console=told, timeout_s=90)) as machine:
        machine.start()
        for _ in take_turns(machine, told, late):
            with pytest.raises(ConfigError, match="has a disk 'late'; let it leave first"):
                machine.devices.arrive(late)
            assert machine.devices.leave("late", PATIENCE_S)
            with pytest.raises(ConfigError, match="no device 'late'"):
                machine.devices.leave("late", 0)
            with late.path.open("r+b"):
                pass
        assert machine.wait().status == 0, told.text.decode()


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


def test_a_disk_that_goes_later_can_be_had_again(late: Disk) -> None:
    """Whoever asked had waited long enough; its file is free all the same."""
    told = Told()
    with Machine(MachineConfig(GUESTS / "hotplug.elf", console=told, timeout_s=90)) as machine:
        machine.start()
        for _ in take_turns(machine, told, late):
            machine.devices.leave("late", 0)
        assert machine.wait().status == 0, told.text.decode()


def test_it_is_looked_at_while_it_goes(late: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are not asked for while its back end ends: their memory would be gone."""
    ends = threading.Event()
    met: list[str] = []
    detach, statistics = BlockDevice.detach, BlockDevice.statistics

    def slow_detach(device: BlockDevice) -> None:
        ends.set()
        time.sleep(0.2)  # for looks that would come
        detach(device)
        ends.clear()

    def watched(device: BlockDevice) -> dict[str, int]:
        if ends.is_set() and threading.current_thread() is looker:
            met.append(device.name)
        return statistics(device)

    def look() -> None:
        while not over.is_set():
            machine.statistics()

    monkeypatch.setattr(BlockDevice, "detach", slow_detach)
    monkeypatch.setattr(BlockDevice, "statistics", watched)
    told, over, looker = Told(), threading.Event(), threading.Thread(target=look)
    with Machine(MachineConfig(GUESTS / "hotplug.elf", console=told)) as machine:
        machine.start()
        machine.devices.arrive(late)
        told.wait(b"in use")
        looker.start()
        try:
            assert machine.devices.leave("late", PATIENCE_S)
        finally:
            over.set()
            looker.join()
    assert met == []


def test_a_console_looks_while_a_device_goes(late: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a back end waits for at its end may look at the machine: a caller's console, a handler of the log."""
    detach = BlockDevice.detach
    looks: list[str] = []

    def patient_detach(device: BlockDevice) -> None:
        looker = threading.Thread(target=lambda: looks.append(machine.statistics().devices[0].name), daemon=True)
        looker.start()
        looker.join(PATIENCE_S)
        detach(device)

    told = Told()
    with Machine(MachineConfig(GUESTS / "hotplug.elf", console=told)) as machine:
        machine.start()
        machine.devices.arrive(late)
        told.wait(b"in use")
        with monkeypatch.context() as patched:
            patched.setattr(BlockDevice, "detach", patient_detach)
            machine.devices.leave("late", PATIENCE_S)
            assert looks == ["late"]
        assert machine.statistics().devices[0].more["requests"] > 0


def test_devices_that_come_at_once(late: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them is told that the other one is there."""
    attach = BlockDevice.attach

    def slow_attach(device: BlockDevice, native: Any) -> None:
        time.sleep(0.2)  # for the other one
        attach(device, native)

    def come() -> None:
        try:
            machine.devices.arrive(late.replace(read_only=True))
        except ConfigError as error:
            refused.append(str(error))

    monkeypatch.setattr(BlockDevice, "attach", slow_attach)
    refused: list[str] = []
    with Machine(MachineConfig(GUESTS / "hotplug.elf")) as machine:
        both = [threading.Thread(target=come) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert len(machine.devices.devices) == machine.native.device_count == 1
    assert refused == ["the machine has a disk 'late'; let it leave first"]
    with pytest.raises(ConfigError, match="the machine has ended"):
        machine.devices.arrive(late)


def test_a_guest_that_is_reset_has_what_it_had(late: Disk, tmp_path: Path) -> None:
    """What has arrived is there again, what has left is not."""
    image = write_guest(tmp_path / "reset", call(RESET), b"", [require(), manifest((BLOCK, OPTIONAL, "late"))])
    with Machine(MachineConfig(image)) as machine:
        machine.devices.arrive(late)
        with pytest.raises(GuestReset):
            machine.run()
        assert [device.name for device, _ in machine.devices.devices] == ["late"]
    with Machine(MachineConfig(image, disks=(late,))) as machine:
        assert machine.devices.leave("late", PATIENCE_S)
        with pytest.raises(GuestReset):
            machine.run()
        assert machine.devices.devices == []


def test_nothing_arrives_while_the_guest_begins_anew(
    late: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its devices are being made then, and have their numbers and names."""
    image = write_guest(tmp_path / "reset", call(RESET), b"", [require(), manifest((BLOCK, OPTIONAL, "late"))])
    attach = BlockDevice.attach
    refused: list[str] = []

    def attach_beside(device: BlockDevice, native: Any) -> None:
        if machine.resets and len(refused) < machine.resets:
            with pytest.raises(ConfigError) as told:
                machine.devices.arrive(disk)
            refused.append(str(told.value))
        attach(device, native)

    disk = late.replace(read_only=True)
    with Machine(MachineConfig(image, disks=(disk,))) as machine:
        monkeypatch.setattr(BlockDevice, "attach", attach_beside)
        with pytest.raises(GuestReset):
            machine.run()
        assert [device.name for device, _ in machine.devices.devices] == ["late"]
        assert refused
        assert all("its guest begins anew; attach the disk 'late' to another, or once more" in text for text in refused)


def test_a_cable_that_is_out_stays_out(tmp_path: Path) -> None:
    """A guest that is reset does not plug it in; a network that comes anew has one that is in."""
    image = write_guest(tmp_path / "reset", call(RESET), b"", [require(), manifest((NET, OPTIONAL, "lan"))])
    with Machine(MachineConfig(image, devices=(Net("lan", "loop"),))) as machine:
        before = machine.devices
        before.set_link("lan", False)
        with pytest.raises(GuestReset):
            machine.run()
        ((device, _),) = machine.devices.devices
        assert machine.devices is not before
        assert isinstance(device, NetDevice)
        assert not device.up
        assert machine.devices.leave("lan", PATIENCE_S)
        machine.devices.arrive(Net("lan", "loop"))
        new, _ = machine.devices.devices[-1]
        assert isinstance(new, NetDevice)
        assert new.up


def test_a_mapped_disk_stays(tmp_path: Path) -> None:
    """Its region is the guest's for as long as the machine is there."""
    path = tmp_path / "mapped"
    path.write_bytes(bytes(4096))
    image = write_guest(tmp_path / "spin", SPIN, b"", [require(), manifest((DEVICE_TYPE.PMEM, 0, "mapped"))])
    with Machine(MachineConfig(image, devices=(Pmem("mapped", path),))) as machine:
        with pytest.raises(ConfigError, match="the mapped disk 'other' is memory, which does not arrive"):
            machine.devices.arrive(Pmem("other", path))
        with pytest.raises(ConfigError, match="no device 'mapped' that could leave"):
            machine.devices.leave("mapped", 0)


def test_a_disk_that_cannot_be_opened_leaves_nothing(late: Disk, tmp_path: Path) -> None:
    told = Told()
    with Machine(MachineConfig(GUESTS / "hotplug.elf", console=told)) as machine:
        machine.start()
        told.wait(b"waits 0")
        with pytest.raises(DiskNotFound):
            machine.devices.arrive(late.replace(path=tmp_path / "none"))
        machine.devices.arrive(late)
        told.wait(b"in use")


def open_files() -> dict[str, str]:
    """Descriptor → what it is, without those that threads of vCPUs open when they begin."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return {name: what for name, what in found.items() if not what.endswith("/schedstat")}


def test_a_disk_whose_doorbells_cannot_be_tied_leaves_nothing(late: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel forgets those that it had: the device that comes next has the same number."""
    told = Told()
    with Machine(MachineConfig(GUESTS / "hotplug.elf", console=told, vcpus=2)) as machine:
        machine.start()
        told.wait(b"waits 0")
        tie = machine.accelerator.add_doorbell

        def full(fd: int, device: int, queue: int) -> None:
            if queue:
                raise HostCallFailed("no room for doorbells")
            tie(fd, device, queue)

        attach, detach = BlockDevice.attach, BlockDevice.detach
        natives: list[Any] = []
        doorbells: list[int] = []

        def keep_and_attach(device: BlockDevice, native: Any) -> None:
            natives.append(native)
            attach(device, native)

        def look_and_detach(device: BlockDevice) -> None:
            doorbells.extend(queue.doorbell_fd for queue in natives[0].queues)
            detach(device)

        before = open_files()
        with monkeypatch.context() as patched, pytest.raises(HostCallFailed, match="no room"):
            patched.setattr(machine.accelerator, "add_doorbell", full)
            patched.setattr(BlockDevice, "attach", keep_and_attach)
            patched.setattr(BlockDevice, "detach", look_and_detach)
            machine.devices.arrive(late)
        assert open_files() == before
        assert set(doorbells) == {-1}, "a thread that ends would be woken by another one's file"
        machine.devices.arrive(late)
        told.wait(b"in use")


def test_over_virtio_mmio_nothing_arrives(late: Disk) -> None:
    config = MachineConfig(GUESTS / "growing.elf", disks=(late.replace(name="data"),), transport="mmio")
    with Machine(config) as machine, pytest.raises(ConfigError, match="over virtio-mmio devices do not arrive"):
        machine.devices.arrive(late)
