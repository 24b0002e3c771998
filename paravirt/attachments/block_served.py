"""Disks that another program serves."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from ..errors import ConfigError
from . import Attachment

SERVED = "vhost:"  # before a socket, where else a path stands
PATIENCE = "patience="


def check_patience(what: str, patience_s: float | None) -> None:
    """Raises ConfigError if the device `what` cannot be that patient."""
    if patience_s is not None and not 0 <= patience_s < 1e9:
        raise ConfigError(f"{what}: the patience is from 0 to 10^9 s, not {patience_s:g}")


class ServedDisk(Attachment):
    """The block device `name`, which the program that listens at `socket` serves (vhost-user).

    With `read_only` that program must offer it so.
    """

    kind: ClassVar[str] = "BLOCK"

    socket: Path
    read_only: bool = False
    patience_s: float | None = None
    """How long the program may be away before the device is given up; None: its requests wait for ever."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_patience(f"disk {self.name!r}", self.patience_s)

    def restricted(self, *, read_only: bool) -> Self:
        """Read-only if either says so."""
        return self.replace(read_only=self.read_only or read_only)

    def seen_from(self, directory: Path) -> Self:
        """The same, a path that is relative being so to `directory`."""
        return self.replace(socket=directory / self.socket)


def parse_served(text: str) -> ServedDisk:
    """A disk written ``NAME=vhost:SOCKET[,ro][,patience=SECONDS]``.  Raises ConfigError."""
    name, _, rest = text.partition(f"={SERVED}")
    path, *words = rest.split(",")
    read_only, patience_s = False, None
    for word in words:
        number = word.removeprefix(PATIENCE)
        if word == "ro":
            read_only = True
        elif word.startswith(PATIENCE) and number.isdecimal() and number.isascii():
            patience_s = float(number)
        else:
            raise ConfigError(f"{text!r}: after the socket only ,ro and ,{PATIENCE}SECONDS are known, not {word!r}")
    if not path:
        raise ConfigError(f"{text!r} names no socket; write NAME={SERVED}SOCKET")
    return ServedDisk(name, Path(path), read_only, patience_s)
