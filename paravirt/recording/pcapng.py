"""The file of a recording: blocks of pcapng, as far as recordings need them (rule REC-1).

Knows nothing of what packets hold.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from hypercall_abi.recording import RECORDING

from ..errors import RecordingError

SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
BYTE_ORDER = 0x1A2B3C4D
END, COMMENT, NAME, RESOLUTION, APPLICATION = 0, 1, 2, 9, 4
NANOSECONDS = 9
BLOCK_LEAST_BYTES = 12
PACKET_HEAD_BYTES = 20
BLOCK_MOST_BYTES = 16 << 20
VERSION = (1, 0)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + BLOCK_LEAST_BYTES
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def head(
    comments: Sequence[str], application: str, link_type: int = RECORDING.LINK_TYPE, interface_name: str = "hypercalls"
) -> bytes:
    """The blocks before the first packet; a comment is cut where an option's length ends."""
    options = [_option(COMMENT, text.encode()[:0xFFFC]) for text in comments]
    section = struct.pack("<IHHq", BYTE_ORDER, *VERSION, -1)
    section += b"".join((*options, _option(APPLICATION, application.encode()), _option(END, b"")))
    interface = struct.pack("<HHI", link_type, 0, 0)
    interface += _option(NAME, interface_name.encode()) + _option(RESOLUTION, bytes([NANOSECONDS])) + _option(END, b"")
    return _block(SECTION, section) + _block(INTERFACE, interface)


class Reader:
    """The packets of an open file.  Raises RecordingError, which says what is wrong with it and where."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._at = 0
        kind, body = self._first()
        if struct.unpack_from("<HH", body, 4) != VERSION:
            raise self._wrong(f"is of a version of pcapng that is not {VERSION[0]}.{VERSION[1]}")
        self._interfaces = 0

    def _wrong(self, text: str) -> RecordingError:
        return RecordingError(f"{self._name} {text}; record again with paravirt run --record")

    def _first(self) -> tuple[int, bytes]:
        start = self._file.read(12)
        if len(start) < 12 or struct.unpack_from("<I", start)[0] != SECTION:
            raise self._wrong("is not a recording: it does not begin as a pcapng file does")
        if struct.unpack_from(">I", start, 8)[0] == BYTE_ORDER:
            raise self._wrong("was written on a big-endian machine, and recordings are little-endian")
        if struct.unpack_from("<I", start, 8)[0] != BYTE_ORDER:
            raise self._wrong("is not a recording: its byte order is neither of pcapng's two")
        size = struct.unpack_from("<I", start, 4)[0]
        self._check_size(size, BLOCK_LEAST_BYTES + 16)
        return SECTION, start[8:] + self._rest(size, 12)

    def _check_size(self, size: int, least: int = BLOCK_LEAST_BYTES) -> None:
        if size % 4 or not least <= size <= BLOCK_MOST_BYTES:
            raise self._wrong(f"has a block at byte {self._at} whose length of {size} cannot be")

    def _rest(self, size: int, read: int) -> bytes:
        """What follows the first `read` bytes of a block, without the final length, which is checked."""
        rest = self._file.read(size - read)
        if len(rest) < size - read:
            raise self._wrong(f"ends inside the block at byte {self._at}: it was cut off, or its host was killed")
        if struct.unpack_from("<I", rest, len(rest) - 4)[0] != size:
            raise self._wrong(f"has a block at byte {self._at} whose two lengths differ")
        self._at += size
        return rest[:-4]

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        while start := self._file.read(8):
            if len(start) < 8:
                raise self._wrong(f"ends inside the block at byte {self._at}: it was cut off, or its host was killed")
            kind, size = struct.unpack("<II", start)
            self._check_size(size)
            yield kind, self._rest(size, 8)

    def packets(self) -> Iterator[bytes]:
        """The packets in order."""
        for kind, body in self._blocks():
            if kind == SECTION:
                raise self._wrong("has more than one section")
            if kind == INTERFACE:
                self._interface(body)
            elif kind == PACKET:
                yield self._packet(body)

    def _interface(self, body: bytes) -> None:
        link = struct.unpack_from("<H", body)[0] if len(body) >= 8 else None
        if link != RECORDING.LINK_TYPE:
            raise self._wrong(f"holds packets of link type {link}, and those of recordings have {RECORDING.LINK_TYPE}")
        self._interfaces += 1
        if self._interfaces > 1:
            raise self._wrong("has more than one interface")

    def _packet(self, body: bytes) -> bytes:
        at = self._at - len(body) - BLOCK_LEAST_BYTES
        if len(body) < PACKET_HEAD_BYTES:
            raise self._wrong(f"has a packet at byte {at} without a whole head")
        interface, _, _, captured, original = struct.unpack_from("<IIIII", body)
        if interface >= self._interfaces:
            raise self._wrong(f"has a packet at byte {at} of interface {interface}, which it does not have")
        if captured > len(body) - PACKET_HEAD_BYTES or captured != original:
            raise self._wrong(f"has a packet at byte {at} whose length of {captured} cannot be")
        return body[PACKET_HEAD_BYTES : PACKET_HEAD_BYTES + captured]
