"""Who called whom, of a guest that crashed: from its registers, its stack and what its image says of frames.

Everything looked at is the guest's own choice: memory is read by checked copies, and there is an end to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .cfi import Row, row_at

if TYPE_CHECKING:
    from ..boot.image import Image
    from ..machine import Machine
    from ..services.system import CrashReport

FRAMES_MOST = 32
_EXECUTABLE = 1
_NAMES = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split()
"""In the order of DWARF's numbers."""
_RBP, _RSP, _RIP = 6, 7, 16
_MASK = (1 << 64) - 1
Word = Callable[[int], int | None]


def places(machine: Machine, report: CrashReport) -> tuple[str, ...]:
    """Who called whom, as people read it, the innermost first; nothing if that is all that is known.

    Addresses are taken as those of guest memory, as a guest is entered with (BOOT-2).
    """

    def word(address: int) -> int | None:
        there = address < 1 << 63 and machine.memory.contains(address, 8)
        return int.from_bytes(machine.memory.read(address, 8), "little") if there else None

    if machine.image.is_plain:
        return ()
    found = backtrace(machine.image, word, report.registers, called=report.vector is None)
    return tuple(map(machine.place, found)) if len(found) > 1 else ()


def backtrace(image: Image, word: Word, registers: Mapping[str, int], *, called: bool = False) -> list[int]:
    """Addresses of instructions, the innermost first; `word` reads 8 bytes of the guest's memory, or answers None.

    Of who called it is the last byte of the call: what follows that may be another function's.  `called`: the first
    is where a call returns to, too.
    """
    state = {number: registers[name] for number, name in enumerate(_NAMES)}
    found = [state[_RIP] - called]
    while len(found) < FRAMES_MOST:
        row = row_at(image.contents, found[-1])
        leave = _by_row(row, word, state) if row else _by_frame_pointer(word, state)
        if leave is None or not _is_code(image, leave[_RIP]) or leave[_RSP] <= state[_RSP]:
            return found
        state = leave
        found.append(state[_RIP] - 1)
    return found


def _is_code(image: Image, address: int) -> bool:
    return any(s.flags & _EXECUTABLE and s.gpa <= address < s.end_gpa for s in image.segments)


def _by_row(row: Row, word: Word, state: dict[int, int]) -> dict[int, int] | None:
    if row.base not in state:
        return None
    frame = state[row.base] + row.offset & _MASK
    leave = {**state, _RSP: frame}
    for register, rule in row.rules.items():
        if register not in state:
            continue
        value = word(frame + rule & _MASK) if isinstance(rule, int) else None
        if value is None and register in (_RIP, _RSP):
            return None
        leave[register] = value or 0
    return leave if _RIP in row.rules else None


def _by_frame_pointer(word: Word, state: dict[int, int]) -> dict[int, int] | None:
    frame = state[_RBP]
    before, back = word(frame), word(frame + 8 & _MASK)
    if before is None or back is None:
        return None
    return {**state, _RBP: before, _RIP: back, _RSP: frame + 16}
