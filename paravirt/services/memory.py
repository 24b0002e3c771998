"""Service memory: populate and discard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .._native import lib
from ..abi import STATUS, parse, size_of

if TYPE_CHECKING:
    from ..machine import Machine

PAGE_BYTES = 4096


def _ranges(machine: Machine, gpa: int, count: int) -> list[tuple[int, int]] | int:
    """The ranges, copied once and checked all before any is touched (MEM-1, MEM-2); or a status."""
    if not count:
        return []
    each = size_of("memory_range")
    copy = machine.memory.read(gpa, count * each)
    listed = [parse("memory_range", copy[at : at + each]) for at in range(0, len(copy), each)]
    if sum(r.size_bytes for r in listed) > lib.PV_LIMIT_MEMORY_BYTES:  # MEM-5
        return STATUS.LIMIT
    for r in listed:
        if r.gpa % PAGE_BYTES or r.size_bytes % PAGE_BYTES:
            return STATUS.UNALIGNED
        if not machine.memory.contains(r.gpa, r.size_bytes):
            return STATUS.BAD_ADDRESS
    return [(r.gpa, r.size_bytes) for r in listed]


def _each(
    machine: Machine, gpa: int, count: int, act: Callable[[int, int], None], failed: int = STATUS.FAILED
) -> tuple[int, int]:
    """Each range in turn; `failed` is the answer if the host cannot do the first."""
    ranges = _ranges(machine, gpa, count)
    if isinstance(ranges, int):
        return ranges, 0
    done = 0
    try:
        for start, size in ranges:
            if size:
                act(start, size)
            done += 1
    except OSError:
        return (STATUS.CONTINUE, done) if done else (failed, 0)  # MEM-6: a refused call did nothing (CALL-10)
    return STATUS.OK, count


def populate(machine: Machine, _vcpu: int, gpa: int, count: int) -> tuple[int, int]:
    """Backs the ranges now."""
    return _each(machine, gpa, count, machine.memory.populate, STATUS.NO_MEMORY)


def discard(machine: Machine, _vcpu: int, gpa: int, count: int) -> tuple[int, int]:
    """Gives the ranges' pages back to the host (MEM-3)."""
    return _each(machine, gpa, count, machine.memory.discard)
