"""Names for addresses in an image, for messages about guests that failed.

The image's symbol table is as hostile as the rest of it, and a guest chooses when it is looked at: the
work is bounded over all sections, and any trouble means that there is no name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

from ..errors import one_line
from .image import Image

SYMBOLS_MOST = 100_000
NAME_MOST = 100

# Elf64_Shdr and Elf64_Sym of the ELF specification.
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SECTIONS_AT, _SECTIONS_COUNT_AT, _SECTION_NAMES_AT = 40, 58, 62
_SYMTAB, _FUNCTION = 2, 2


def place(image: Image, gpa: int) -> str:
    """`gpa` as text, with the function that it lies in if that is known: ``0x201234 (pv_main+0x14)``."""
    try:
        name = _function(image.contents, gpa)
    except (struct.error, IndexError, UnicodeDecodeError):  # the file is damaged
        name = None
    return f"{gpa:#x} ({name})" if name else f"{gpa:#x}"


def _sections(contents: memoryview) -> list[tuple[int, ...]]:
    (at,) = struct.unpack_from("<Q", contents, _SECTIONS_AT)
    size, count = struct.unpack_from("<HH", contents, _SECTIONS_COUNT_AT)
    table = contents[at : at + count * _SECTION.size]
    return list(_SECTION.iter_unpack(table)) if size == _SECTION.size else []


def section(contents: memoryview, name: bytes) -> memoryview:
    """What is in the section `name`; nothing if there is none.  Raises struct.error or IndexError if it is damaged."""
    sections = _sections(contents)
    (names_in,) = struct.unpack_from("<H", contents, _SECTION_NAMES_AT)
    names = _bytes(contents, sections[names_in]) if sections else memoryview(b"")
    for each in sections:
        if bytes(names[each[0] : each[0] + len(name) + 1]) == name + b"\0":
            return _bytes(contents, each)
    return memoryview(b"")


def _bytes(contents: memoryview, section: tuple[int, ...]) -> memoryview:
    at, size = section[4:6]
    return contents[at : at + size]


def _symbols(contents: memoryview) -> Iterator[tuple[tuple[int, ...], memoryview]]:
    """Symbols, each with the table that its name is in."""
    sections = _sections(contents)
    for section in sections:
        if section[1] == _SYMTAB:
            names = _bytes(contents, sections[section[6]])
            for symbol in _SYMBOL.iter_unpack(_bytes(contents, section)):
                yield symbol, names


def _function(contents: memoryview, gpa: int) -> str | None:
    for (name_at, info, _, _, start, size), names in islice(_symbols(contents), SYMBOLS_MOST):
        if info & 0xF == _FUNCTION and start <= gpa < start + size:
            name = bytes(names[name_at : name_at + NAME_MOST]).split(b"\0")[0].decode()
            return one_line(f"{name}+{gpa - start:#x}")
    return None
