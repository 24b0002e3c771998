"""Which devices a guest is offered: its manifest matched with what the user attached (NOTE-3, NOTE-4).

What comes out is a plan, in the order in which the guest will see its devices.  Opening files and
making devices is for the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..abi import Constants
from ..config import Disk
from ..errors import DeviceNotOffered, DiskMissing, DiskNotInManifest
from .image import Image
from .notes import DeviceEntry

DEVICE_TYPE = Constants("DEVICE_TYPE")
BUILT_IN = (DEVICE_TYPE.CONSOLE, DEVICE_TYPE.ENTROPY)  # need nothing of the user


class PlannedDevice(NamedTuple):
    """A device to be made: its virtio id, its logical name and, for a block device, its disk."""

    type: int
    name: str
    disk: Disk | None = None


def plan_devices(image: Image, disks: Sequence[Disk]) -> tuple[PlannedDevice, ...]:
    """The devices of a machine that boots `image` with `disks` attached.

    A disk whose manifest entry says READ_ONLY comes out read-only.  Raises DiskMissing,
    DiskNotInManifest, DeviceNotOffered.
    """
    if image.is_pvh:
        blocks = (PlannedDevice(DEVICE_TYPE.BLOCK, disk.name, disk) for disk in disks)
        return (
            *blocks,
            PlannedDevice(DEVICE_TYPE.CONSOLE, "console"),
            PlannedDevice(DEVICE_TYPE.ENTROPY, "entropy"),
        )
    attached = {disk.name: disk for disk in disks}
    wanted = [e.name for e in image.notes.manifest if e.type == DEVICE_TYPE.BLOCK]
    for name in attached:
        if name not in wanted:
            known = f"it has {', '.join(wanted)}" if wanted else "it has no disks"
            raise DiskNotInManifest(
                f"the manifest of {image.path} has no disk {name!r}, {known}; leave it out", rule="NOTE-3"
            )
    planned = (_plan(image, entry, attached.get(entry.name)) for entry in image.notes.manifest)
    return tuple(device for device in planned if device)


def _plan(image: Image, entry: DeviceEntry, disk: Disk | None) -> PlannedDevice | None:
    if entry.type in BUILT_IN:
        return PlannedDevice(entry.type, entry.name)
    if entry.type == DEVICE_TYPE.BLOCK and disk:
        return PlannedDevice(entry.type, entry.name, disk.replace(read_only=disk.read_only or entry.read_only))
    if entry.optional:
        return None
    if entry.type == DEVICE_TYPE.BLOCK:
        raise DiskMissing(
            f"the image {image.path} needs a disk {entry.name!r}; attach it with --disk {entry.name}=PATH",
            rule="NOTE-3",
        )
    kind = DEVICE_TYPE.name_of(entry.type).lower()
    raise DeviceNotOffered(
        f"the image {image.path} needs a device {entry.name!r} of type {kind}, which this host does not have",
        rule="NOTE-3",
    )
