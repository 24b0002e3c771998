"""A writer of small ELF64 files, good and bad, for tests of the loader.

Layouts are typed here by hand, so that a mistake in the loader's is not repeated.  Every field of the
headers can be overridden by its name in the ELF specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

R, W, X = 4, 2, 1
PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4

REQUIRE, MANIFEST, PRIVILEGE, CPU = 1, 2, 3, 4
NET, BLOCK, CONSOLE, ENTROPY = 1, 2, 3, 4
OPTIONAL, READ_ONLY = 1, 2

SPIN = bytes.fromhex("ebfe")
CODE_GPA = 0x200000


@dataclass
class Load:
    """A program header and the bytes it names; `header` overrides its fields."""

    gpa: int = CODE_GPA
    data: bytes = SPIN
    memory_bytes: int | None = None
    flags: int = R | X
    type: int = PT_LOAD
    header: dict[str, int] = field(default_factory=dict)


Note = tuple[str, int, bytes]


def require(services: dict[int, int] | None = None, version: tuple[int, int] = (1, 0)) -> Note:
    """The note REQUIRE."""
    services = services or {}
    entries = b"".join(struct.pack("<IIQ", number, 0, features) for number, features in services.items())
    return "Paravirt", REQUIRE, struct.pack("<HHI", *version, len(services)) + entries


def manifest(*devices: tuple[int, int, str | bytes]) -> Note:
    """The note MANIFEST; a device is (type, flags, name)."""
    names = ((t, f, n if isinstance(n, bytes) else n.encode()) for t, f, n in devices)
    return "Paravirt", MANIFEST, b"".join(struct.pack("<II32s", t, f, n) for t, f, n in names)


def privilege(level: int, flags: int = 0) -> Note:
    """The note PRIVILEGE."""
    return "Paravirt", PRIVILEGE, struct.pack("<II", level, flags)


def cpu(level: int, flags: int = 0) -> Note:
    """The note CPU."""
    return "Paravirt", CPU, struct.pack("<II", level, flags)


def pvh(entry_gpa: int = CODE_GPA, size_bytes: int = 4) -> Note:
    """The note of a PVH entry."""
    return "Xen", 18, entry_gpa.to_bytes(8, "little")[:size_bytes].ljust(size_bytes, b"\0")


def pack_notes(notes: list[Note], align: int = 4) -> bytes:
    """The bytes of a note segment."""
    area = b""
    for owner, kind, payload in notes:
        name = owner.encode() + b"\0"
        area += struct.pack("<III", len(name), len(payload), kind) + name.ljust(-(-len(name) // 4) * 4, b"\0")
        area = area.ljust(-(-len(area) // align) * align, b"\0") + payload
        area = area.ljust(-(-len(area) // align) * align, b"\0")
    return area


@dataclass
class Elf:
    """An ELF file.  The default is a good paravirt guest that loops for ever."""

    loads: list[Load] = field(default_factory=lambda: [Load()])
    notes: list[Note] = field(default_factory=lambda: [require()])
    note_bytes: bytes | None = None
    note_align: int = 4
    header: dict[str, int | bytes] = field(default_factory=dict)

    def build(self) -> bytes:
        """The file's bytes: header, program headers, contents in order."""
        note_bytes = pack_notes(self.notes, self.note_align) if self.note_bytes is None else self.note_bytes
        loads = list(self.loads)
        if note_bytes:
            loads.append(Load(0, note_bytes, flags=R, type=PT_NOTE, header={"p_align": self.note_align}))
        header = {
            "e_ident": b"\x7fELF\2\1\1".ljust(16, b"\0"), "e_type": 2, "e_machine": 62, "e_version": 1,
            "e_entry": CODE_GPA, "e_phoff": 64, "e_shoff": 0, "e_flags": 0, "e_ehsize": 64, "e_phentsize": 56,
            "e_phnum": len(loads), "e_shentsize": 64, "e_shnum": 0, "e_shstrndx": 0,
        } | self.header  # fmt: skip
        offset = 64 + 56 * len(loads)
        headers, contents = b"", b""
        for load in loads:
            size = len(load.data) if load.memory_bytes is None else load.memory_bytes
            program = {
                "p_type": load.type, "p_flags": load.flags, "p_offset": offset + len(contents), "p_vaddr": load.gpa,
                "p_paddr": load.gpa, "p_filesz": len(load.data), "p_memsz": size, "p_align": 4096,
            } | load.header  # fmt: skip
            headers += struct.pack("<IIQQQQQQ", *program.values())
            contents += load.data
        return struct.pack("<16sHHIQQQIHHHHHH", *header.values()) + headers + contents

    def write(self, path: Path) -> Path:
        """Writes the file; the path again."""
        path.write_bytes(self.build())
        return path
