"""Instructions that the engine must stop at, found in a page before any of it is translated.

Unicorn's hooks for instructions come too late (what follows an OUT may have run already) or not at
all; hooks for addresses are exact.  What only looks like such an instruction is never reached by
that address, so a hook too many costs nothing.
"""

from __future__ import annotations

import re

OUT, HALT, PAUSE, IRET, SYSCALL, IO = range(1, 7)
LONGEST_BYTES = 4

_REX = range(0x40, 0x50)
_LIKELY = re.compile(
    rb"(?=[\x40-\x4f]?(?:[\xef\xf4\xcf]|\x0f[\x05\x34])|\xf3\x90|\x66?[\xe4-\xe7\xec-\xef])", re.DOTALL
)
_IO = range(0xE4, 0xE8), range(0xEC, 0xF0)  # with the port in the instruction, and in DX
_OPERAND_16 = 0x66


def find(page: bytes) -> set[int]:
    """Offsets in `page` at which such an instruction may begin.

    Its last bytes may begin one that runs over its end.  So may the next page's first: in a block that
    comes from this page, the library asks for hooks there before it fetches from that page.
    """
    edge = {len(page) - 2, len(page) - 1, len(page)}
    return {match.start() for match in _LIKELY.finditer(page)} | edge


def decode(code: bytes) -> tuple[int, int]:
    """(kind, length) of the instruction that `code` begins with; kind 0: none of these.

    OUT is the trap's own form; any other access to a port is IO.
    """
    at = int(code[0] in _REX)
    simple = {0xEF: OUT, 0xF4: HALT, 0xCF: IRET}.get(code[at], 0)
    if simple:
        return simple, at + 1
    if code[:2] == b"\xf3\x90":
        return PAUSE, 2
    if code[at : at + 2] in (b"\x0f\x05", b"\x0f\x34"):
        return SYSCALL, at + 2
    operation = code[1] if code[0] == _OPERAND_16 else code[0]
    return (IO, 0) if any(operation in kind for kind in _IO) else (0, 0)


def port_access(code: bytes, dx: int) -> tuple[int, int]:
    """(port, width in bytes) of an IO that `code` begins with."""
    code = code[1:] if code[0] in _REX else code
    wide = code[0] == _OPERAND_16
    operation, port = code[wide], code[wide + 1]
    width = 1 if operation % 2 == 0 else 2 if wide else 4
    return (port if operation in _IO[0] else dx), width
