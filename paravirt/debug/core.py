"""An ELF core of a machine: its memory, and a thread per vCPU, as gdb and tools that read kernels' crashes take it.

The file is as sparse as guest memory is.  Memory lies in it by guest-physical address; what the guest's page tables
map elsewhere has a program header of its own that leads to the same bytes (``mappings.py``).  Notes: NT_PRSTATUS and
NT_PRFPREG for each vCPU, then the record named QEMU, in which those tools look for control registers and tables.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import OutputError
from .mappings import mappings
from .registers import GENERAL

if TYPE_CHECKING:
    from ..machine import Machine
    from .debugger import Debugger

PAGE = 4096
PIECE_BYTES = 1 << 20
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_CORE, _X86_64, _LOAD, _NOTES, _RWX = 4, 62, 1, 4, 7
_PRSTATUS, _PRFPREG, _CPU_STATE = 1, 2, 0
_STATUS_BYTES, _STATUS_PID_AT, _STATUS_REGISTERS_AT = 336, 32, 112
_STATUS_ORDER = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi".split()
_CPU_ORDER = "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15".split()
_CS, _SS, _DS, _ES, _FS, _GS = range(6)


class Load(NamedTuple):
    """Memory in the core: at a virtual and at a guest-physical address."""

    address: int
    gpa: int
    size_bytes: int


def _note(owner: bytes, kind: int, payload: bytes) -> bytes:
    name = owner + b"\0"
    padded = name.ljust(-(-len(name) // 4) * 4, b"\0") + payload.ljust(-(-len(payload) // 4) * 4, b"\0")
    return _NOTE.pack(len(name), len(payload), kind) + padded


def _general(registers: Any) -> dict[str, int]:
    return dict(zip(GENERAL, registers.general, strict=True))


def status(index: int, registers: Any) -> bytes:
    """The payload of NT_PRSTATUS: ``struct elf_prstatus`` of Linux for x86-64."""
    general, segments = _general(registers), registers.segments
    values = [*(general[name] for name in _STATUS_ORDER), (1 << 64) - 1, registers.rip, segments[_CS]]
    values += [registers.rflags, general["rsp"], segments[_SS], registers.fs_base, registers.gs_base]
    values += [segments[_DS], segments[_ES], segments[_FS], segments[_GS]]
    payload = bytearray(_STATUS_BYTES)
    struct.pack_into("<I", payload, _STATUS_PID_AT, index + 1)
    struct.pack_into(f"<{len(values)}Q", payload, _STATUS_REGISTERS_AT, *values)
    return bytes(payload)


def floating(registers: Any) -> bytes:
    """The payload of NT_PRFPREG: as FXSAVE writes it."""
    control, state, tags = registers.fpu[0:3]
    used = sum(1 << n for n in range(8) if tags >> 2 * n & 3 != 3)
    head = struct.pack("<HHBBHQQII", control, state & 0xFFFF, used, 0, 0, 0, 0, registers.mxcsr & 0xFFFF_FFFF, 0xFFFF)
    parts = (head, *(bytes(st) for st in registers.st), *(bytes(xmm) for xmm in registers.xmm))
    return b"".join(parts).ljust(512, b"\0")


def _segment(selector: int = 0, base: int = 0, limit: int = 0) -> bytes:
    return struct.pack("<IIIIQ", selector, limit, 0, 0, base)


def cpu_state(registers: Any) -> bytes:
    """The payload of the note named QEMU, version 1 of its layout."""
    general, segments = _general(registers), registers.segments
    parts = [struct.pack("<16QQQ", *(general[name] for name in _CPU_ORDER), registers.rip, registers.rflags)]
    parts += [_segment(segments[n]) for n in (_CS, _DS, _ES)]
    parts += [_segment(segments[_FS], registers.fs_base), _segment(segments[_GS], registers.gs_base)]
    parts += [_segment(segments[_SS]), _segment(), _segment()]  # then the tables of the LDT and the task
    parts += [_segment(0, base, 0xFFFF) for base in registers.tables]
    cr0, cr2, cr3, cr4, _ = registers.control
    parts.append(struct.pack("<5QQ", cr0, 0, cr2, cr3, cr4, 0))
    payload = b"".join(parts)
    return struct.pack("<II", 1, 8 + len(payload)) + payload


def _notes(debugger: Debugger) -> bytes:
    vcpus = [(index, debugger.registers(index)) for index in debugger.threads]
    parts = [
        _note(b"CORE", _PRSTATUS, status(index, registers)) + _note(b"CORE", _PRFPREG, floating(registers))
        for index, registers in vcpus
    ]
    return b"".join(parts) + b"".join(_note(b"QEMU", _CPU_STATE, cpu_state(registers)) for _, registers in vcpus)


def _loads(debugger: Debugger) -> list[Load]:
    memory = debugger.machine.memory
    # gdb takes the first that has an address: what the guest means by it.
    loads = [Load(*each) for each in mappings(memory, debugger.registers(debugger.threads[0]))]
    return loads + [Load(gpa, gpa, size) for gpa, size in memory.ranges]


def _head(machine: Machine, notes: bytes, loads: list[Load]) -> tuple[bytes, int]:
    """What comes before memory, and where in the file memory begins."""
    headers = _HEADER.size + _PROGRAM.size * (1 + len(loads))
    begin = -(-(headers + len(notes)) // PAGE) * PAGE
    ident = _HEADER.pack(_IDENT, _CORE, _X86_64, 1, 0, _HEADER.size, 0, 0, 64, 56, 1 + len(loads), 0, 0, 0)
    programs = [_PROGRAM.pack(_NOTES, 0, headers, 0, 0, len(notes), 0, 4)]
    for load in loads:
        at = begin + _offset(machine, load.gpa)
        programs.append(_PROGRAM.pack(_LOAD, _RWX, at, load.address, load.gpa, load.size_bytes, load.size_bytes, PAGE))
    return ident + b"".join(programs) + notes, begin


def _offset(machine: Machine, gpa: int) -> int:
    """Where a guest-physical address lies in the file of memory."""
    before = 0
    for start, size in machine.memory.ranges:
        if start <= gpa < start + size:
            return before + gpa - start
        before += size
    raise ValueError(f"{gpa:#x} is not guest memory")


def _extents(fd: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of what there is in a file with holes, in pieces."""
    at = 0
    while at < size_bytes:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
            end = min(os.lseek(fd, at, os.SEEK_HOLE), size_bytes)
        except OSError:  # ENXIO: only a hole is left
            return
        while at < end:
            piece = min(PIECE_BYTES, end - at)
            yield at, piece
            at += piece


