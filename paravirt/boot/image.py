"""A guest's image: an ELF file or a Linux kernel as it is shipped, read once and checked, as plain values.

The file is hostile.  It is read into memory once, so that it cannot change between check and use.
pyelftools is kept for the names of machines: it believes the counts it finds, and loads longer than a
guest.  Notes are read in ``notes.py``; placing segments and page tables is for the machine.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import namedtuple
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..abi import SERVICES, VERSION, Constants
from ..config import PAGE_BYTES, Privilege, show_size
from ..errors import (
    AbiNotOffered,
    BadEntry,
    BadNote,
    BadSegments,
    ConfigError,
    CpuNotOffered,
    ImageTooLarge,
    ImageUnreadable,
    NotElf,
    ServiceNotOffered,
    TruncatedImage,
    WrongMachine,
)
from .linux import ENTRY_OFFSET, LinuxHeader, is_bzimage, parse_header
from .notes import Notes, parse_notes

IMAGE_MOST_BYTES = 1 << 30
PROGRAM_HEADERS_MOST = 64
NOTE_SEGMENT_MOST_BYTES = 65536
LARGE_PAGE_BYTES = 2 << 20
GPA_END = 1 << 52  # no x86-64 has more physical address bits

CPU_LEVEL = Constants("CPU_LEVEL")
PRIVILEGE = Constants("PRIVILEGE")

_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian, version 1
# Elf64_Ehdr and Elf64_Phdr of the ELF specification.
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_Header = namedtuple(
    "_Header",
    "e_ident e_type e_machine e_version e_entry e_phoff e_shoff e_flags e_ehsize e_phentsize e_phnum e_shentsize "
    "e_shnum e_shstrndx",
)
_ProgramHeader = namedtuple("_ProgramHeader", "p_type p_flags p_offset p_vaddr p_paddr p_filesz p_memsz p_align")
_ET_EXEC, _EM_X86_64 = 2, 62
_PT_LOAD, _PT_INTERP, _PT_NOTE = 1, 3, 4
_EXECUTABLE, _WRITABLE, _READABLE = 1, 2, 4


class Segment(NamedTuple):
    """What is put into guest memory: `data` at `gpa`, then zeros up to `memory_bytes`."""

    number: int
    """Of its program header, for messages."""
    gpa: int
    data: memoryview
    memory_bytes: int
    flags: int

    @property
    def end_gpa(self) -> int:
        """First address behind it."""
        return self.gpa + self.memory_bytes

    @property
    def readable(self) -> bool:
        """PF_R."""
        return bool(self.flags & _READABLE)

    @property
    def writable(self) -> bool:
        """PF_W."""
        return bool(self.flags & _WRITABLE)

    @property
    def executable(self) -> bool:
        """PF_X."""
        return bool(self.flags & _EXECUTABLE)

    @property
    def permissions(self) -> str:
        """As ``r-x``."""
        pairs = ((self.readable, "r"), (self.writable, "w"), (self.executable, "x"))
        return "".join(letter if held else "-" for held, letter in pairs)

    def __str__(self) -> str:
        return f"segment {self.number} ({self.gpa:#x}–{self.end_gpa:#x} {self.permissions})"


class Image(NamedTuple):
    """A checked image.  `entry_gpa` lies in an executable segment; segments are in order and do not overlap."""

    path: Path
    entry_gpa: int
    segments: tuple[Segment, ...]
    notes: Notes
    contents: memoryview
    """The whole file."""
    linux: LinuxHeader | None = None
    """Of a kernel that is entered by Linux's boot protocol."""
    initial_disk: memoryview = memoryview(b"")
    """What a plain guest is given along, if anything: an initial RAM disk."""

    @property
    def is_plain(self) -> bool:
        """Without notes of ours (NOTE-4): it finds its devices by virtio-mmio, and firmware's tables."""
        return not self.notes.present

    @property
    def is_pvh(self) -> bool:
        """A plain guest that is entered by PVH: 32-bit mode, paging off."""
        return self.is_plain and self.linux is None


