"""One call, three roads: equal status, value and effect over each that it declares, WRONG_ROAD over the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi import SERVICES, STATUS
from hypercall_abi.callring import RING_CONTROL
from hypercall_abi.conventions import COMPLETION, ROAD, SUBMISSION
from hypercall_abi.schema import Buffer, Call, Service
from hypercall_abi.services.device import QUEUE_SETUP
from paravirt._native import ffi
from tests.paravirt.test_dispatch import addresses, identify, numbers
from tests.paravirt.virtio.bare_device import BareDevice, areas_of
from tests.support.callring import CallRing
from tests.support.fake_machine import RAM_BYTES, RAM_GPA, FakeMachine

CALLS = [(s, c) for s in SERVICES.values() for c in s.calls]
BATCH_GPA = RAM_GPA + 0x50000  # one submission; its completion follows
RING_GPA = BATCH_GPA + 0x1000
ROADS_OWN = range(BATCH_GPA, RING_GPA + 0x2000)
RANDOM = {"entropy.fill"}

Made = tuple[Service, Call, list[int]]


@st.composite
def made_calls(draw: st.DrawFn) -> Made:
    """A call with arguments that are mostly worth carrying out."""
    service, call = draw(st.sampled_from([p for p in CALLS if identify(p) not in RANDOM]))
    args: list[int] = []
    small = st.integers(0, 20)
    for arg in call.args:
        args.append(draw(addresses if isinstance(arg, Buffer) else st.one_of(small, numbers)))
        if isinstance(arg, Buffer) and not arg.fixed:
            args.append(draw(st.one_of(small, numbers)))
    rest = [0] * (6 - len(args))
    if rest:
        rest[draw(st.integers(0, len(rest) - 1))] = draw(st.sampled_from([0, 0, 0, 0, 1]))
    return service, call, args + rest


class Side:
    """A machine with everything offered and accepted, a ring and a device; its calls go over `road` where they can."""

    def __init__(self, road: int) -> None:
        self.road = road
        self.machine = FakeMachine()
        self.device = BareDevice(self.machine, ring_reset=True)
        for service in SERVICES.values():
            features = sum(1 << v.number for v in service.features) if service.features else 0
            self.machine.native.offered[service.number] = features
            assert self.machine.call("base.accept", service.number, features)[0] == STATUS.OK
        self.machine.native.console_budget = 10_000
        self.machine.input = bytes(range(200))
        self.ring = CallRing(self.machine, gpa=RING_GPA)
        self.machine.write(self.ring.control_gpa, bytes(RING_CONTROL.size))
        assert self.ring.set_up() == STATUS.OK

        setup = {"device": 0, "queue": 0, "size": 8, "vcpu": 1, "channel": 30}
        areas = areas_of(0)
        fields = {f.name: getattr(areas, f.name, setup.get(f.name, 0)) for f in QUEUE_SETUP.fields if not f.reserved}
        self.machine.write(RAM_GPA, QUEUE_SETUP.build(fields))

    def call(self, number: int, args: list[int], road: int) -> tuple[int, int]:
        """Status and value."""
        if road == ROAD.TRAP:
            return self.machine.raw(number, *args)
        if road == ROAD.RING:
            self.ring.submit((number, args, 0))
            assert self.ring.poll() == 1
            [(_, status, value)] = self.ring.take()
            return status, value
        to = BATCH_GPA + SUBMISSION.size
        self.machine.write(BATCH_GPA, SUBMISSION.build({"call": number, "flags": 0, "args": args, "cookie": 7}))
        assert self.machine.call("base.batch", BATCH_GPA, 1, to, 1) == (STATUS.OK, 1)
        done = COMPLETION.parse(self.machine.read(to, COMPLETION.size))
        return done.status, done.value

    def make(self, call: Call, number: int, args: list[int]) -> tuple[int, int]:
        """By the road of this side, by trap where the call has not got it."""
        if call.roads & self.road:
            return self.call(number, args, self.road)
        assert self.call(number, args, self.road)[0] == STATUS.WRONG_ROAD
        return self.call(number, args, ROAD.TRAP)

    def memory(self) -> bytes:
        """Guest memory, without what roads write on their own account."""
        memory = bytearray(self.machine.read(RAM_GPA, RAM_BYTES))
        memory[ROADS_OWN.start - RAM_GPA : ROADS_OWN.stop - RAM_GPA] = bytes(len(ROADS_OWN))
        for vcpu in self.machine.vcpus:
            at = ffi.addressof(vcpu.page, "calls")
            offset = ffi.cast("uint8_t *", at) - ffi.cast("uint8_t *", self.machine.ram)
            memory[offset : offset + 8] = bytes(8)
        return bytes(memory)

    def effects(self) -> dict[str, object]:
        """All that is left behind."""
        vcpus = [
            (
                (v.state.state, v.state.upcall_vector, v.state.deadline_ns, v.starts),
                (v.start.entry_gpa, v.start.stack_gpa, v.start.argument),
            )
            for v in self.machine.vcpus
        ]
        state = self.machine.native.state
        return {
            "memory": self.memory(),
            "vCPUs": vcpus,
            "machine": (list(state.accepted), state.confirmed, state.trace_marks, self.machine.native.running),
            "passed on": (self.machine.passed_on, bytes(self.machine.said), self.machine.input, self.machine.ends),
            "upcalls": self.machine.upcalls,
            "device": (self.device.snapshot(), self.device.events, self.device.fault),
        }


def on_the_roads(call: Call, args: list[int]) -> bool:
    """Whether a buffer lies where roads write: what it holds, and which write comes last, is the road's affair."""
    at = 0
    for arg in call.args:
        if isinstance(arg, Buffer):
            size = arg.entry_bytes * (1 if arg.fixed else args[at + 1])
            if args[at] < ROADS_OWN.stop and ROADS_OWN.start < args[at] + size:
                return True
        at += 1 if not isinstance(arg, Buffer) or arg.fixed else 2
    return False


@given(st.lists(made_calls(), min_size=1, max_size=6))
def test_equal_over_each_road(made: list[Made]) -> None:
    """RING-15, CALL-4: from equal memory and state, call after call."""
    sides = [Side(road) for road in (ROAD.TRAP, ROAD.BATCH, ROAD.RING)]
    try:
        for service, call, args in made:
            number, name = service.id(call), identify((service, call))
            if call.roads == ROAD.TRAP:  # nothing to compare with, and the machine may be over afterwards
                assert [side.call(number, args, side.road)[0] for side in sides[1:]] == [STATUS.WRONG_ROAD] * 2
                continue
            if on_the_roads(call, args):
                continue
            answers = [side.make(call, number, args) for side in sides]
            assert answers == answers[:1] * 3, name
            trap, *others = [side.effects() for side in sides]
            for road, other in zip(("batch", "ring"), others, strict=True):
                for what, left in trap.items():
                    assert other[what] == left, f"{what} after {name} by {road}"
    finally:
        for side in sides:
            side.device.close()
