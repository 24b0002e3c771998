"""From (id, road, arguments) to what may be answered: the checks that hold for every call, from the declaration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .. import LIMITS
from .. import SERVICES as BY_NAME
from ..schema import Arg, Buffer, Call, Service
from .answers import WAITS, Allowed, Answer, Chooser, refused
from .services import HANDLERS

if TYPE_CHECKING:
    from .machine import Machine

SERVICES: dict[int, Service] = {s.number: s for s in BY_NAME.values()}
CALLS: dict[int, tuple[Service, Call]] = {s.id(c): (s, c) for s in SERVICES.values() for c in s.calls}


def call_id(name: str) -> int:
    """The id of a call by its name, such as ``event.send``."""
    service, _, function = name.partition(".")
    return BY_NAME[service].id(function)


def stated(own: Mapping[int, int]) -> dict[int, int]:
    """The limits of a host whose own values are `own`, by id; they keep the standard's promise (BASE-6)."""
    for limit in LIMITS.values():
        mine = own.get(limit.id, limit.number)
        if mine > limit.number if limit.unit == "ns" else mine < limit.number:
            raise ValueError(f"BASE-6: limit {limit.name} of {mine} is worse than the standard's {limit.number}")
    return {limit.id: own.get(limit.id, limit.number) for limit in LIMITS.values()}


def exists(machine: Machine, number: int) -> bool:
    """CALL-1 to CALL-3: declared, offered, not switched off, its feature accepted."""
    if number not in CALLS or number in machine.denied:
        return False
    service, call = CALLS[number]
    if service.number not in machine.services:
        return False
    accepted = machine.accepted.get(service.number, 0)
    return call.feature is None or bool(accepted & getattr(service.features, call.feature))


def buffers(call: Call, args: Sequence[int]) -> Iterator[tuple[Buffer, int, int]]:
    """The buffers of a call: declaration, GPA, length in its unit."""
    at = 0
    for arg in call.args:
        if isinstance(arg, Arg):
            at += 1
        elif arg.fixed:
            yield arg, args[at], 1
            at += 1
        else:
            yield arg, args[at], args[at + 1]
            at += 2


def check(machine: Machine, number: int, args: Sequence[int], road: int) -> Answer | None:
    """CALL-6: the first check that fails, before the call itself is asked; None if none does."""
    if not exists(machine, number):
        return refused("NOT_SUPPORTED")
    _, call = CALLS[number]
    if not call.roads & road:  # CALL-4
        return refused("WRONG_ROAD")
    if any(args[len(call.registers) :]):  # CALL-5
        return refused("INVALID")
    for buffer, gpa, length in buffers(call, args):
        if buffer.limit and length > machine.limit(buffer.limit):
            return refused("LIMIT")
        if gpa % buffer.align:
            return refused("UNALIGNED")
        if length and not machine.memory.contains(gpa, length * buffer.entry_bytes):  # CALL-7
            return refused("BAD_ADDRESS")
    return None


def allowed_answers(machine: Machine, vcpu: int, number: int, args: Sequence[int], road: int) -> Allowed:
    """What a host may answer to this call now; what a single answer does has been done."""
    refusal = check(machine, number, args, road)
    if refusal:
        return refusal
    service, call = CALLS[number]
    return HANDLERS[service.name, call.name](machine, vcpu, *args[: len(call.registers)])


def dispatch(
    machine: Machine, vcpu: int, number: int, args: Sequence[int], road: int, choose: Chooser, gpa: int | None = None
) -> Answer:
    """Carries a call out; `gpa` is where its completion goes, if it has one."""
    allowed = allowed_answers(machine, vcpu, number, args, road)
    answer = choose(allowed if isinstance(allowed, tuple) else (allowed,), gpa)
    answer.effect()
    if answer.status >= 0:
        leave_undefined(machine, number, args, answer)
    if answer is not WAITS:
        machine.count_call(vcpu)
    return answer


def leave_undefined(machine: Machine, number: int, args: Sequence[int], answer: Answer) -> None:
    """CALL-11: output memory beyond the returned length."""
    for buffer, gpa, length in buffers(CALLS[number][1], args):
        done = answer.value or 0
        if buffer.access == "write" and done < length:
            machine.memory.undefine(gpa + done * buffer.entry_bytes, (length - done) * buffer.entry_bytes)