def _write(to: int, data: bytes, at: int) -> None:
    left = memoryview(data)
    while left:
        done = os.pwrite(to, left, at)  # a full disk takes what it can first
        left, at = left[done:], at + done


def _copy_memory(machine: Machine, to: int, begin: int) -> int:
    """How many bytes there were."""
    size = sum(size for _, size in machine.memory.ranges)
    os.ftruncate(to, begin + size)
    copied = 0
    with open(f"/proc/self/fd/{machine.memory.fd}", "rb", buffering=0) as memory:  # an offset of its own
        for at, length in _extents(memory.fileno(), size):
            piece = os.pread(memory.fileno(), length, at)
            if piece.count(0) != len(piece):
                _write(to, piece, begin + at)
                copied += len(piece)
    return copied


def write_core(debugger: Debugger, path: Path) -> int:
    """Writes the core of a machine that is stopped to `path`; bytes of memory that are in it.

    An old file of that name is replaced once the new one is whole.  Raises OutputError.
    """
    machine = debugger.machine
    try:
        head, begin = _head(machine, _notes(debugger), _loads(debugger))
        fd, made = mkstemp(prefix=f"{path.name}.", dir=path.parent)
        fresh = Path(made)
        try:
            _write(fd, head, 0)
            copied = _copy_memory(machine, fd, begin)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"cannot write the core {path}: {why}; give another FILE") from error
    return copied
