"""Sockets between guest and host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Self

from ..errors import ConfigError
from . import Attachment

FIRST_CID, LAST_CID = 3, 0xFFFF_FFFE
PATH_BYTES = 96  # what a UNIX socket's address has, without "_4294967295" and the end


class Vsock(Attachment):
    """A vsock device whose host side is a UNIX socket at `path`; the guest's address is `cid`.

    Programs of the host reach the guest's ports through `path`, and offer ports of the host's to the guest as
    sockets called after it: ``PATH_5000`` is port 5000.
    """

    kind: ClassVar[str] = "VSOCK"

    path: Path
    cid: int = FIRST_CID

    def __post_init__(self) -> None:
        super().__post_init__()
        if not FIRST_CID <= self.cid <= LAST_CID:
            raise ConfigError(f"the vsock {self.name!r}: cid must be from {FIRST_CID} to {LAST_CID}, it is {self.cid}")
        size = len(os.fsencode(self.path))
        if size > PATH_BYTES or "\0" in str(self.path):
            raise ConfigError(
                f"the vsock {self.name!r}: its path has {size} bytes; it may have {PATH_BYTES}, none of them NUL: "
                "give a shorter one"
            )

    def seen_from(self, directory: Path) -> Self:
        """The same, a path that is relative being so to `directory`."""
        return self.replace(path=directory / self.path)


def parse_vsock(text: str) -> Vsock:
    """A vsock written ``NAME=PATH`` or ``NAME=PATH,cid=N``.  Raises ConfigError."""
    name, equals, rest = text.partition("=")
    path, comma, cid = rest.partition(",cid=")
    if not equals or not path or (comma and not (cid.isascii() and cid.isdigit() and len(cid) <= 10)):
        raise ConfigError(f"{text!r} is not a vsock; write NAME=PATH or NAME=PATH,cid=N")
    return Vsock(name, Path(path), int(cid) if comma else FIRST_CID)
