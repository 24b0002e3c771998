"""Messages of front ends (vhost-user): whatever they say, a device of ours is served, or PeerError says why not.

Between messages the front end writes to the memory that it shares, cuts it, rings and fills eventfds; what it gives may
be anything that has a descriptor.  Nothing of its is left once its session is over.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from paravirt.config import Disk
from paravirt.vhost_user.back_end import BackEnd
from paravirt.vhost_user.errors import PeerError
from paravirt.vhost_user.kinds import serve_block, serve_entropy
from paravirt.vhost_user.messages import HEADER
from paravirt.vhost_user.session import Session

INSTRUMENT = ("paravirt.vhost_user",)
HEAD = struct.Struct("<BBBB")  # request or act, flags, descriptors (a bit each), bytes of payload
MESSAGES_MOST = 64
MEMORY_BYTES, SMALL_BYTES = 1 << 20, 1 << 14
WRITE, CUT, KICK, FILL = 250, 251, 252, 253  # acts; the first two have a number, and the bytes that are written
MEMORY, RINGS, CALLS, SMALL = 0, 1, 2, 3  # of what it may give

PLACE = tempfile.TemporaryDirectory()
atexit.register(PLACE.cleanup)
DISK = Path(PLACE.name) / "disk"
DISK.write_bytes(bytes(1 << 16))


def memory(size_bytes: int, seals: int = 0) -> int:
    fd = os.memfd_create("front-end", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size_bytes)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def give() -> tuple[int, ...]:
    """Eight descriptors: two memories, between them eventfds; a sealed one, a pipe, a socket, a file."""
    read, write = os.pipe2(os.O_CLOEXEC)
    os.close(read)
    eventfds = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
    others = socket.socket(socket.AF_UNIX).detach(), os.open(DISK, os.O_RDONLY | os.O_CLOEXEC)
    return memory(MEMORY_BYTES), *eventfds, memory(SMALL_BYTES), memory(SMALL_BYTES, fcntl.F_SEAL_WRITE), write, *others


def act(kind: int, payload: bytes, given: tuple[int, ...]) -> None:
    """What is done without a message."""
    number = int.from_bytes(payload[:4], "little")
    with suppress(OSError):
        if kind == WRITE:
            os.pwrite(given[MEMORY], payload[4:], number % MEMORY_BYTES)
        elif kind == CUT:
            os.ftruncate(given[SMALL if number & 1 else MEMORY], number & (SMALL_BYTES - 1) & ~1)
        else:
            full = kind == FILL
            os.eventfd_write(given[CALLS if full else RINGS], (1 << 64) - 2 if full else 1)


def messages(data: bytes, given: tuple[int, ...]) -> Iterator[tuple[bytes, list[int]]]:
    """What `data` describes; acts are done when it is their turn."""
    for _ in range(MESSAGES_MOST):
        if len(data) < HEAD.size:
            return
        request, flags, kinds, size = HEAD.unpack_from(data)
        payload, data = data[HEAD.size : HEAD.size + size], data[HEAD.size + size :]
        if request >= WRITE:
            act(request, payload, given)
        else:
            packed = HEADER.pack(request, flags, len(payload)) + payload
            yield packed, [fd for bit, fd in enumerate(given) if kinds >> bit & 1]


def talk(back_end: BackEnd, data: bytes, given: tuple[int, ...]) -> None:
    """A session of those messages."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    session = Session(back_end, theirs)
    with ours:
        try:
            for message, fds in messages(data, given):
                socket.send_fds(ours, [message], fds)
                assert back_end._ready(theirs)
                session.hear()
        except PeerError as error:
            assert "\n" not in str(error), "a mistake is one line"
        finally:
            session.close()
    assert back_end.machine.memory.count == 0, "guest memory outlived its session"


def one(data: bytes) -> None:
    """Two sessions of the same messages: with random bytes, or by the first byte with a disk."""
    at = Path(PLACE.name) / "s"
    before = len(os.listdir("/proc/self/fd"))
    with ExitStack() as kept:
        disk = data[:1] >= b"\x80"
        made = serve_block(Disk("disk", DISK, queues=2), at) if disk else serve_entropy("random", at)
        back_end = kept.enter_context(made)
        back_end.warn = lambda text: None  # type: ignore[method-assign]
        for _ in range(2):
            given = give()
            try:
                talk(back_end, data[1:], given)
            finally:
                for fd in given:
                    os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was left behind"
