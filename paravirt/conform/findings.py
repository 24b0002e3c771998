"""What a guest did wrong, by the ids of the rules: from a recording of its calls and from what it left behind.

A status that says "you did this wrong" is taken as the host gave it; the rest is order, which only somebody who
looks at all calls can see.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from hypercall_abi import SERVICES, STATUS
from hypercall_abi.conventions import SERVICE_RANGE
from hypercall_abi.recording import RECORDED
from hypercall_abi.schema import Buffer as BufferArgument
from hypercall_abi.services.event import UPCALL
from hypercall_abi.virtqueue import VIRTIO_STATUS

from .._native import ffi, lib
from ..abi import STATUS as NAMES
from ..boot.image import Image
from ..recording.reader import Call, Life
from .injections import GARBAGE_NS
from .strict import CallKey, StrictMachine

DECLARED = {s.id(c): c for s in SERVICES.values() for c in s.calls}
NEVER = (1 << 64) - 1
GATE_BYTES = 16
STEPS = (VIRTIO_STATUS.ACKNOWLEDGE, VIRTIO_STATUS.DRIVER, VIRTIO_STATUS.FEATURES_OK, VIRTIO_STATUS.DRIVER_OK)

# The rule behind a refusal, by call, then by status; what is not here is CALL-6's order of checks.
REFUSED: dict[str, dict[str, str]] = {
    "base.accept": {"INVALID": "BASE-2", "BAD_STATE": "BASE-3", "NOT_FOUND": "BASE-5"},
    "base.batch": {"INVALID": "BATCH-1"},
    "base.ring": {"BAD_STATE": "RING-1", "INVALID": "RING-2", "NOT_FOUND": "RING-2", "LIMIT": "RING-2",
                  "UNALIGNED": "RING-2", "BAD_ADDRESS": "RING-2"},
    "event.send": {"NOT_FOUND": "EVT-6"},
    "vcpu.start": {"BAD_STATE": "VCPU-1", "UNALIGNED": "VCPU-2", "BAD_ADDRESS": "VCPU-2"},
    "memory.populate": {"UNALIGNED": "MEM-2", "LIMIT": "MEM-5"},
    "memory.discard": {"UNALIGNED": "MEM-2", "LIMIT": "MEM-5"},
    "device.accept": {"BAD_STATE": "DEV-4"},
    "device.set_status": {"INVALID": "DEV-2", "BAD_STATE": "DEV-9"},
    "device.queue_setup": {"INVALID": "DEV-10", "NOT_FOUND": "DEV-10", "UNALIGNED": "VQ-8", "BAD_ADDRESS": "VQ-8",
                           "BAD_STATE": "DEV-5"},
    "device.queue_reset": {"BAD_STATE": "DEV-17"},
    "device.config_read": {"INVALID": "DEV-6"},
    "device.config_write": {"INVALID": "DEV-6"},
    "device.notify": {"BAD_STATE": "DEV-11"},
    "system.shutdown": {"INVALID": "SYS-1"},
    "continuity.acknowledge": {"INVALID": "CONT-4"},
}  # fmt: skip
HANGS = ("EVT-3", "EVT-7", "EVT-9", "RING-9", "RING-10")
"""Rules whose breach makes a guest wait for ever; where it hangs shows which."""
QUESTIONS = (("base.limit", "NOT_FOUND"),)  # no mistakes: the guest may not know what there is
FAULTY = ("INVALID", "BAD_ADDRESS", "UNALIGNED", "LIMIT", "WRONG_ROAD", "NOT_SUPPORTED", "NOT_FOUND", "BAD_STATE")


class Finding(NamedTuple):
    """A rule that the guest broke, and where."""

    rule: str
    """Several, with blanks between: one of them."""
    text: str
    call: int = 0
    """Number of the call in its run, from 1; 0: none."""


def judge_calls(life: Life, injected: Counter[CallKey]) -> Iterator[Finding]:
    """What the calls of one life show; those in `injected` were not answered as a host would."""
    left = Counter(injected)
    own = []
    for call in life.calls:
        key = call.vcpu, call.id, call.args
        if left[key]:
            left[key] -= 1
        else:
            own.append(call)
            yield from _refused(call)
    yield from _times(life.calls)
    yield from _continued(life.calls)
    yield from _steps(life.calls)
    yield from _configurations(life.calls)
    for moment in life.moments:
        if moment.kind == RECORDED.DOORBELL:
            yield Finding("DEV-8", f"a doorbell of {moment.number:#x} names no enabled queue")


def _refused(call: Call) -> Iterator[Finding]:
    name = NAMES.name_of(call.status)
    if name not in FAULTY or (call.name, name) in QUESTIONS:
        return
    declared = DECLARED.get(call.id)
    rule = REFUSED.get(call.name, {}).get(name, "CALL-6")
    if name == "NOT_SUPPORTED":
        rule = "CALL-3" if declared and declared.feature else "CALL-1"
    elif name == "WRONG_ROAD":
        rule = "CALL-4"
    elif name == "INVALID" and declared and any(call.args[len(declared.registers) :]):
        rule = "CALL-5"
    elif name == "INVALID" and _reserved_set(call):
        rule = "CALL-14"
    yield Finding(rule, f"{call.name} by vCPU {call.vcpu} was refused with {name}", call.number)


def _reserved_set(call: Call) -> bool:
    """Whether a record that the guest wrote has something in its padding."""
    declared = DECLARED.get(call.id)
    buffers = [arg for arg in declared.args if isinstance(arg, BufferArgument)] if declared else []
    for argument, buffer in zip(buffers, call.buffers, strict=False):
        record = argument.entry
        if argument.access != "read" or record is None:
            continue
        for at in range(0, len(buffer.data) - record.size + 1, record.size):
            data = buffer.data[at : at + record.size]
            if any(any(data[f.offset : f.offset + f.size]) for f in record.fields if f.reserved or f.name == "flags"):
                return True
    return False


def _times(calls: list[Call]) -> Iterator[Finding]:
    for call in calls:
        if call.name in ("time.deadline", "vcpu.block") and GARBAGE_NS // 2 < call.args[0] < NEVER:
            yield Finding("TIME-6", f"{call.name} has a time that was read while the sequence was odd", call.number)


def _continued(calls: list[Call]) -> Iterator[Finding]:
    """BATCH-5, MEM-6: after CONTINUE the same vCPU goes on behind what was done, before it does so anew."""
    units = {"base.batch": (64, 32), "memory.populate": (16,), "memory.discard": (16,)}
    for at, call in enumerate(calls):
        if call.status != STATUS.CONTINUE or call.name not in units:
            continue
        rule = "BATCH-5" if call.name == "base.batch" else "MEM-6"
        rest = next((c for c in calls[at + 1 :] if c.vcpu == call.vcpu and c.id == call.id), None)
        wanted = [call.args[1] - call.value]
        wanted += [call.args[2 * n] + unit * call.value for n, unit in enumerate(units[call.name])]
        if rest is None or [rest.args[1], *(rest.args[2 * n] for n in range(len(wanted) - 1))] != wanted:
            yield Finding(
                rule, f"{call.name} answered CONTINUE after {call.value}; the rest was not asked for", call.number
            )


def _steps(calls: list[Call]) -> Iterator[Finding]:
    """DEV-18: each device's way to DRIVER_OK."""
    status: dict[int, int] = {}
    reset: set[int] = set()
    for call in calls:
        if call.status < 0 or not call.name.startswith("device."):
            continue
        device = call.args[0]
        if call.name == "device.set_status":
            wanted = call.args[1]
            if wanted == 0:
                reset.add(device)
            new = wanted & ~status.get(device, 0)
            if new and device not in reset:
                yield Finding("DEV-18", f"device {device} is used without a reset first", call.number)
                reset.add(device)
            steps = [s for s in STEPS if new & s]
            before = STEPS[: STEPS.index(steps[0])] if steps else ()
            skipped = [s for s in before if not status.get(device, 0) & s]
            if skipped or len(steps) > 1:
                yield Finding("DEV-18", f"device {device} goes to status {wanted:#x} in one step", call.number)
            status[device] = call.value if wanted else 0
        elif call.name == "device.queue_setup" and not status.get(device, 0) & VIRTIO_STATUS.FEATURES_OK:
            yield Finding("DEV-18", f"a queue of device {device} is set up before FEATURES_OK", call.number)


