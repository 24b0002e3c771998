"""Which devices a guest is offered: its manifest matched with what the user attached (NOTE-3, NOTE-4).

What comes out is a plan, in the order in which the guest will see its devices.  Opening files and
making devices is for the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..abi import Constants
from ..attachments import KINDS, Attachment, option_of, word_of
from ..errors import ConfigError, DeviceMissing, DeviceNotInManifest, DeviceNotOffered
from .image import Image
from .notes import DeviceEntry

DEVICE_TYPE = Constants("DEVICE_TYPE")
BUILT_IN = {"console": DEVICE_TYPE.CONSOLE, "entropy": DEVICE_TYPE.ENTROPY}
"""What needs nothing of the user, by the name that it has in a plain guest, whose image names none."""


class PlannedDevice(NamedTuple):
    """A device to be made: its virtio id, its logical name and what the user attached for it, if it needs that."""

    type: int
    name: str
    attachment: Attachment | None = None


def type_of(attachment: Attachment) -> int:
    """The virtio id of its device."""
    return int(getattr(DEVICE_TYPE, attachment.kind))


def plan_devices(image: Image, attached: Sequence[Attachment]) -> tuple[PlannedDevice, ...]:
    """The devices of a machine that boots `image`.

    Raises ConfigError, DeviceMissing, DeviceNotInManifest, DeviceNotOffered.
    """
    if image.is_plain:
        return _plan_plain(attached)
    by_name = {(type_of(attachment), attachment.name): attachment for attachment in attached}
    for key, attachment in by_name.items():
        _check_wanted(image, key, attachment)
    planned = (_plan(image, entry, by_name.get((entry.type, entry.name))) for entry in image.notes.manifest)
    return tuple(device for device in planned if device)


def _plan_plain(attached: Sequence[Attachment]) -> tuple[PlannedDevice, ...]:
    for attachment in attached:
        if attachment.name in BUILT_IN:
            word = word_of(attachment.kind)
            raise ConfigError(
                f"the {word} {attachment.name!r} has the name of what every plain guest has; give it another name"
            )
    given = (PlannedDevice(type_of(attachment), attachment.name, attachment) for attachment in attached)
    return (*given, *(PlannedDevice(kind, name) for name, kind in BUILT_IN.items()))


def plan_one(image: Image, attachment: Attachment) -> PlannedDevice:
    """A device that arrives while the guest runs.  Raises ConfigError, DeviceNotInManifest."""
    kind = type_of(attachment)
    if image.is_plain:
        return _plan_plain((attachment,))[0]
    _check_wanted(image, (kind, attachment.name), attachment)
    entry = next(e for e in image.notes.manifest if (e.type, e.name) == (kind, attachment.name))
    planned = _plan(image, entry, attachment)
    assert planned
    return planned


def _check_wanted(image: Image, key: tuple[int, str], attachment: Attachment) -> None:
    wanted = [entry.name for entry in image.notes.manifest if entry.type == key[0]]
    if attachment.name not in wanted:
        word = word_of(attachment.kind)
        known = f"it has {', '.join(wanted)}" if wanted else f"it has no {word}s"
        raise DeviceNotInManifest(
            f"the manifest of {image.path} has no {word} {attachment.name!r}, {known}; leave it out", rule="NOTE-3"
        )


def _plan(image: Image, entry: DeviceEntry, attachment: Attachment | None) -> PlannedDevice | None:
    if entry.type in BUILT_IN.values():
        return PlannedDevice(entry.type, entry.name)
    if attachment:
        return PlannedDevice(entry.type, entry.name, attachment.restricted(read_only=entry.read_only))
    if entry.optional:
        return None
    kind = DEVICE_TYPE.name_of(entry.type)
    if kind in KINDS:
        raise DeviceMissing(
            f"the image {image.path} needs a {word_of(kind)} {entry.name!r}; "
            f"attach it with {option_of(kind, entry.name)}",
            rule="NOTE-3",
        )
    raise DeviceNotOffered(
        f"the image {image.path} needs a device {entry.name!r} of type {kind.lower()}, which this host does not have",
        rule="NOTE-3",
    )
