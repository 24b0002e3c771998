"""Service base: version, discovery, negotiation, limits, boot information, batches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ...callring import RING_SETUP
from ...conventions import ABI, COMPLETION, ROAD, STATUS, SUBMISSION
from ...services.base import SERVICE_INFO
from ..answers import Allowed, Answer, ok, refused
from ..callring import CallRing, check, parse_setup

if TYPE_CHECKING:
    from ..machine import Machine


def version(_machine: Machine, _vcpu: int) -> Answer:
    """BASE-1."""
    return ok(ABI.MAJOR << 32 | ABI.MINOR)


def services(machine: Machine, _vcpu: int, gpa: int, room_bytes: int) -> Answer:
    """Whole records, in the order of numbers, of what is offered (BASE-4, BASE-5)."""
    from ..dispatch import CALLS, exists

    written = 0
    for number in sorted(machine.services):
        if room_bytes - written < SERVICE_INFO.size:
            break
        mask = sum(1 << call.number for i, (s, call) in CALLS.items() if s.number == number and exists(machine, i))
        record = {
            "service": number,
            "calls": mask,
            "offered": machine.services[number],
            "accepted": machine.accepted.get(number, 0),
        }
        machine.memory.write(gpa + written, SERVICE_INFO.build(record))
        written += SERVICE_INFO.size
    return ok(written)


def accept(machine: Machine, _vcpu: int, service: int, features: int) -> Answer:
    """A set of offered features, once; the same set again."""
    if service not in machine.services:  # BASE-5
        return refused("NOT_FOUND")
    if features & ~machine.services[service]:  # BASE-2
        return refused("INVALID")
    if machine.accepted.setdefault(service, features) != features:  # BASE-3
        return refused("BAD_STATE")
    return ok(features)


def renegotiate(machine: Machine, _vcpu: int) -> Answer:
    """BASE-8; a ring goes with the feature that it stood on (RING-12)."""
    machine.accepted.clear()
    for vcpu in machine.vcpus:
        machine.remove_ring(vcpu.index)
    return ok()


def limit(machine: Machine, _vcpu: int, limit: int) -> Answer:
    """The host's own value (BASE-6 is checked where it was given)."""
    return ok(machine.limits[limit]) if limit in machine.limits else refused("NOT_FOUND")


def boot_info(machine: Machine, _vcpu: int, gpa: int, room_bytes: int) -> Answer:
    """The boot information, or its beginning."""
    data = machine.boot_info[:room_bytes]
    if data:
        machine.memory.write(gpa, data)
    return ok(len(data))


def batch(machine: Machine, vcpu: int, from_gpa: int, count: int, to_gpa: int, completions: int) -> Allowed:
    """All entries, or at least one of them and CONTINUE (BATCH-5)."""
    if count != completions:  # BATCH-1
        return refused("INVALID")
    entries = partial(_entries, machine, vcpu, from_gpa, to_gpa)
    some = (Answer(STATUS.CONTINUE, done, partial(entries, done)) for done in range(1, count))
    return ok(count, partial(entries, count)), *some


def ring(machine: Machine, vcpu: int, gpa: int, count: int) -> Allowed:
    """Gives the caller its ring, or takes it away (RING-1); a host may be unable to serve one."""
    if not count:
        machine.remove_ring(vcpu)
        return ok()
    setup, padding = parse_setup(machine.memory.read(gpa, RING_SETUP.size))
    status = check(machine, setup, padding)
    if status != STATUS.OK:
        return Answer(status, None)
    if vcpu in machine.rings:
        return refused("BAD_STATE")

    def begin() -> None:
        machine.rings[vcpu] = CallRing.begin(machine, vcpu, setup)

    return ok(effect=begin), refused("NO_MEMORY"), refused("FAILED")


def _entries(machine: Machine, vcpu: int, from_gpa: int, to_gpa: int, count: int) -> None:
    for i in range(count):  # BATCH-2
        entry(machine, vcpu, from_gpa + i * SUBMISSION.size, to_gpa + i * COMPLETION.size, ROAD.BATCH)


def entry(machine: Machine, vcpu: int, from_gpa: int, to_gpa: int, road: int) -> None:
    """One submission: copied when its turn comes (BATCH-4), carried out, completed."""
    from ..dispatch import dispatch

    (submission,) = machine.memory.records(SUBMISSION, from_gpa, 1)
    if submission.flags:  # BATCH-3
        answer = refused("INVALID")
        machine.count_call(vcpu)
    else:
        args = tuple(submission.args)
        answer = dispatch(machine, vcpu, submission.call, args, road, machine.choose_entry, to_gpa)
    fields = {"cookie": submission.cookie, "status": answer.status, "value": answer.value or 0}
    machine.memory.write(to_gpa, COMPLETION.build(fields))
    if answer.value is None:  # CALL-10
        machine.memory.undefine(to_gpa + COMPLETION.offset("value"), 8)
