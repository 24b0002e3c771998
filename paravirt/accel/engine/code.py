"""Instructions that the engine must stop at, found in a page before any of it is translated.

Unicorn's hooks for instructions come too late (what follows an OUT may have run already) or not at
all; hooks for addresses are exact.  What only looks like such an instruction is never reached by
that address, so a hook too many costs nothing.
"""

from __future__ import annotations

import re

OUT, HALT, PAUSE, IRET, SYSCALL = range(1, 6)
LONGEST_BYTES = 3

_REX = range(0x40, 0x50)
_LIKELY = re.compile(rb"(?=[\x40-\x4f]?(?:[\xef\xf4\xcf]|\x0f[\x05\x34])|\xf3\x90)", re.DOTALL)


def find(page: bytes) -> set[int]:
    """Offsets in `page` at which such an instruction may begin; its last bytes may begin one that runs over its end."""
    return {match.start() for match in _LIKELY.finditer(page)} | {len(page) - 2, len(page) - 1}


def decode(code: bytes) -> tuple[int, int]:
    """(kind, length) of the instruction that `code` begins with; kind 0: none of these."""
    at = int(code[0] in _REX)
    simple = {0xEF: OUT, 0xF4: HALT, 0xCF: IRET}.get(code[at], 0)
    if simple:
        return simple, at + 1
    if code[:2] == b"\xf3\x90":
        return PAUSE, 2
    if code[at : at + 2] in (b"\x0f\x05", b"\x0f\x34"):
        return SYSCALL, at + 2
    return 0, 0