def read_image(path: Path) -> memoryview:
    """The bytes of the file `path`.  Raises ImageUnreadable; never blocks on a FIFO or a device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return _read_file(fd, path)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageUnreadable(f"cannot read the image {path}: {reason}; check the path") from error


def _read_file(fd: int, path: Path) -> memoryview:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ImageUnreadable(f"the image {path} is not a regular file; give an ELF file")
    if status.st_size > IMAGE_MOST_BYTES:
        raise ImageUnreadable(f"the image {path} is larger than {show_size(IMAGE_MOST_BYTES)}; strip it")
    with open(fd, "rb", closefd=False) as file:
        return memoryview(file.read(IMAGE_MOST_BYTES))


def load_image(path: Path, initrd: Path | None = None) -> Image:
    """Reads and checks the image at `path`, and its initial RAM disk: once, for every life of the machine.

    Raises the ImageError that fits (chapter ELF notes, boot), ConfigError.
    """
    image = parse_image(read_image(path), path)
    if initrd is None:
        return image
    if not image.is_plain:
        raise ConfigError(f"the image {path} takes no initial RAM disk; leave --initrd out, or attach it by --disk")
    try:
        contents = read_image(initrd)
    except ImageUnreadable as error:
        raise ImageUnreadable(str(error).replace("the image", "the initial RAM disk", 1)) from error
    if not contents:
        raise ImageUnreadable(f"the initial RAM disk {initrd} is empty; make it again")
    return image._replace(initial_disk=contents)


def parse_image(contents: memoryview, path: Path) -> Image:
    """Checks `contents`, the bytes of an image; `path` is for messages.  Raises ImageError."""
    if is_bzimage(contents):
        return _bzimage(contents, path)
    header = _elf_header(contents, path)
    headers = _program_headers(contents, header, path)
    notes = parse_notes(_note_areas(contents, headers, path))
    segments = _segments(contents, headers, notes, path)
    if notes.present:
        entry_gpa = header.e_entry
    elif notes.pvh_entry_gpa is not None:
        entry_gpa = notes.pvh_entry_gpa
    else:
        raise BadEntry(
            f"the image {path} has neither Paravirt notes nor a PVH entry; add notes with paravirt/notes.h",
            rule="NOTE-4",
        )
    if not any(s.executable and s.gpa <= entry_gpa < s.end_gpa for s in segments):
        raise BadEntry(f"the image {path} has its entry at {entry_gpa:#x}, outside of every executable segment")
    return Image(path, entry_gpa, segments, notes, contents)


def _bzimage(contents: memoryview, path: Path) -> Image:
    header, kernel = parse_header(contents, path)
    segment = Segment(0, header.load_gpa, kernel, header.memory_bytes, _EXECUTABLE | _WRITABLE | _READABLE)
    return Image(path, header.load_gpa + ENTRY_OFFSET, (segment,), Notes(), contents, header)


def _elf_header(contents: memoryview, path: Path) -> _Header:
    if contents[:4] != _IDENT[:4]:
        what = "not an ELF file" if contents else "empty"
        raise NotElf(f"{path} is {what}; give the guest's linked ELF image, or a Linux kernel (bzImage)")
    if contents[: len(_IDENT)] != _IDENT[: len(contents)]:
        raise WrongMachine(f"the image {path} is not a 64-bit little-endian ELF file; build it for x86-64")
    if len(contents) < _HEADER.size:
        raise TruncatedImage(f"the image {path} ends within its ELF header; copy or build it again")
    header = _Header(*_HEADER.unpack_from(contents))
    if header.e_machine != _EM_X86_64:
        raise WrongMachine(f"the image {path} is for {_named('MACHINE', header.e_machine)}; build it for x86-64")
    if header.e_type != _ET_EXEC:
        kind = _named("TYPE", header.e_type)
        raise WrongMachine(f"the image {path} is {kind}, not an executable; link it with -static -no-pie")
    return header


def _named(kind: str, number: int) -> str:
    """ELF's own name of a machine or type of file."""
    from elftools.elf import enums

    values: dict[str, int] = getattr(enums, f"ENUM_E_{kind}")
    return next((name for name, value in values.items() if value == number), f"{kind.lower()} {number}")


