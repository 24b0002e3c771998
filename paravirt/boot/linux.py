"""Linux's own boot protocol on x86: a bzImage, and the page of parameters that it is entered with.

Of the protocol (Documentation/arch/x86/boot.rst in Linux) the 64-bit entry is spoken: no code of the image
runs in real mode, and what firmware would tell is in the parameters.  Others than Linux follow it too,
memtest86+ for one.  The file is hostile; what it says of itself is checked here, once.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..config import PAGE_BYTES
from ..errors import BadEntry, BadSegments, ConfigError, TruncatedImage

MAGIC = b"HdrS"
SECTOR_BYTES = 512
VERSION_LEAST = 0x20C  # the first with a 64-bit entry
ENTRY_OFFSET = 0x200  # of it, from where the kernel is loaded
SEED_BYTES = 32

# Of the setup header, and so of the parameters, which have it at the same place.
_HEADER_AT, _MAGIC_AT, _VERSION_AT = 0x1F1, 0x202, 0x206
_JUMP_AT = 0x201  # the header ends so many bytes behind it as the byte says
_LOADFLAGS_AT, _XLOADFLAGS_AT = 0x211, 0x236
_LOADED_HIGH, _KERNEL_64 = 1, 1
_INITRD_MOST_AT, _COMMAND_LINE_MOST_AT = 0x22C, 0x238
_PREFERRED_AT, _INIT_SIZE_AT = 0x258, 0x260
# Of the parameters alone.
_RSDP_AT, _E820_COUNT_AT, _E820_AT = 0x70, 0x1E8, 0x2D0
_VIDEO_AT, _LOADER_AT, _INITRD_AT, _COMMAND_LINE_AT, _SETUP_DATA_AT = 0x1FA, 0x210, 0x218, 0x228, 0x250
_E820_ENTRY = struct.Struct("<QQI")
_E820_MOST = 128
_VIDEO_NORMAL = 0xFFFF
_LOADER_OTHER = 0xFF
_SETUP_DATA = struct.Struct("<QII")  # next, kind, bytes
_SETUP_RANDOM = 9


class LinuxHeader(NamedTuple):
    """What the setup header of a kernel says."""

    raw: bytes
    """The header itself, for the parameters."""
    load_gpa: int
    """Where the kernel is loaded."""
    memory_bytes: int
    """What it needs there before it has its own view of memory."""
    initrd_end_gpa: int
    """First address that an initial RAM disk must not reach."""
    command_line_bytes: int
    """The longest command line that it takes."""


def is_bzimage(contents: memoryview) -> bool:
    """Whether a file looks like a kernel with a setup header."""
    return contents[_MAGIC_AT : _MAGIC_AT + len(MAGIC)] == MAGIC


def parse_header(contents: memoryview, path: Path) -> tuple[LinuxHeader, memoryview]:
    """The header of a bzImage and the kernel behind it.  Raises BadEntry, TruncatedImage, BadSegments."""
    (version,) = _unpack("<H", contents, _VERSION_AT, path)
    if version < VERSION_LEAST:
        raise BadEntry(
            f"the kernel {path} speaks version {version >> 8}.{version & 0xFF:02} of Linux's boot protocol, "
            "2.12 is needed; use one from Linux 3.8 on"
        )
    (xloadflags,) = _unpack("<H", contents, _XLOADFLAGS_AT, path)
    if not xloadflags & _KERNEL_64 or not contents[_LOADFLAGS_AT] & _LOADED_HIGH:
        raise BadEntry(f"the kernel {path} has no 64-bit entry; use one that was built for x86-64")
    sectors = contents[_HEADER_AT] or 4  # as the protocol has it for ancient kernels
    kernel = contents[(sectors + 1) * SECTOR_BYTES :]
    if len(kernel) <= ENTRY_OFFSET:
        raise TruncatedImage(f"the kernel {path} ends within its setup code; copy or build it again")
    end = _MAGIC_AT + contents[_JUMP_AT]
    load_gpa, init_bytes = _unpack("<QI", contents, _PREFERRED_AT, path)
    initrd_last, command_line_bytes = (
        _unpack("<I", contents, at, path)[0] for at in (_INITRD_MOST_AT, _COMMAND_LINE_MOST_AT)
    )
    if load_gpa % PAGE_BYTES or not (1 << 20) <= load_gpa < 1 << 32:
        raise BadSegments(f"the kernel {path} wants to be at {load_gpa:#x}; it must be a page from 1M to 4G")
    memory_bytes = max(init_bytes, len(kernel))
    header = LinuxHeader(bytes(contents[_HEADER_AT:end]), load_gpa, memory_bytes, initrd_last + 1, command_line_bytes)
    return header, kernel


def _unpack(form: str, contents: memoryview, at: int, path: Path) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, contents, at)
    except struct.error as error:
        raise TruncatedImage(f"the kernel {path} ends within its setup header; copy or build it again") from error


class BootParams(NamedTuple):
    """What the parameters say; addresses are guest-physical."""

    command_line: bytes
    memory_map: Sequence[tuple[int, int, int]]
    """(first byte, size, kind of e820) of its ranges, in order."""
    initrd: tuple[int, int]
    """(first byte, size); size 0: none."""
    rsdp_gpa: int


def check_command_line(header: LinuxHeader, command_line: bytes, path: Path) -> None:
    """Raises ConfigError for one that the kernel would cut."""
    if len(command_line) > header.command_line_bytes:
        raise ConfigError(
            f"the command line has {len(command_line)} bytes, the kernel {path} takes {header.command_line_bytes}; "
            "shorten it"
        )


def boot_params(gpa: int, header: LinuxHeader, params: BootParams) -> bytes:
    """The block to be put at `gpa`: the page of parameters, then the command line and a seed."""
    page = bytearray(PAGE_BYTES)
    page[_HEADER_AT : _HEADER_AT + len(header.raw)] = header.raw
    text_gpa = gpa + PAGE_BYTES
    text = params.command_line + b"\0"
    text += bytes(-len(text) % 8)
    struct.pack_into("<H", page, _VIDEO_AT, _VIDEO_NORMAL)
    page[_LOADER_AT] = _LOADER_OTHER
    struct.pack_into("<Q", page, _RSDP_AT, params.rsdp_gpa)
    struct.pack_into("<II", page, _INITRD_AT, *params.initrd)
    struct.pack_into("<I", page, _COMMAND_LINE_AT, text_gpa)
    struct.pack_into("<Q", page, _SETUP_DATA_AT, text_gpa + len(text))
    listed = params.memory_map[:_E820_MOST]
    page[_E820_COUNT_AT] = len(listed)
    for number, entry in enumerate(listed):
        _E820_ENTRY.pack_into(page, _E820_AT + number * _E820_ENTRY.size, *entry)
    seed = _SETUP_DATA.pack(0, _SETUP_RANDOM, SEED_BYTES) + os.urandom(SEED_BYTES)
    return bytes(page) + text + seed
