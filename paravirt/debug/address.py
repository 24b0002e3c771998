"""Where a machine listens for a debugger, as people write it."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ConfigError
from ..listener import too_long
from ..values import Value

_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]/,\s]*):(?P<port>\d{1,5})", re.ASCII)
HERE = "127.0.0.1"


class GdbConfig(Value):
    """A port of this host's, or with `path` a UNIX socket."""

    host: str = HERE
    port: int = 0
    """0: one that is free, which the machine then tells."""
    path: Path | None = None
    wait: bool = True
    """The guest does not begin before a debugger lets it."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise ConfigError(f"{self.port} is no port for a debugger; give one from 0 to 65535")
        if self.path is not None and (wrong := too_long(self.path)):
            raise ConfigError(f"the debugger's socket {self.path}: {wrong}")


def parse_gdb(text: str) -> GdbConfig:
    """Written ``[HOST]:PORT`` or ``unix:PATH``, then ``,go`` if the guest is not to wait.  Raises ConfigError."""
    place, comma, option = text.partition(",")
    if (comma and option != "go") or "\0" in text:
        raise ConfigError(f"{text!r}: after the place of the debugger there is only ,go")
    if place.startswith("unix:") and place != "unix:":
        return GdbConfig(path=Path(place.removeprefix("unix:")), wait=not comma)
    match = _PORT.fullmatch(place)
    if not match:
        raise ConfigError(f"{text!r} is no place for a debugger; write :1234, HOST:1234 or unix:PATH")
    return GdbConfig(match["host"].strip("[]") or HERE, int(match["port"]), wait=not comma)
