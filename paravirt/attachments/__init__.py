"""What a user attaches to a machine for its devices: values, a file for each kind.

A kind of device is one name in every room: ``attachments/block.py`` says what the user gives,
``devices/block.py`` makes a back end of it, ``hypercall_abi/devices/virtio_block.py`` has its layouts.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from ..values import Value, check_name

DEVICE_NAME_BYTES = 32  # device_info.name


class Attachment(Value):
    """A device's half that is the user's; `name` is its logical name, at most 32 bytes."""

    kind: ClassVar[str]
    """Name of its virtio id: a constant of DEVICE_TYPE."""

    name: str

    def __post_init__(self) -> None:
        check_name(f"the {word_of(self.kind)} name", self.name, DEVICE_NAME_BYTES)

    def restricted(self, *, read_only: bool) -> Self:
        """The same as a manifest that says READ_ONLY, or not, has it."""
        del read_only
        return self

    def seen_from(self, directory: Path) -> Self:
        """The same where `directory` is not the current one."""
        del directory
        return self


class FileAttachment(Attachment):
    """A device over a file, of which a writer is alone and readers are many."""

    options: ClassVar[str] = ",ro"
    """What may be written behind the path, for who wrote something else there."""

    path: Path
    read_only: bool = False

    def restricted(self, *, read_only: bool) -> Self:
        """Read-only if either says so."""
        return self.replace(read_only=self.read_only or read_only)

    def seen_from(self, directory: Path) -> Self:
        """The same, a path that is relative being so to `directory`."""
        return self.replace(path=directory / self.path)


# What the command line calls them, and how one is written there.
KINDS = {
    "BALLOON": ("balloon", "--balloon {name}=SIZE"),
    "BLOCK": ("disk", "--disk {name}=PATH"),
    "NET": ("network", "--net {name}"),
    "VSOCK": ("vsock", "--vsock {name}=PATH"),
    "PMEM": ("mapped disk", "--pmem {name}=PATH"),
}


def word_of(kind: str) -> str:
    """What people call a device of that kind."""
    return KINDS[kind][0]


def option_of(kind: str, name: str) -> str:
    """The option that attaches one."""
    return KINDS[kind][1].format(name=name)
