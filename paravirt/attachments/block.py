"""Disks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from ..errors import ConfigError
from . import Attachment


class Disk(Attachment):
    """A raw file offered to the guest as the block device `name`."""

    kind: ClassVar[str] = "BLOCK"

    path: Path
    read_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__["path"] = Path(self.path)

    def restricted(self, *, read_only: bool) -> Self:
        """Read-only if either says so."""
        return self.replace(read_only=self.read_only or read_only)


def parse_disk(text: str) -> Disk:
    """A disk written ``NAME=PATH`` or ``NAME=PATH,ro``.  Raises ConfigError."""
    name, equals, path = text.partition("=")
    if path.endswith(",rw"):
        raise ConfigError(f"{text!r}: only ,ro is known; without it a disk is read and written")
    read_only = path.endswith(",ro")
    path = path.removesuffix(",ro")
    if not equals or not path:
        raise ConfigError(f"{text!r} is not a disk; write NAME=PATH or NAME=PATH,ro")
    return Disk(name, Path(path), read_only)
