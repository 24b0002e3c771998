"""Drives a host and the reference model side by side, and compares all that a guest can see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypercall_abi import SERVICES
from hypercall_abi.conventions import COMPLETION, SUBMISSION
from hypercall_abi.model import Answer, Disagreement, Machine, VirtioDevice
from hypercall_abi.model.answers import matching
from hypercall_abi.model.dispatch import CALLS
from hypercall_abi.services.event import VCPU_PAGE
from hypercall_abi.services.time import TIME_PAGE
from paravirt._native import ffi, lib
from tests.paravirt.virtio.bare_device import CONFIG, MAXIMA, WRITABLE_FROM, BareDevice

from .fake_machine import PAGE, PAGES_GPA, RAM_BYTES, RAM_GPA
from .served_machine import HIGH_BYTES, HIGH_GPA, PATIENCE_S, ServedMachine

SUBMISSIONS_GPA, COMPLETIONS_GPA = RAM_GPA + 0x8000, RAM_GPA + 0xC000
INPUT = bytes(range(32, 127))
CONSOLE_BUDGET, TRACE_BUDGET = 3000, 4
END: dict[str, Callable[..., tuple[int, int, int, bytes]]] = {
    "shutdown": lambda reason, status: (lib.PV_END_SHUTDOWN, reason, status, b""),
    "reset": lambda: (lib.PV_END_RESET, 0, 0, b""),
    "crash": lambda report: (lib.PV_END_CRASH, 0, 0, report),
    "watchdog": lambda: (lib.PV_END_WATCHDOG, 0, 0, b""),
}
SERVICE_OF = {s.name: s.number for s in SERVICES.values()}

OFFERED = dict.fromkeys(SERVICE_OF.values(), 0) | {SERVICE_OF[name]: 1 for name in ("base", "device", "event")}


class Judge:
    """A host and the model of the same machine, with a device reached by calls and one by registers."""

    def __init__(
        self,
        *,
        vcpus: int = 3,
        poison: bool = False,
        services: Mapping[int, int] | None = None,
        denied: frozenset[int] = frozenset(),
    ) -> None:
        offered = OFFERED if services is None else services
        budgets = {"console_budget": CONSOLE_BUDGET, "trace_budget": TRACE_BUDGET}
        shared: dict[str, Any] = {"services": offered, "denied": denied, "console_input": INPUT, **budgets}
        self.host = ServedMachine(vcpus, poison=poison, **shared)
        self.model = Machine(
            {RAM_GPA: RAM_BYTES, HIGH_GPA: HIGH_BYTES},
            pages_gpa=PAGES_GPA + PAGE,
            vcpus=vcpus,
            boot_info=bytes(ffi.buffer(self.host.boot_info, self.host.native.boot_info_bytes)),
            **shared,
        )
        self.model.choose_entry = self._entry
        for vcpu in self.model.vcpus:
            vcpu.fault_address = 0xDEAD
        self.devices = [self._plug(mmio) for mmio in (False, True)]
        self.settle()

    def _plug(self, mmio: bool) -> tuple[BareDevice, VirtioDevice]:
        real = BareDevice(self.host, mmio=mmio, ring_reset=True)
        offered = (real.native.offered[0], real.native.offered[1])
        name = ffi.string(real.native.name).decode()
        model = VirtioDevice(self.model, name, 2, offered, MAXIMA, bytearray(CONFIG), WRITABLE_FROM, mmio)
        self.model.devices.append(model)
        return real, model

    def close(self) -> None:
        """Gives everything back."""
        for real, _ in self.devices:
            real.close()

    # ---- the same to both ----

    def write(self, gpa: int, data: bytes) -> None:
        """The guest writes to its memory."""
        self.host.write(gpa, data)
        self.model.memory.write(gpa, data)

    def set_word(self, vcpu: int, name: str, number: int, index: int = 0) -> None:
        """The guest writes a word of a shared page."""
        field = next(f for f in VCPU_PAGE.fields if f.name == name)
        width = field.size // (field.count or 1)
        self.write(PAGES_GPA + (1 + vcpu) * PAGE + field.offset + index * width, number.to_bytes(width, "little"))

    def call(self, number: int, *args: int, vcpu: int = 0, road: int = 1) -> Answer:
        """One call; raises Disagreement if the host does not do what the standard says."""
        status, value = self.host.raw(number, *args, vcpu=vcpu, road=road)
        _, call = CALLS.get(number, (None, None))
        if call and call.no_return and status >= 0:
            value = 0  # the caller does not see it
        return self._follow(number, args, vcpu, road, status, value)

    def _follow(self, number: int, args: Sequence[int], vcpu: int, road: int, status: int, value: int) -> Answer:
        try:
            answer = self.model.call(number, *args, vcpu=vcpu, road=road, choose=matching(status, value))
            self.settle()
        except Disagreement as wrong:
            name = ".".join((CALLS[number][0].name, CALLS[number][1].name)) if number in CALLS else hex(number)
            raise Disagreement(f"{name}({', '.join(map(hex, args))}) by vCPU {vcpu}: {wrong}") from None
        return answer

    def by_name(self, name: str, *args: int, vcpu: int = 0) -> Answer:
        """The same by name."""
        service, _, function = name.partition(".")
        return self.call(SERVICES[service].id(function), *args, vcpu=vcpu)

    def batch(self, entries: Sequence[tuple[int, Sequence[int], int, int]], vcpu: int = 0) -> Answer:
        """Calls of (id, args, flags, cookie) by base.batch."""
        for i, (number, args, flags, cookie) in enumerate(entries):
            fields = {"call": number, "flags": flags, "args": (*args, *[0] * 6)[:6], "cookie": cookie}
            self.write(SUBMISSIONS_GPA + i * SUBMISSION.size, SUBMISSION.build(fields))
        count = len(entries)
        return self.by_name("base.batch", SUBMISSIONS_GPA, count, COMPLETIONS_GPA, count, vcpu=vcpu)

    def _entry(self, allowed: Sequence[Answer], gpa: int | None) -> Answer:
        """What the host answered to an entry: it is in the completion, unless a later entry wrote over it."""
        assert gpa is not None
        if len(allowed) == 1:
            return allowed[0]
        completion = COMPLETION.parse(self.host.read(gpa, COMPLETION.size - 8) + bytes(8))
        return matching(completion.status, completion.value)(allowed, gpa)

    def visit_rings(self) -> None:
        """The host visits the call rings."""
        lib.pv_callring_poll(self.host.native)
        for ring in self.model.rings.values():
            real = self.host.vcpus[ring.vcpu].state.callring
            ring.visit(real.completed)
            self._compare(f"state of the ring of vCPU {ring.vcpu}", real.state, ring.state)
        self.settle()

    def block(self, vcpu: int, deadline_ns: int, waker: int | None = None) -> None:
        """vcpu.block that waits until `waker` sends the vCPU an event, or until the deadline."""
        thread = self.host.block(vcpu, deadline_ns)
        self.model.call_by_name("vcpu.block", deadline_ns, vcpu=vcpu)
        self.settle()
        if waker is None:
            self.pass_time(deadline_ns)
        else:
            answer = self.host.call("event.send", vcpu, 20, vcpu=waker)
            self.model.call_by_name("event.send", vcpu, 20, vcpu=waker, choose=matching(*answer))
        assert self.model.vcpus[vcpu].state == lib.PV_VCPU_STATE_RUNNING, "the model says that it still waits"
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "VCPU-3, EVT-2: the vCPU was not woken"
        self.settle()

    def pass_time(self, now_ns: int) -> None:
        """It is `now_ns` for both."""
        self.host.pass_time(now_ns)
        self.model.pass_time(now_ns)

    # ---- comparing ----

    def settle(self) -> None:
        """Raises Disagreement unless all that a guest or its devices can see is equal."""
        real, model = self.host.copy(), self.model
        for gpa, size in (*model.open_words(), (PAGES_GPA, TIME_PAGE.size)):
            model.memory.undefine(gpa, size)
        model.memory.adopt(real)
        if wrong := model.memory.difference(real):
            raise Disagreement(wrong)
        self._compare("upcalls", sorted(self.host.upcalls), sorted(model.upcalls))  # rings are in no order to others
        self._compare("console output", bytes(self.host.said), model.console_output)
        self._compare("input that is left", self.host.input, model.console_input)
        self._compare("the end", self.host.ends, [END[model.end[0]](*model.end[1:])] if model.end else [])
        self._compare("the watchdog", self.host.native.state.watchdog_ns, model.watchdog_ns)
        for vcpu, expected in zip(self.host.vcpus, model.vcpus, strict=True):
            self._compare(f"state of vCPU {expected.index}", vcpu.state.state, expected.state)
            start = (vcpu.start.entry_gpa, vcpu.start.stack_gpa, vcpu.start.argument)
            self._compare(f"start of vCPU {expected.index}", start, expected.start or (0, 0, 0))
        for device, twin in self.devices:
            self._compare("what the device's back end was asked", device.events, twin.events)

    @staticmethod
    def _compare(what: str, found: object, expected: object) -> None:
        if found != expected:
            raise Disagreement(f"{what}: {found} and should be {expected}")
