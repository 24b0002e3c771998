"""A file that loses what was not synced: ``python -m tests.support.lossy_store FILE KEPT OPERATIONS -- COMMAND…``

FILE is served through FUSE with the contents of KEPT, to COMMAND and what it starts.  When so many writes and syncs
have come, COMMAND is killed (SIGKILL), before the last of them is answered.  What KEPT holds afterwards is what a
power failure would have left: each sync makes what was written before it durable, everything else is lost.

Run in a mount namespace of its own (`unshare --mount`), so that the file is gone with the process.  The kernel's half
is Linux's fuse.h; of its requests there are those that one plain file needs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, RELEASE, FSYNC, FLUSH, INIT = 2, 3, 4, 14, 15, 16, 18, 20, 25, 26
INTERRUPT, FALLOCATE = 36, 43
NO_ANSWER = (FORGET, INTERRUPT)
IN_HEADER, OUT_HEADER = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
ATTR_OUT = struct.Struct("<QII6Q10I")
OPEN_OUT = struct.Struct("<QII")
IO_IN = struct.Struct("<QQIIQII")  # handle, offset, size, …
ALLOCATE_IN = struct.Struct("<QQQII")
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22
MOST_BYTES = 1 << 20
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
REGULAR = 0o100600
MS_PRIVATE_ALL, MS_NOSUID_NODEV = 1 << 18 | 1 << 14, 2 | 4


class Request(NamedTuple):
    """One of the kernel's."""

    operation: int
    unique: int
    payload: bytes


class Store:
    """The file: what was written, and what of it is durable."""

    def __init__(self, kept: Path, operations: int, kill: Callable[[], None]) -> None:
        self.kept, self.left, self.kill = kept, operations, kill
        self.durable = kept.read_bytes()
        self.now = bytearray(self.durable)
        self._answers: dict[int, Callable[[bytes], bytes | int]] = {
            INIT: self._init,
            GETATTR: self._attributes,
            SETATTR: self._attributes,
            OPEN: self._open,
            READ: self._read,
            WRITE: self._write,
            FSYNC: self._sync,
            FALLOCATE: self._allocate,
            RELEASE: self._nothing,
            FLUSH: self._nothing,
        }

    def serve(self, request: Request) -> bytes | int:
        """What to answer: bytes, or an errno."""
        if request.operation in (WRITE, FSYNC, FALLOCATE):
            self.left -= 1
            if self.left == 0:
                self.kill()
            if self.left <= 0:  # it is dead: nothing that comes now was ever answered
                return errno.EIO
        return self._answers[request.operation](request.payload) if request.operation in self._answers else errno.ENOSYS

    def _init(self, payload: bytes) -> bytes:
        major, minor, ahead, _flags = struct.unpack_from("<IIII", payload)
        pages = MOST_BYTES // 4096
        return INIT_OUT.pack(major, min(minor, 31), ahead, BIG_WRITES | MAX_PAGES, 16, 12, MOST_BYTES, 1, pages, 0, 0)

    def _attributes(self, _payload: bytes) -> bytes:
        size = len(self.now)
        return ATTR_OUT.pack(1, 0, 0, 1, size, size // 512, *[0] * 3, *[0] * 3, REGULAR, 1, *[0] * 3, 4096, 0)

    def _open(self, _payload: bytes) -> bytes:
        return OPEN_OUT.pack(1, 0, 0)

    def _read(self, payload: bytes) -> bytes:
        _, offset, size, *_ = IO_IN.unpack_from(payload)
        return bytes(self.now[offset : offset + size])

    def _write(self, payload: bytes) -> bytes:
        _, offset, size, *_ = IO_IN.unpack_from(payload)
        self.now[offset : offset + size] = payload[IO_IN.size : IO_IN.size + size]
        return struct.pack("<II", size, 0)

    def _sync(self, _payload: bytes) -> bytes:
        self.durable = bytes(self.now)
        return b""

    def _allocate(self, payload: bytes) -> bytes | int:
        _, offset, size, mode, _ = ALLOCATE_IN.unpack_from(payload)
        if mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE):
            return errno.EOPNOTSUPP
        end = min(offset + size, len(self.now))
        if mode & (PUNCH_HOLE | ZERO_RANGE):
            self.now[offset:end] = bytes(end - offset)
        return b""

    def _nothing(self, _payload: bytes) -> bytes:
        return b""


def mount(file: Path) -> int:
    """Puts the FUSE file at `file`, for this namespace alone; the descriptor of its requests.  Raises OSError."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=100000,user_id=0,group_id=0"
    for source, target, kind, flags, data in (
        (None, b"/", None, MS_PRIVATE_ALL, None),
        (b"lossy", os.fsencode(file), b"fuse", MS_NOSUID_NODEV, options.encode()),
    ):
        if libc.mount(source, target, kind, flags, data):
            raise OSError(ctypes.get_errno(), f"mount: {os.strerror(ctypes.get_errno())}")
    return fd


def answer(fd: int, store: Store) -> None:
    """Takes one request and answers it."""
    data = os.read(fd, MOST_BYTES + (64 << 10))
    _, operation, unique, *_ = IN_HEADER.unpack_from(data)
    if operation in NO_ANSWER:
        return
    said = store.serve(Request(operation, unique, data[IN_HEADER.size :]))
    body, error = (b"", -said) if isinstance(said, int) else (said, 0)
    with suppress(FileNotFoundError):  # whoever asked is dead, and nobody waits
        os.write(fd, OUT_HEADER.pack(OUT_HEADER.size + len(body), error, unique) + body)


def main() -> int:
    file, kept, operations, _, *command = sys.argv[1:]
    fd = mount(Path(file))
    child = subprocess.Popen(command)
    store = Store(Path(kept), int(operations), lambda: child.send_signal(signal.SIGKILL))
    ended = os.pidfd_open(child.pid)
    # A process that waits for an answer ends only when it has it.
    while True:
        ready, _, _ = select.select([fd, ended], [], [])
        if ended in ready:
            break
        answer(fd, store)
    Path(kept).write_bytes(store.durable)
    return 0 if child.wait() == -signal.SIGKILL else 1


if __name__ == "__main__":
    sys.exit(main())