def _configurations(calls: list[Call]) -> Iterator[Finding]:
    """DEV-19: several reads stand between two equal answers of device.generation."""
    began: dict[int, int | None] = {}
    reads: dict[int, int] = {}
    for call in calls:
        device = call.args[0]
        if call.name == "device.generation" and call.status >= 0:
            began[device], reads[device] = int(call.value), 0
        elif call.name == "device.config_read" and call.status >= 0:
            reads[device] = reads.get(device, 0) + 1
            if reads[device] > 1 and began.get(device) is None:
                text = f"the configuration of device {device} is read in parts without device.generation before it"
                yield Finding("DEV-19", text, call.number)
                began[device] = 0


def judge_image(image: Image) -> Iterator[Finding]:
    """What its notes ask for."""
    for number in image.notes.services:
        if number >= SERVICE_RANGE.EXPERIMENT:
            yield Finding("VND-3", f"the image requires the experimental service {number:#x}")


def judge_machine(machine: StrictMachine, hung: bool) -> Iterator[Finding]:
    """What the machine is left with; `hung`: it was stopped because it made no progress."""
    for device in machine.devices.statistics():
        if device.fault:
            yield Finding(device.fault, f"the driver of device {device.name!r} broke it")
    yield from _gates(machine)
    yield from _rings(machine, hung)
    yield from _unended(machine)
    if hung:
        yield from _lost(machine)


