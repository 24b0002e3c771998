"""Manifest and disks: who is offered what (NOTE-3, NOTE-4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from paravirt.boot.image import Image, parse_image
from paravirt.boot.manifest import PlannedDevice, plan_devices
from paravirt.config import Disk
from paravirt.errors import ConfigError, DeviceMissing, DeviceNotInManifest, DeviceNotOffered
from tests.support.elf import BLOCK, CONSOLE, ENTROPY, OPTIONAL, READ_ONLY, Elf, Note, manifest, pvh, require

INPUT = Disk("input", Path("in.img"))
REPORT = Disk("report", Path("out.img"))


def image(*notes: Note) -> Image:
    return parse_image(memoryview(Elf(notes=list(notes)).build()), Path("guest.elf"))


def test_a_plain_guest_is_offered_everything() -> None:
    """NOTE-4."""
    devices = plan_devices(image(pvh()), [INPUT, REPORT])
    assert [(d.type, d.name, d.attachment) for d in devices] == [
        (BLOCK, "input", INPUT), (BLOCK, "report", REPORT), (CONSOLE, "console", None), (ENTROPY, "entropy", None),
    ]  # fmt: skip


def test_a_plain_guest_has_names_of_its_own() -> None:
    """`paravirt device` speaks of devices by name alone."""
    with pytest.raises(
        ConfigError, match="the disk 'entropy' has the name of what every plain guest has; give it another"
    ):
        plan_devices(image(pvh()), [INPUT.replace(name="entropy")])


def test_the_order_is_the_manifests() -> None:
    wanted = manifest((ENTROPY, 0, "noise"), (BLOCK, 0, "report"), (CONSOLE, OPTIONAL, "tty"), (BLOCK, 0, "input"))
    assert plan_devices(image(wanted), [INPUT, REPORT]) == (
        PlannedDevice(ENTROPY, "noise"),
        PlannedDevice(BLOCK, "report", REPORT),
        PlannedDevice(CONSOLE, "tty"),
        PlannedDevice(BLOCK, "input", INPUT),
    )


@pytest.mark.parametrize("flags", [0, READ_ONLY])
@pytest.mark.parametrize("attached_read_only", [False, True])
def test_read_only_if_either_says_so(flags: int, attached_read_only: bool) -> None:
    disk = Disk("input", Path("in.img"), attached_read_only)
    (device,) = plan_devices(image(manifest((BLOCK, flags, "input"))), [disk])
    assert isinstance(device.attachment, Disk)
    assert device.attachment.read_only == (bool(flags) or attached_read_only)


def test_a_disk_that_is_missing() -> None:
    """NOTE-3."""
    guest = image(manifest((BLOCK, 0, "input"), (BLOCK, OPTIONAL, "report")))
    assert [d.name for d in plan_devices(guest, [INPUT])] == ["input"]
    with pytest.raises(DeviceMissing, match=r"needs a disk 'input'; attach it with --disk input=PATH \(NOTE-3\)"):
        plan_devices(guest, [REPORT])


@pytest.mark.parametrize(
    ("notes", "text"),
    [
        ([require()], "it has no disks"),
        ([manifest((BLOCK, OPTIONAL, "input"), (CONSOLE, 0, "report"))], "it has input"),
    ],
)
def test_a_disk_that_is_not_in_the_manifest(notes: list[Note], text: str) -> None:
    """NOTE-3."""
    with pytest.raises(DeviceNotInManifest, match=f"no disk 'report', {text}.*NOTE-3"):
        plan_devices(image(*notes), [REPORT])


def test_a_guest_with_notes_and_no_manifest_has_no_devices() -> None:
    """NOTE-3."""
    assert plan_devices(image(require()), []) == ()


@pytest.mark.parametrize("kind", [99, 0, 0xFFFFFFFF])
def test_a_device_that_this_host_does_not_have(kind: int) -> None:
    """NOTE-3."""
    assert plan_devices(image(manifest((kind, OPTIONAL, "device"))), []) == ()
    with pytest.raises(DeviceNotOffered, match="needs a device 'device' of type"):
        plan_devices(image(manifest((kind, 0, "device"))), [])
