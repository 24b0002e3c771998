"""Mapped disks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..errors import ConfigError
from . import FileAttachment


class Pmem(FileAttachment):
    """A raw file whose pages the guest has as memory: the device `name` of persistent memory.

    Read-only, one file serves many machines and is in the host's memory once.
    """

    kind: ClassVar[str] = "PMEM"


def parse_pmem(text: str) -> Pmem:
    """A mapped disk written ``NAME=PATH`` or ``NAME=PATH,ro``.  Raises ConfigError."""
    name, equals, path = text.partition("=")
    if path.endswith(",rw"):
        raise ConfigError(f"{text!r}: only ,ro is known; without it a mapped disk is read and written")
    read_only = path.endswith(",ro")
    path = path.removesuffix(",ro")
    if not equals or not path:
        raise ConfigError(f"{text!r} is not a mapped disk; write NAME=PATH or NAME=PATH,ro")
    return Pmem(name, Path(path), read_only)
