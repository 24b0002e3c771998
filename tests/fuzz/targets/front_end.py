"""Messages of front ends (vhost-user): whatever they say, a device of ours is served, or PeerError says why not."""

from __future__ import annotations

import atexit
import os
import socket
import struct
import tempfile
from pathlib import Path

from paravirt.vhost_user.errors import PeerError
from paravirt.vhost_user.kinds import serve_entropy
from paravirt.vhost_user.messages import HEADER
from paravirt.vhost_user.session import Session

INSTRUMENT = ("paravirt.vhost_user",)
HEAD = struct.Struct("<BBBB")  # request, flags, descriptors (a bit each), bytes of payload
MESSAGES_MOST = 64  # answers wait in the socket
MEMORY_BYTES = 1 << 20

PLACE = tempfile.TemporaryDirectory()
atexit.register(PLACE.cleanup)


def say(ours: socket.socket, data: bytes, given: tuple[int, ...]) -> None:
    """Sends the messages that `data` describes."""
    for _ in range(MESSAGES_MOST):
        if len(data) < HEAD.size:
            return
        request, flags, kinds, size = HEAD.unpack_from(data)
        payload, data = data[HEAD.size : HEAD.size + size], data[HEAD.size + size :]
        fds = [fd for bit, fd in enumerate(given) if kinds >> bit & 1]
        socket.send_fds(ours, [HEADER.pack(request, flags, len(payload)) + payload], fds)


def one(data: bytes) -> None:
    """A session of the messages in `data`, over memory of zeros and two eventfds."""
    given = (os.memfd_create("front-end", os.MFD_CLOEXEC), os.eventfd(0), os.eventfd(0))
    os.ftruncate(given[0], MEMORY_BYTES)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, serve_entropy("random", Path(PLACE.name) / "s") as back_end:
        back_end.warn = lambda text: None  # type: ignore[method-assign]
        session = Session(back_end, theirs)
        try:
            say(ours, data, given)
            ours.shutdown(socket.SHUT_WR)
            while True:  # until there is nothing more
                session.hear()
        except PeerError as error:
            assert "\n" not in str(error), "a mistake is one line"
        finally:
            session.close()
        assert back_end.machine.memory.count == 0, "guest memory outlived its session"
    for fd in given:
        os.close(fd)
