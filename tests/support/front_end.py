"""A front end of vhost-user in plain Python, which says whatever it is told to; by itself it is a good one."""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hypercall_abi.devices.virtio_block import BLOCK_HEADER, BLOCK_REQUEST
from hypercall_abi.virtqueue import DESC_FLAG, VIRTIO_FEATURE
from paravirt.vhost_user.messages import (
    FEATURE_PROTOCOL,
    HEADER,
    MEMORY,
    NEED_REPLY,
    REGION,
    U64,
    VERSION,
    VRING_ADDRESSES,
    VRING_STATE,
    ProtocolFeature,
    Request,
)

GPA, HVA = 0x10_0000, 0x7F00_0000_0000
MEMORY_BYTES = 1 << 20
SIZE = 16
DESCRIPTORS, AVAILABLE, USED, BUFFERS = 0, 0x1000, 0x2000, 0x3000  # in memory
FEATURES = VIRTIO_FEATURE.VERSION_1 | FEATURE_PROTOCOL
PATIENCE_S = 20.0


class Ended(Exception):
    """The back end closed the connection."""


class FrontEndPuppet:
    """Connected to the back end at a path, or by a socket, with memory of its own; a context."""

    def __init__(self, at: Path | socket.socket) -> None:
        self.fd = os.memfd_create("puppet", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, MEMORY_BYTES)
        self.memory = mmap.mmap(self.fd, MEMORY_BYTES)
        self.kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.call_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.added = self.seen = 0
        self.socket = at if isinstance(at, socket.socket) else socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        if isinstance(at, Path):
            self.socket.connect(os.fspath(at))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()
        self.memory.close()
        for fd in (self.fd, self.kick_fd, self.call_fd):
            os.close(fd)

    # ---- messages ----

    def say(self, request: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = VERSION) -> None:
        self.raw(HEADER.pack(request, flags, len(payload)) + payload, fds)

    def raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self.socket, [data], list(fds))
        except OSError as error:
            raise Ended from error

    def answer(self) -> tuple[int, bytes, list[int]]:
        """Request, payload and descriptors of the next answer.  Raises Ended."""
        data = b""
        fds: list[int] = []
        size = HEADER.size
        while len(data) < size:
            try:
                piece, more, _, _ = socket.recv_fds(self.socket, size - len(data), 8)
            except ConnectionError as error:
                raise Ended from error
            if not piece:
                raise Ended
            data, fds = data + piece, [*fds, *more]
            if len(data) == HEADER.size:
                size += HEADER.unpack(data)[2]
        return HEADER.unpack_from(data)[0], data[HEADER.size :], fds

    def ask(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        self.say(request, payload, fds)
        _, answer, theirs = self.answer()
        for fd in theirs:
            os.close(fd)
        return answer

    def told(self, request: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bool:
        """Says it, and whether it was done."""
        self.say(request, payload, fds, VERSION | NEED_REPLY)
        return U64.unpack(self.answer()[1]) == (0,)

    # ---- the good way ----

    def begin(self, features: int = FEATURES) -> None:
        """Up to features."""
        self.ask(Request.GET_FEATURES)
        (offered,) = U64.unpack(self.ask(Request.GET_PROTOCOL_FEATURES))
        self.say(Request.SET_PROTOCOL_FEATURES, U64.pack(offered))
        assert ProtocolFeature.REPLY_ACK in ProtocolFeature(offered)
        assert self.told(Request.SET_OWNER)
        assert self.told(Request.SET_FEATURES, U64.pack(features))

    def share(self) -> bool:
        region = REGION.pack(GPA, MEMORY_BYTES, HVA, 0)
        return self.told(Request.SET_MEM_TABLE, MEMORY.pack(1, 0) + region, [self.fd])

    def add_region(self) -> bool:
        return self.told(Request.ADD_MEM_REG, bytes(8) + REGION.pack(GPA, MEMORY_BYTES, HVA, 0), [self.fd])

    def remove_region(self) -> bool:
        return self.told(Request.REM_MEM_REG, bytes(8) + REGION.pack(GPA, MEMORY_BYTES, HVA, 0))

    def describe(self, number: int = 0, size: int = SIZE, base: int = 0) -> None:
        assert self.told(Request.SET_VRING_NUM, VRING_STATE.pack(number, size))
        assert self.told(Request.SET_VRING_BASE, VRING_STATE.pack(number, base))
        where = (HVA + DESCRIPTORS, HVA + USED, HVA + AVAILABLE)
        assert self.told(Request.SET_VRING_ADDR, VRING_ADDRESSES.pack(number, 0, *where, 0))
        assert self.told(Request.SET_VRING_CALL, U64.pack(number), [self.call_fd])

    def kick(self, number: int = 0) -> bool:
        return self.told(Request.SET_VRING_KICK, U64.pack(number), [self.kick_fd]) and self.told(
            Request.SET_VRING_ENABLE, VRING_STATE.pack(number, 1)
        )

    def start(self) -> None:
        """All the way to a queue that works."""
        self.begin()
        assert self.share()
        self.describe()
        assert self.kick()

    # ---- the driver of a disk ----

    def offer_read(self, sector: int, size_bytes: int = 512) -> int:
        """Asks for bytes of the disk; where they will be."""
        at = BUFFERS + 0x2000 * (self.added % 4)
        self.memory[at : at + 16] = BLOCK_HEADER.build({"type": BLOCK_REQUEST.READ, "priority": 0, "sector": sector})
        first = 3 * (self.added % 4)
        flags = (DESC_FLAG.NEXT, DESC_FLAG.NEXT | DESC_FLAG.WRITE, DESC_FLAG.WRITE)
        sizes, offsets = (16, size_bytes, 1), (0, 0x200, 0x100)
        for n in range(3):
            packed = struct.pack("<QIHH", GPA + at + offsets[n], sizes[n], flags[n], first + n + 1)
            self.memory[16 * (first + n) : 16 * (first + n) + 16] = packed
        self._offer(first)
        return at + 0x200

    def offer_room(self, size_bytes: int) -> int:
        """Gives room for bytes; where they will be."""
        at = BUFFERS + 0x2000 * (self.added % 4)
        self.memory[:16] = struct.pack("<QIHH", GPA + at, size_bytes, DESC_FLAG.WRITE, 0)
        self._offer(0)
        return at

    def _offer(self, head: int) -> None:
        entry = AVAILABLE + 4 + 2 * (self.added % SIZE)
        self.memory[entry : entry + 2] = struct.pack("<H", head)
        self.added += 1
        self.memory[AVAILABLE + 2 : AVAILABLE + 4] = struct.pack("<H", self.added & 0xFFFF)
        os.eventfd_write(self.kick_fd, 1)

    def used(self) -> int:
        """How many came back."""
        return int.from_bytes(self.memory[USED + 2 : USED + 4], "little")
