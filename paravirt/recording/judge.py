"""Judges a recording by the reference model, without any machine: may a host answer so?

What the model is not told it is not asked: a recording holds no configuration of devices, and calls of theirs
are left out; so is what a host's circumstances decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypercall_abi import SERVICES
from hypercall_abi.model import Answer, Disagreement, Machine
from hypercall_abi.recording import RECORDED_ACCESS

from ..errors import RecordingError
from ..memory import ram_ranges
from .convert import ACKNOWLEDGE, BATCH, CIRCUMSTANTIAL, DECLARED, in_order
from .reader import Call, Life
from .replay import Difference, Verdict, diff, name_of

DEVICE = SERVICES["device"].number
MEMORY_MOST_BYTES = 2 << 30
PAGES_GPA = 1 << 51  # where no guest of ours has memory


def judge(life: Life) -> Verdict:
    """The verdict on the calls of `life`, up to its end or the first that no host may answer so.

    Raises RecordingError.
    """
    if life.memory_bytes > MEMORY_MOST_BYTES:
        raise RecordingError(
            f"the recorded machine has {life.memory_bytes >> 20}M of memory, and the model takes "
            f"{MEMORY_MOST_BYTES >> 20}M at most; record again with less --memory"
        )
    machine = _machine(life)
    judged, left_out = 0, []
    for call in in_order(life.calls):
        if why := _unasked(life, call):
            left_out.append((call, why))
            continue
        what = _ask(machine, call)
        if what:
            return Verdict(judged, tuple(left_out), Difference(call, name_of(call), tuple(what)), "")
        judged += 1
        if machine.end:
            break
    return Verdict(judged, tuple(left_out), None, "")


def _machine(life: Life) -> Machine:
    return Machine(
        {**dict(ram_ranges(life.memory_bytes)), PAGES_GPA: life.vcpus * 4096},
        pages_gpa=PAGES_GPA,
        vcpus=life.vcpus,
        services={number: features for number, (features, _) in life.services.items()},
        denied=frozenset(n << 16 | f for n, (_, mask) in life.services.items() for f in range(32) if mask >> f & 1),
    )


def _unasked(life: Life, call: Call) -> str:
    """Why the model is not asked about `call`; nothing if it is."""
    if call.status in CIRCUMSTANTIAL:
        return "its status tells of the host's circumstances"
    if call.id >> 16 == DEVICE and life.devices:
        return "the model does not know the machine's devices"
    if call.id == ACKNOWLEDGE:
        return "what happened to the machine from outside is not recorded"
    if call.id == BATCH and call.status >= 0:
        return "it is judged by the calls that it made"
    if call.id >> 16 not in {service.number for service in SERVICES.values()} and call.id >> 16 in life.services:
        return "the standard does not have its service"
    return ""


def _ask(machine: Machine, call: Call) -> list[str]:
    """What is wrong with the answer, line by line; nothing if it is allowed."""
    for buffer in call.buffers:
        if buffer.access == RECORDED_ACCESS.READ and machine.memory.contains(
            call.args[buffer.argument], len(buffer.data)
        ):
            machine.memory.write(call.args[buffer.argument], buffer.data)
    machine.page(call.vcpu).set("upcall_pending", 1)  # so that the model does not wait: the host has waited
    try:
        machine.call(call.id, *call.args, vcpu=call.vcpu, road=call.road, choose=_chooser(call))
    except Disagreement as disagreement:
        return [str(disagreement)]
    declared = DECLARED.get(call.id)
    if declared and "output" in declared.varies:
        return []
    for buffer in call.buffers:
        if buffer.access == RECORDED_ACCESS.WRITE and machine.memory.contains(
            call.args[buffer.argument], len(buffer.data)
        ):
            allowed = machine.memory.read(call.args[buffer.argument], len(buffer.data))
            if allowed != buffer.data:
                at = next(i for i, (a, b) in enumerate(zip(allowed, buffer.data, strict=True)) if a != b) & ~15
                return list(diff("output", at, allowed[at : at + 16], buffer.data[at : at + 16]))
    return []


def _chooser(call: Call) -> Callable[[Sequence[Answer], int | None], Answer]:
    """Takes the answer that was recorded, if it is allowed; where values vary, any of that status."""
    declared = DECLARED.get(call.id)
    free = declared is not None and "value" in declared.varies

    def choose(allowed: Sequence[Answer], _completion_gpa: int | None) -> Answer:
        for answer in allowed:
            if answer.allows(call.status, call.value) or (free and answer.status == call.status):
                return answer
        raise Disagreement(f"the host answered {Answer(call.status, call.value)!r}; allowed: {list(allowed)}")

    return choose
