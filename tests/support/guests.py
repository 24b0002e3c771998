"""Tiny x86-64 guests, assembled by hand: no compiler, one behaviour each.

A guest is a list of steps at CODE_GPA that ends in a loop for ever; what its calls point at lies at
DATA_GPA.  Call numbers and the trap's registers are typed here again, on purpose.
"""

from __future__ import annotations

import struct
from pathlib import Path

from tests.support.elf import CODE_GPA, SPIN, Elf, Load, Note, R, W, X, privilege, require

TRAP_PORT = 0x5050
DATA_GPA = 0x300000

CONSOLE_WRITE = 2 << 16
SHUTDOWN, RESET, CRASH, WATCHDOG = (8 << 16 | function for function in range(4))
POWEROFF, FAILURE, BOOT_REFUSED = range(3)

# mov imm64 into RDI RSI RCX R8 R9 R10
_MOVES = [b"\x48\xbf", b"\x48\xbe", b"\x48\xb9", b"\x49\xb8", b"\x49\xb9", b"\x49\xba"]

UNDEFINED = b"\x0f\x0b"  # ud2


def call(number: int, *args: int) -> bytes:
    """A call over the trap; its result is ignored."""
    moves = b"".join(move + struct.pack("<Q", arg) for move, arg in zip(_MOVES, (*args, *[0] * 6)[:6], strict=True))
    return moves + b"\xb8" + struct.pack("<I", number) + b"\x66\xba" + struct.pack("<H", TRAP_PORT) + b"\xef"


def say(text: str) -> bytes:
    """console.write of what is at DATA_GPA, which the guest is given as `text`, too."""
    return call(CONSOLE_WRITE, DATA_GPA, len(text.encode()))


def shutdown(reason: int = POWEROFF, status: int = 0) -> bytes:
    """system.shutdown."""
    return call(SHUTDOWN, reason, status)


def crash_report(text: bytes = b"no reason", vector: int = 0xFFFFFFFF, rip: int = 0x1234, vcpu: int = 0) -> bytes:
    """The record crash_report."""
    return struct.pack("<IIQQ16QQQ256s", vcpu, vector, 2, 0xDEAD000, *range(16), rip, 0x202, text)


def guest(code: bytes, data: bytes = b"", notes: list[Note] | None = None) -> Elf:
    """A guest that runs `code`, then loops; `data` is at DATA_GPA."""
    loads = [Load(CODE_GPA, code + SPIN, flags=R | X)]
    if data:
        loads.append(Load(DATA_GPA, data, flags=R | W))
    return Elf(loads, [require(), privilege(0)] if notes is None else notes)


def write_guest(path: Path, code: bytes, data: bytes = b"", notes: list[Note] | None = None) -> Path:
    """The same as a file at `path`."""
    return guest(code, data, notes).write(path)