def _gates(machine: StrictMachine) -> Iterator[Finding]:
    """BOOT-5: every gate that is present."""
    if machine.image.is_plain:
        return
    table = machine.memory.read(machine.layout.idt_gpa, 256 * GATE_BYTES)
    selector = 0x23 if machine.layout.mode == lib.PV_MODE_USER else 0x08
    for vector in range(256):
        _, found, ist, kind = struct.unpack_from("<HHBB", table, vector * GATE_BYTES)
        if not kind & 0x80:
            continue
        wrong = [
            text
            for text, bad in (
                (f"selector {found:#x}, not {selector:#x}", found != selector),
                (f"IST {ist & 7}", ist & 7),
                (f"type {kind & 0xF:#x}, not that of a trap gate", kind & 0x1F != 0xF),
            )
            if bad
        ]
        if wrong:
            yield Finding("BOOT-5", f"the gate of vector {vector} has {', '.join(wrong)}")


def _rings(machine: StrictMachine, hung: bool) -> Iterator[Finding]:
    for vcpu in machine.vcpus:
        ring = vcpu.native.callring
        control: Any = ring.control  # NULL once the ring is out of use
        if ring.fault != ffi.NULL:
            yield Finding(
                ffi.string(ring.fault).decode(),
                f"the call ring of vCPU {vcpu.index} was given more than it has room for",
            )
        elif control == ffi.NULL:
            continue
        elif hung and control.doorbell_wanted and control.submission_tail != control.completion_tail:
            yield Finding("RING-9", f"the call ring of vCPU {vcpu.index} has submissions, and nobody rang")
        elif hung and control.completion_tail and control.completion_event - control.completion_tail < 1 << 31:
            yield Finding("RING-10", f"the completions of vCPU {vcpu.index}'s ring are there, and nobody looks")


def _unended(machine: StrictMachine) -> Iterator[Finding]:
    """EVT-9: some hosts hold further upcalls back for ever, others do not."""
    for vcpu in machine.vcpus:
        vector = vcpu.native.state.upcall_vector
        if vector > UPCALL.NMI and machine.accelerator.in_service(vcpu.native, vector):
            yield Finding("EVT-9", f"vCPU {vcpu.index} never ended an upcall by vector {vector}")


def _lost(machine: StrictMachine) -> Iterator[Finding]:
    """Events that a guest which hangs could have seen."""
    for vcpu in machine.vcpus:
        page, vector = vcpu.native.page, vcpu.native.state.upcall_vector
        seen = any(page.pending[n] & ~page.mask[n] & NEVER for n in range(4))
        if not seen:
            continue
        where = f"vCPU {vcpu.index} hangs with unmasked events pending"
        if page.upcall_mask:
            yield Finding("EVT-3", f"{where} and upcall_mask set")
        elif not page.upcall_pending:
            yield Finding(
                "EVT-7", f"{where}, upcall_pending clear: it did not look after it unmasked or took the upcall"
            )
        elif vector not in (UPCALL.OFF, UPCALL.NMI):
            yield Finding("EVT-9", f"{where} and its upcall sent: an end-of-interrupt is missing")
        else:
            yield Finding("EVT-3", f"{where} and its upcall sent")
