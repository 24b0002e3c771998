"""How to leave a function: the rows of an image's section .debug_frame, from the bytes (DWARF 5, section 6.4).

The image is as hostile as its guest: whatever is not as the standard has it means that there is no row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..boot.symbols import section

ENTRIES_MOST = 100_000
STEPS_MOST = 10_000
_WORD, _WIDE = 0xFFFF_FFFF, 8
_UNDEFINED = "undefined"
Rules = dict[int, int | str]
"""Register, by DWARF's number → offset from the frame's address at which it was saved, or that nobody knows it."""


class Row(NamedTuple):
    """At one address: the frame's address is register `base` + `offset`."""

    base: int
    offset: int
    rules: Rules


class Damaged(Exception):
    """It is not as the standard has it."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            raise Damaged
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def leb(self, *, signed: bool = False) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 70:
                raise Damaged
            if not byte & 0x80:
                return value - (1 << shift) if signed and byte & 0x40 else value


class _Cie(NamedTuple):
    code_step: int
    data_step: int
    program: bytes


def _cie(contents: bytes) -> _Cie:
    reader = _Reader(contents)
    version, augmentation = reader.number(1), b""
    while (byte := reader.take(1)) != b"\0":
        augmentation += byte
    if augmentation.strip(b"S") or version not in (1, 3, 4):
        raise Damaged
    if version == 4:
        reader.take(2)
    code_step, data_step = reader.leb(), reader.leb(signed=True)
    reader.number(1) if version == 1 else reader.leb()  # the return address: always register 16
    return _Cie(code_step, data_step, reader.data[reader.at :])


def _entries(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(where it is, the CIE's place or _WORD for one, contents)."""
    reader = _Reader(data)
    for _ in range(ENTRIES_MOST):
        if reader.at >= len(data):
            return
        at, length = reader.at, reader.number(4)
        if length == _WORD or length < 4:
            raise Damaged
        contents = reader.take(length)
        yield at, int.from_bytes(contents[:4], "little"), contents[4:]


class _Machine:
    """Carries out a program up to an address."""

    def __init__(self, cie: _Cie, begin: int) -> None:
        self._cie, self._location = cie, begin
        self._base, self._offset = 7, 8
        self._rules: Rules = {}
        self._kept: list[tuple[int, int, Rules]] = []
        self._initial: Rules = {}

    def row(self, program: bytes, until: int) -> Row:
        self._carry_out(self._cie.program, (1 << 64) - 1)
        self._initial = dict(self._rules)
        self._carry_out(program, until)
        return Row(self._base, self._offset, self._rules)

    def _carry_out(self, program: bytes, until: int) -> None:
        reader = _Reader(program)
        for _ in range(STEPS_MOST):
            if reader.at >= len(program):
                return
            code = reader.number(1)
            advance = self._advance(code, reader)
            if advance is not None:
                if self._location + advance > until:
                    return
                self._location += advance
            elif code >> 6:
                self._packed(code, reader)
            else:
                self._plain(code, reader)
        raise Damaged

    def _advance(self, code: int, reader: _Reader) -> int | None:
        if code >> 6 == 1:
            return (code & 0x3F) * self._cie.code_step
        if 2 <= code <= 4:
            return reader.number(1 << code - 2) * self._cie.code_step
        return None

    def _packed(self, code: int, reader: _Reader) -> None:
        register = code & 0x3F
        if code >> 6 == 2:
            self._rules[register] = reader.leb() * self._cie.data_step
        else:
            self._restore(register)

    def _restore(self, register: int) -> None:
        self._rules.pop(register, None)
        if register in self._initial:
            self._rules[register] = self._initial[register]

    def _plain(self, code: int, reader: _Reader) -> None:
        if code == 0:
            return
        if code == 0x0A:
            self._kept.append((self._base, self._offset, dict(self._rules)))
        elif code == 0x0B and self._kept:
            self._base, self._offset, self._rules = self._kept.pop()
        elif code == 0x0C:
            self._base, self._offset = reader.leb(), reader.leb()
        elif code == 0x0D:
            self._base = reader.leb()
        elif code == 0x0E:
            self._offset = reader.leb()
        elif code == 0x05:
            self._rules[reader.leb()] = reader.leb() * self._cie.data_step
        elif code == 0x11:
            self._rules[reader.leb()] = reader.leb(signed=True) * self._cie.data_step
        elif code == 0x06:
            self._restore(reader.leb())
        elif code == 0x07:
            self._rules[reader.leb()] = _UNDEFINED
        elif code == 0x08:
            self._rules.pop(reader.leb(), None)
        else:
            raise Damaged


def row_at(image: memoryview, address: int) -> Row | None:
    """The row for the instruction at `address`; None where the image does not say."""
    try:
        data = bytes(section(image, b".debug_frame"))
        cies: dict[int, bytes] = {}
        for at, which, contents in _entries(data):
            if which == _WORD:
                cies[at] = contents
                continue
            begin, length = struct.unpack_from("<QQ", contents)
            if begin <= address < begin + length and which in cies:
                return _Machine(_cie(cies[which]), begin).row(contents[16:], address)
    except (Damaged, struct.error, IndexError):
        return None
    return None
