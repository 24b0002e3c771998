"""Puts a program to replay into the image of the guest that replays, guest_drivers/guests/replay.c.

The image grows by a segment to load, behind its others, with the program and a note that asks for the recorded
devices; its program headers move to the end of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypercall_abi.notes import DEVICE_FLAG, NOTE, NOTE_DEVICE, OWNER
from hypercall_abi.recording import RECORDING, REPLAY_PLACE

from ..config import PAGE_BYTES
from ..errors import RecordingError
from .reader import Device

# Of the ELF specification: places in the file's header, and a program header.
_PHOFF_AT, _PHNUM_AT = 32, 56
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_LOAD, _NOTE = 1, 4
_READABLE = 4


def _pages(at: int) -> int:
    return -(-at // PAGE_BYTES) * PAGE_BYTES


def _manifest(devices: Sequence[Device]) -> bytes:
    """The note; nothing if there are no devices."""
    if not devices:
        return b""
    owner = OWNER.encode() + b"\0"
    records = (
        NOTE_DEVICE.build(
            {
                "type": device.type,
                "flags": DEVICE_FLAG.READ_ONLY if device.read_only else 0,
                "name": device.name,
            }
        )
        for device in devices
    )
    payload = b"".join(records)
    return struct.pack("<III", len(owner), len(payload), NOTE.MANIFEST) + owner + bytes(-len(owner) % 4) + payload


def _place(elf: bytes) -> int:
    """Where in the file the image's replay_place is.  Raises RecordingError."""
    first: bytes = REPLAY_PLACE.build({"magic": RECORDING.MAGIC, "mark": (1 << 64) - 1, "gpa": 0, "size_bytes": 0})
    if elf.count(first) != 1:
        raise RecordingError("the image replay.elf is not one that replays; build the guests again")
    return elf.index(first)


def with_program(elf: bytes, program: bytes, devices: Sequence[Device]) -> bytes:
    """The image `elf` with `program` in it.  Raises RecordingError."""
    place, note = _place(elf), _manifest(devices)
    (at,) = struct.unpack_from("<Q", elf, _PHOFF_AT)
    (count,) = struct.unpack_from("<H", elf, _PHNUM_AT)
    headers = [_PROGRAM_HEADER.unpack_from(elf, at + i * _PROGRAM_HEADER.size) for i in range(count)]
    gpa = _pages(max(h[3] + h[6] for h in headers if h[0] == _LOAD))
    start = _pages(len(elf))
    program += bytes(-len(program) % 8)
    note_at = len(program)
    size = note_at + len(note)
    headers.append((_LOAD, _READABLE, start, gpa, gpa, size, size, PAGE_BYTES))
    if note:
        headers.append((_NOTE, _READABLE, start + note_at, gpa + note_at, gpa + note_at, len(note), len(note), 4))
    image = bytearray(elf) + bytes(start - len(elf)) + program + note
    image += bytes(-len(image) % 8)
    struct.pack_into("<Q", image, _PHOFF_AT, len(image))
    struct.pack_into("<H", image, _PHNUM_AT, len(headers))
    found = {"magic": RECORDING.MAGIC, "mark": (1 << 64) - 1, "gpa": gpa, "size_bytes": len(program)}
    image[place : place + REPLAY_PLACE.size] = REPLAY_PLACE.build(found)
    return bytes(image) + b"".join(_PROGRAM_HEADER.pack(*h) for h in headers)