def _program_headers(contents: memoryview, header: _Header, path: Path) -> list[_ProgramHeader]:
    count, at = header.e_phnum, header.e_phoff
    if count == 0 or header.e_phentsize != _PROGRAM_HEADER.size:
        raise BadSegments(f"the image {path} has no program headers of 56 bytes; link it as an executable")
    if count > PROGRAM_HEADERS_MOST:
        raise BadSegments(f"the image {path} has {count} program headers; at most {PROGRAM_HEADERS_MOST} are taken")
    if at + count * _PROGRAM_HEADER.size > len(contents):
        raise TruncatedImage(f"the image {path} ends within its program headers; copy or build it again")
    places = (at + i * _PROGRAM_HEADER.size for i in range(count))
    headers = [_ProgramHeader(*_PROGRAM_HEADER.unpack_from(contents, place)) for place in places]
    if any(h.p_type == _PT_INTERP for h in headers):
        raise WrongMachine(f"the image {path} is a program for an operating system (PT_INTERP); link it with -static")
    return headers


def _file_part(contents: memoryview, header: _ProgramHeader, index: int, path: Path) -> memoryview:
    end = header.p_offset + header.p_filesz
    if end > len(contents):
        raise TruncatedImage(
            f"the image {path} is truncated: segment {index} ends at byte {end} of {len(contents)}; "
            "copy or build it again"
        )
    return contents[header.p_offset : end]


def _note_areas(contents: memoryview, headers: list[_ProgramHeader], path: Path) -> list[tuple[bytes, int]]:
    areas = []
    for index, h in enumerate(headers):
        if h.p_type != _PT_NOTE:
            continue
        if h.p_filesz > NOTE_SEGMENT_MOST_BYTES:
            raise BadNote(f"the note segment {index} of the image {path} is larger than 64K; mend its link script")
        areas.append((bytes(_file_part(contents, h, index, path)), 8 if h.p_align == 8 else 4))
    return areas


def _segments(contents: memoryview, headers: list[_ProgramHeader], notes: Notes, path: Path) -> tuple[Segment, ...]:
    segments = []
    for index, h in enumerate(headers):
        if h.p_type != _PT_LOAD or not (h.p_memsz or h.p_filesz):
            continue
        if h.p_paddr + h.p_memsz > GPA_END:
            raise BadSegments(f"segment {index} of the image {path} wraps or ends above 2^52; mend its link script")
        if h.p_filesz > h.p_memsz:
            raise BadSegments(f"segment {index} of the image {path} has more bytes than memory; link it again")
        if notes.present and h.p_vaddr != h.p_paddr:
            raise BadSegments(
                f"segment {index} of the image {path} has virtual address {h.p_vaddr:#x} and physical address "
                f"{h.p_paddr:#x}, but memory is mapped one to one; mend its link script",
                rule="BOOT-17",
            )
        segments.append(Segment(index, h.p_paddr, _file_part(contents, h, index, path), h.p_memsz, h.p_flags))
    if not segments:
        raise BadSegments(f"the image {path} has nothing to load; link it as an executable")
    segments.sort(key=lambda s: s.gpa)
    _check_neighbours(segments, notes, path)
    return tuple(segments)


