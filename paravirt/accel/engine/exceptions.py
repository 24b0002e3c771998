"""What the library keeps of an exception and tells nobody: its error code, and that there was one.

It takes a second exception for a double fault, since it never hears that the first was delivered.
Both words are in its record of the registers (``Context.bytes``); where, is found out by experiment
when the first exception comes.
"""

from __future__ import annotations

import functools
import struct

from .emulator import PROT_EXEC, PROT_READ, PROT_WRITE, Emulator, TlbEntry

_NOTHING = 0xFFFF_FFFF
_DIVIDE, _PROTECTION = 0, 13
_DIVIDE_BY_ZERO = b"\xf7\xf1"  # div ecx
_LOAD_SEGMENT = b"\x8e\xd8"  # mov ds, eax
_SELECTOR = 0x1238  # beyond any table: #GP with it as its error code
_RAM_BYTES = 4096


def _experiment(code: bytes) -> tuple[bytes, bytes]:
    """The record before and after the exception that `code` makes."""
    emulator = Emulator()
    emulator.map(0, _RAM_BYTES)

    def fill(_address: int, _kind: int, entry: TlbEntry) -> bool:
        entry.page, entry.rights = 0, PROT_READ | PROT_WRITE | PROT_EXEC
        return True

    emulator.on_translation(fill)
    emulator.on_interrupt(lambda _vector: emulator.stop())
    emulator.write(0, code)
    emulator.set("RAX", _SELECTOR)
    start = bytes(emulator.save().bytes)
    emulator.run(0)
    return start, bytes(emulator.save().bytes)


def _words(record: bytes) -> memoryview:
    return memoryview(record[: len(record) // 4 * 4]).cast("I")


class Exceptions:
    """Where those two words are."""

    def __init__(self) -> None:
        divide = [_words(record) for record in _experiment(_DIVIDE_BY_ZERO)]
        protection = [_words(record) for record in _experiment(_LOAD_SEGMENT)]
        records = range(len(divide[0]))
        last = [
            n
            for n in records
            if divide[0][n] == protection[0][n] == _NOTHING
            and (divide[1][n], protection[1][n]) == (_DIVIDE, _PROTECTION)
        ]
        code = [n for n in records if (protection[0][n], protection[1][n]) == (0, _SELECTOR) and divide[1][n] == 0]
        if len(last) != 1 or len(code) != 1:
            raise SystemExit("this version of libunicorn keeps exceptions in another way; install unicorn 2.1")
        self._last, self._code = 4 * last[0], 4 * code[0]

    def take(self, emulator: Emulator) -> int:
        """The error code of the exception that was just reported, which is forgotten."""
        context = emulator.save()
        (code,) = struct.unpack_from("<I", context.bytes, self._code)
        struct.pack_into("<I", context.bytes, self._last, _NOTHING)
        emulator.restore(context)
        return int(code)


@functools.cache
def exceptions() -> Exceptions:
    """Those of this process."""
    return Exceptions()
