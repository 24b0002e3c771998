"""A socket that somebody else made and passed on: where front ends connect, or the connection of one."""

from __future__ import annotations

import os
import socket

from ..errors import ConfigError


class GivenSocket:
    """Descriptor `fd` of this process, which is taken over.  Raises ConfigError if it is no such socket."""

    def __init__(self, fd: int) -> None:
        self._name = f"descriptor {fd}"
        try:
            given = socket.socket(fileno=fd)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "no descriptor has such a number"
            raise ConfigError(
                f"{self._name} is not a socket ({why}); give one that this process has inherited"
            ) from error
        if (given.family, given.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
            given.detach()
            raise ConfigError(f"{self._name} is no stream socket of UNIX; give such a one, listening or connected")
        self.listens = bool(given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        if not self.listens and not _is_connected(given):
            given.detach()
            raise ConfigError(f"{self._name} is a socket that neither listens nor is connected; give one that does")
        given.set_inheritable(False)
        given.setblocking(False)  # who knocked may have gone before it is heard
        self.socket = given

    def __str__(self) -> str:
        return self._name

    def close(self) -> None:
        """Who made it removes its name, if it has one.  More than once is fine."""
        self.socket.close()


def _is_connected(given: socket.socket) -> bool:
    try:
        given.getpeername()
    except OSError:
        return False
    return True


def parse_fd(text: str) -> GivenSocket:
    """The socket with that number.  Raises ConfigError."""
    if not text.isdecimal() or not text.isascii() or int(text) >= os.sysconf("SC_OPEN_MAX"):
        raise ConfigError(f"{text!r} is no descriptor; give the number of a socket that this process has inherited")
    return GivenSocket(int(text))