def _check_neighbours(segments: list[Segment], notes: Notes, path: Path) -> None:
    for one, next_one in zip(segments, segments[1:], strict=False):
        if one.end_gpa > next_one.gpa:
            raise BadSegments(f"{one} and {next_one} of the image {path} overlap; mend its link script")
        shared_page = (one.end_gpa - 1) // PAGE_BYTES == next_one.gpa // PAGE_BYTES
        if notes.present and shared_page and one.flags != next_one.flags:
            raise BadSegments(
                f"{one} and {next_one} of the image {path} share a page; align segments to 4096", rule="BOOT-4"
            )
    if notes.present and segments[0].gpa < PAGE_BYTES:
        raise BadSegments(f"{segments[0]} of the image {path} lies in page zero; link it higher", rule="BOOT-2")


def check_memory(image: Image, ram: Sequence[tuple[int, int]], kept_bytes: int = 0) -> None:
    """Raises ImageTooLarge unless each segment lies wholly in one of `ram`, ranges of (gpa, size_bytes).

    `kept_bytes` is what the host takes of the memory besides.
    """
    for segment in image.segments:
        if any(gpa <= segment.gpa and segment.end_gpa <= gpa + size for gpa, size in ram):
            continue
        needed = segment.end_gpa + kept_bytes
        needed += -needed % LARGE_PAGE_BYTES
        if segment.end_gpa > max((gpa + size for gpa, size in ram), default=0):
            advice = f"give at least {show_size(needed)} with --memory"
        else:
            advice = "that is kept for the host or for devices; link the image elsewhere"
        raise ImageTooLarge(f"{segment} of the image {image.path} does not lie in the guest's memory; {advice}")


def check_against_host(image: Image, offered: Mapping[int, int], cpu_level: int | None = None) -> None:
    """Whether the host has what the image requires.

    `offered` maps the numbers of the services offered (those denied left out) to their features;
    `cpu_level` is the host's (see :mod:`paravirt.boot.cpu`), None: found out when it matters.
    Raises AbiNotOffered, ServiceNotOffered (NOTE-5), CpuNotOffered.
    """
    notes = image.notes
    if notes.version is not None and not (notes.version[0] == VERSION[0] and notes.version[1] <= VERSION[1]):
        wanted, ours = (".".join(map(str, v)) for v in (notes.version, VERSION))
        raise AbiNotOffered(f"the image {image.path} needs ABI {wanted}, this host offers {ours}; use a matching pair")
    names = {service.number: name for name, service in SERVICES.items()}
    for number, features in notes.services.items():
        name = names.get(number, f"{number:#x}")
        if number not in offered:
            advice = "take it out of --deny" if number in names else "offer it with --extension"
            raise ServiceNotOffered(
                f"the image {image.path} requires the service {name}, which is not offered; "
                f"{advice}, or use a host that has it",
                rule="NOTE-5",
            )
        if missing := features & ~offered[number]:
            raise ServiceNotOffered(
                f"the image {image.path} requires features {missing:#x} of the service {name}, which are not "
                "offered; use a host that has them",
                rule="NOTE-5",
            )
    if notes.cpu_level > CPU_LEVEL.V1:
        _check_cpu(image, cpu_level)


def _check_cpu(image: Image, cpu_level: int | None) -> None:
    from .cpu import host_cpu_level  # reads /proc/cpuinfo: only for the images that ask

    level = host_cpu_level() if cpu_level is None else cpu_level
    if image.notes.cpu_level > level:
        raise CpuNotOffered(
            f"the image {image.path} needs a CPU of level x86-64-v{image.notes.cpu_level}, "
            f"this one has v{level}; build it for an older CPU or run it elsewhere"
        )


def entry_privilege(image: Image, wanted: Privilege) -> Privilege:
    """The level the image is entered at: what its note says, else `wanted`."""
    fixed: dict[int, Privilege] = {PRIVILEGE.USER: "user", PRIVILEGE.SUPERVISOR: "supervisor"}
    return "supervisor" if image.is_plain else fixed.get(image.notes.privilege, wanted)
