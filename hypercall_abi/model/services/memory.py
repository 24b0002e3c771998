"""Service memory: lists of ranges, checked all before the first is touched (MEM-1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ...conventions import STATUS
from ...services.memory import BYTES, MEMORY_RANGE
from ..answers import Allowed, Answer, ok, refused
from ..guest_memory import PAGE_BYTES

if TYPE_CHECKING:
    from ..machine import Machine

Act = Callable[[int, int], None]


def _ranges(
    machine: Machine, gpa: int, count: int, act: Act = lambda _gpa, _size_bytes: None, failing: tuple[str, ...] = ()
) -> Allowed:
    """Each range in turn; a host may stop between two of them (MEM-6), or be unable to do the first."""
    ranges = [(r.gpa, r.size_bytes) for r in machine.memory.records(MEMORY_RANGE, gpa, count)] if count else []
    if sum(size for _, size in ranges) > machine.limit(BYTES):  # MEM-5
        return refused("LIMIT")
    for start, size in ranges:
        if start % PAGE_BYTES or size % PAGE_BYTES:  # MEM-2
            return refused("UNALIGNED")
        if not machine.memory.contains(start, size):
            return refused("BAD_ADDRESS")

    def do(number: int) -> None:
        for start, size in ranges[:number]:  # MEM-4: they may overlap
            act(start, size)

    some = (Answer(STATUS.CONTINUE, done, partial(do, done)) for done in range(1, count))
    return ok(count, partial(do, count)), *some, *(map(refused, failing) if count else ())


def populate(machine: Machine, _vcpu: int, gpa: int, count: int) -> Allowed:
    """Nothing that a guest could see but the time that a touch takes."""
    return _ranges(machine, gpa, count, failing=("NO_MEMORY", "FAILED"))


def discard(machine: Machine, _vcpu: int, gpa: int, count: int) -> Allowed:
    """MEM-3."""
    return _ranges(machine, gpa, count, lambda at, size: machine.memory.write(at, bytes(size)), ("FAILED",))


def target(machine: Machine, _vcpu: int) -> Answer:
    """What the host wants back."""
    return ok(machine.balloon_target_bytes)


def inflate(machine: Machine, _vcpu: int, gpa: int, count: int) -> Allowed:
    """What is in the balloon has no contents."""
    return _ranges(machine, gpa, count, machine.memory.undefine, ("FAILED",))


def deflate(machine: Machine, _vcpu: int, gpa: int, count: int) -> Allowed:
    """Usable again, with whatever is in it."""
    return _ranges(machine, gpa, count, machine.memory.undefine, ("FAILED",))


def report(machine: Machine, _vcpu: int, gpa: int, count: int) -> Allowed:
    """Contents may vanish until they are written."""
    return _ranges(machine, gpa, count, machine.memory.undefine, ("FAILED",))
