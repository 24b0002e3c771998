"""The host against the reference model: random guests over both, every status, value and visible byte compared.

The host is the C core with the product's own services and no KVM (`ServedMachine`), the model is
`hypercall_abi.model`; `Judge` drives the two.
"""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hypercall_abi import SERVICES
from hypercall_abi.callring import RING_CONTROL, RING_SETUP
from hypercall_abi.conventions import ROAD, SUBMISSION
from hypercall_abi.model.dispatch import CALLS, call_id, exists
from hypercall_abi.model.machine import NEVER
from hypercall_abi.model.virtqueue import Broken, Buffers, Desc
from hypercall_abi.services.device import QUEUE_SETUP
from hypercall_abi.services.event import EVENT
from hypercall_abi.services.memory import MEMORY_RANGE
from hypercall_abi.services.vcpu import VCPU_STATE as STATE
from hypercall_abi.virtqueue import DESC_FLAG
from paravirt._native import ffi, lib
from tests.paravirt.virtio.bare_device import CONFIG, areas_of
from tests.support.fake_machine import RAM_GPA
from tests.support.judge import COMPLETIONS_GPA, OFFERED, Judge
from tests.support.judged_calls import DATA_BYTES, DATA_GPA, END, Made, any_calls, calls, cookies, vcpus
from tests.support.served_machine import HIGH_GPA

START_NS = 1000 * 10**9
PAGE_GPAS = st.sampled_from(
    [*(RAM_GPA + 0x6_0000 + 4096 * n for n in range(5)), HIGH_GPA - 4096, HIGH_GPA, END - 4096, END, 8]
)
SIZES = st.sampled_from([4096, 4096, 4096, 8192, 8192, 0, 100, 1 << 26])

roads = st.sampled_from([ROAD.TRAP, ROAD.TRAP, ROAD.BATCH])
feature_sets = st.lists(st.sampled_from([0, 1, 2, -1]), min_size=1, max_size=4)
entries = st.tuples(any_calls, st.sampled_from([0, 0, 0, 0, 1, 1 << 31]), cookies)
ranges = st.tuples(PAGE_GPAS, SIZES)
descriptors = st.builds(
    Desc,
    st.sampled_from([DATA_GPA, DATA_GPA + 64, END - 1, HIGH_GPA - 1, 0]),
    st.sampled_from([1, 1, 16, 32, 0]),
    st.sampled_from([0, DESC_FLAG.NEXT, DESC_FLAG.WRITE, DESC_FLAG.WRITE | DESC_FLAG.NEXT, DESC_FLAG.INDIRECT]),
    st.integers(0, 8),
)


def ring_areas(vcpu: int) -> dict[str, int]:
    """Where the call ring of a vCPU lies."""
    base = RAM_GPA + 0x8_0000 + 0x8000 * vcpu
    return {"submissions_gpa": base, "completions_gpa": base + 0x5000, "control_gpa": base + 0x7400}


spoilt_rings = st.sampled_from(
    [
        *[{}] * 8,
        *({"entries": n} for n in (0, 6, 512)),
        *({"channel": n} for n in (255, 256, 0xFFFF_FFFF)),
        {"flags": 1},
        *({name: n} for name in ring_areas(0) for n in (8, 32, 1 << 40)),
    ]
)


class Guests(RuleBasedStateMachine):
    """Guests of every kind, but for those that write to the host's words of shared pages."""

    judge: Judge

    @initialize(
        poison=st.booleans(),
        masked=st.sets(st.sampled_from(sorted(OFFERED)), max_size=2),
        denied=st.frozensets(st.sampled_from(sorted(CALLS)), max_size=4),
    )
    def begin(self, poison: bool, masked: set[int], denied: frozenset[int]) -> None:
        base = SERVICES["base"].number  # cannot be switched off
        services = {n: f for n, f in OFFERED.items() if n == base or n not in masked}
        self.judge = Judge(poison=poison, services=services, denied=frozenset(d for d in denied if d >> 16 != base))
        self.judge.pass_time(START_NS)

    def teardown(self) -> None:
        if hasattr(self, "judge"):
            self.judge.close()

    @property
    def alive(self) -> bool:
        return self.judge.model.end is None

    def caller(self, wish: int) -> int:
        """A vCPU that runs: `wish`, if it does."""
        running = [v.index for v in self.judge.model.vcpus if v.state == STATE.RUNNING]
        return wish if wish in running else running[0]

    # ---- calls ----

    @precondition(lambda self: self.alive)
    @rule(made=st.lists(st.tuples(any_calls, roads), min_size=1, max_size=12), vcpu=vcpus)
    def call(self, made: list[tuple[Made, int]], vcpu: int) -> None:
        for (number, args), road in made:
            self.judge.call(number, *args, vcpu=self.caller(vcpu), road=road)

    @precondition(lambda self: self.alive)
    @rule(listed=st.lists(entries, max_size=12), vcpu=vcpus)
    def batch(self, listed: list[tuple[Made, int, int]], vcpu: int) -> None:
        made = [(number, args, flags, cookie) for (number, args), flags, cookie in listed]
        self.judge.batch(made, vcpu=self.caller(vcpu))

    @precondition(lambda self: self.alive)
    @rule(counts=st.tuples(*[st.sampled_from([0, 1, 2, 256, 257])] * 2), vcpu=vcpus)
    def odd_batch(self, counts: tuple[int, int], vcpu: int) -> None:
        """BATCH-1; the submissions are whatever lies there."""
        self.judge.by_name("base.batch", DATA_GPA, counts[0], COMPLETIONS_GPA, counts[1], vcpu=self.caller(vcpu))

    @precondition(lambda self: self.alive)
    @rule(
        sets=st.lists(st.sampled_from([0, 1, 2, -1]), min_size=1, max_size=4), name=st.sampled_from(["base", "device"])
    )
    def negotiate(self, sets: list[int], name: str) -> None:
        """BASE-2, BASE-3, BASE-8 (for -1), and whether the feature's call exists (CALL-3)."""
        vcpu, probe = self.caller(0), {"base": "base.ring", "device": "device.queue_reset"}[name]
        for features in sets:
            if features < 0:
                self.judge.by_name("base.renegotiate", vcpu=vcpu)
            else:
                self.judge.by_name("base.accept", SERVICES[name].number, features, vcpu=vcpu)
            self.judge.by_name(probe, 0, 0, vcpu=vcpu)

    @precondition(lambda self: self.alive)
    @rule(made=calls(rare=True), vcpu=vcpus)
    def rare_call(self, made: Made, vcpu: int) -> None:
        number, args = made
        caller = self.caller(vcpu)
        waits = self.judge.model.would_wait(caller, args[0] if args else 0)
        if number != SERVICES["vcpu"].id("block") or not waits:
            self.judge.call(number, *args, vcpu=caller)

    @precondition(lambda self: self.alive)
    @rule(vcpu=vcpus, waker=vcpus, by_time=st.booleans())
    def block(self, vcpu: int, waker: int, by_time: bool) -> None:
        """VCPU-3, EVT-2, VCPU-7: a wait that is ended by another vCPU, or by time."""
        model, sleeper = self.judge.model, self.caller(vcpu)
        others = [v.index for v in model.vcpus if v.state == STATE.RUNNING and v.index != sleeper]
        if not exists(model, call_id("vcpu.block")) or (not by_time and not exists(model, call_id("event.send"))):
            return
        for name in ("upcall_pending", "mask"):
            self.judge.set_word(sleeper, name, 0)
        if by_time:
            self.judge.block(sleeper, model.now_ns + 10**6)  # the host waits by its own clock too
        elif others:
            self.judge.block(sleeper, NEVER, others[waker % len(others)])

    @precondition(lambda self: self.alive)
    @rule(vcpu=st.sampled_from([1, 2]), argument=cookies)
    def start_vcpu(self, vcpu: int, argument: int) -> None:
        self.judge.by_name("vcpu.start", vcpu, DATA_GPA, HIGH_GPA + 16, argument, vcpu=self.caller(0))

    @precondition(lambda self: self.alive)
    @rule(vcpu=vcpus, ahead_ns=st.sampled_from([-1, 0, 1, 10**9, 2 * 10**9]), step_ns=st.sampled_from([1, 10**9]))
    def deadline(self, vcpu: int, ahead_ns: int, step_ns: int) -> None:
        """TIME-2, around the very moment."""
        now_ns = self.judge.model.now_ns
        self.judge.by_name("time.deadline", now_ns + ahead_ns, vcpu=self.caller(vcpu))
        self.pass_time(step_ns)

    @precondition(lambda self: self.alive)
    @rule(
        name=st.sampled_from(["console.write", "console.read", "base.boot_info", "base.services", "device.list"]),
        gpa=st.sampled_from([DATA_GPA, DATA_GPA + 8, DATA_GPA + 64, 0, END, END + 64, (1 << 64) - 64]),
        sizes=st.lists(st.sampled_from([0, 1, 40, 64, 199, 200, 1400, 1400, 4096]), min_size=1, max_size=4),
        vcpu=vcpus,
    )
    def copy(self, name: str, gpa: int, sizes: list[int], vcpu: int) -> None:
        """CALL-7 among others."""
        for size in sizes:
            self.judge.by_name(name, gpa, size, vcpu=self.caller(vcpu))

    @precondition(lambda self: self.alive)
    @rule(names=st.lists(st.sampled_from(["begin", "end", "mark"]), min_size=1, max_size=5), vcpu=vcpus)
    def trace(self, names: list[str], vcpu: int) -> None:
        for name in names:
            args = {"begin": (DATA_GPA, 5), "end": (), "mark": (DATA_GPA, 64, 7)}[name]
            self.judge.by_name(f"trace.{name}", *args, vcpu=self.caller(vcpu))

    @precondition(lambda self: self.alive)
    @rule(vcpu=vcpus, entries=st.sampled_from([4, 4, 16, 256]), spoilt=spoilt_rings, accept=st.booleans())
    def ring_setup(self, vcpu: int, entries: int, spoilt: dict[str, int], accept: bool) -> None:
        """RING-1 to RING-3."""
        caller = self.caller(vcpu)
        if accept:
            self.judge.by_name("base.accept", SERVICES["base"].number, 1, vcpu=caller)
        areas = ring_areas(caller)
        if caller not in self.judge.model.rings:
            self.judge.write(areas["control_gpa"], bytes([7]) * RING_CONTROL.size)
            self.judge.write(areas["control_gpa"], bytes(4))  # the host is to make the rest right
        fields = {"entries": entries, "channel": 30, "flags": 0, **areas} | {
            name: number + areas.get(name, 0) for name, number in spoilt.items()
        }
        self.judge.write(DATA_GPA, RING_SETUP.build(fields))
        self.judge.by_name("base.ring", DATA_GPA, 1, vcpu=caller)

    @precondition(lambda self: self.alive and self.judge.model.rings)
    @rule(
        listed=st.lists(entries, max_size=12),
        ahead=st.sampled_from([0, 0, 0, 0, 0, 1, 300]),
        event=st.integers(-2, 12),
        visit=st.sampled_from([True, True, True, False]),
        data=st.data(),
    )
    def ring(self, listed: list[tuple[Made, int, int]], ahead: int, event: int, visit: bool, data: Any) -> None:
        """RING-3 to RING-10: submissions, and sometimes more than there is room for."""
        ring = self.judge.model.rings[data.draw(st.sampled_from(sorted(self.judge.model.rings)))]
        control, tail = int(ring.setup.control_gpa), ring.get("submission_tail")
        for i, ((number, args), flags, cookie) in enumerate(listed[: ring.setup.entries]):
            at = int(ring.setup.submissions_gpa) + (tail + i) % ring.setup.entries * SUBMISSION.size
            fields = {"call": number, "flags": flags, "args": (*args, *[0] * 6)[:6], "cookie": cookie}
            self.judge.write(at, SUBMISSION.build(fields))
        words = {"submission_tail": tail + len(listed) + ahead, "completion_event": ring.completed + event}
        for name, number in words.items():
            self.judge.write(control + RING_CONTROL.offset(name), struct.pack("<I", number & 0xFFFF_FFFF))
        if visit:
            self.judge.visit_rings()

    @precondition(lambda self: self.alive)
    @rule(vcpu=vcpus, how=st.sampled_from(["base.ring", "base.ring", "vcpu.stop", "base.renegotiate"]))
    def ring_ends(self, vcpu: int, how: str) -> None:
        """RING-12."""
        self.judge.by_name(how, *((0, 0) if how == "base.ring" else ()), vcpu=self.caller(vcpu))

    # ---- what a guest does to memory ----

    @rule(gpa=st.integers(DATA_GPA, DATA_GPA + DATA_BYTES - 64), data=st.binary(min_size=1, max_size=64))
    def write(self, gpa: int, data: bytes) -> None:
        self.judge.write(gpa, data)

    @rule(
        vcpu=st.integers(0, 2),
        name=st.sampled_from(["upcall_pending", "upcall_mask", "pending", "mask"]),
        number=st.sampled_from([0, 0, 1, 1 << 20, (1 << 32) - 1]),
        word=st.integers(0, 3),
    )
    def write_page(self, vcpu: int, name: str, number: int, word: int) -> None:
        self.judge.set_word(vcpu, name, number, word if name in ("pending", "mask") else 0)

    @precondition(lambda self: self.alive)
    @rule(listed=st.lists(ranges, min_size=1, max_size=4), call=st.sampled_from(["populate", "discard"]), vcpu=vcpus)
    def ranges(self, listed: list[tuple[int, int]], call: str, vcpu: int) -> None:
        fields = [{"gpa": gpa, "size_bytes": size} for gpa, size in listed]
        self.judge.write(DATA_GPA, b"".join(map(MEMORY_RANGE.build, fields)))
        self.judge.write(RAM_GPA + 0x6_0000, bytes(range(256)) * 32)
        self.judge.by_name(f"memory.{call}", DATA_GPA, len(listed), vcpu=self.caller(vcpu))

    # ---- devices ----

    @precondition(lambda self: self.alive)
    @rule(
        queue=st.sampled_from([0, 0, 1, 2, 3]),
        size=st.sampled_from([4, 4, 8, 8, 0, 6, 512]),
        vcpu=vcpus,
        channel=st.sampled_from([16, 70, 255, 256, 0xFFFF_FFFF]),
        shift=st.sampled_from([0, 0, 0, 0, 1, 2, 1 << 40]),
        reserved=st.sampled_from([0, 0, 0, 1]),
    )
    def queue_setup(self, queue: int, size: int, vcpu: int, channel: int, shift: int, reserved: int) -> None:
        areas = {name: gpa + shift for name, gpa in vars(areas_of(queue)).items()}
        fields = {"queue": queue, "size": size, "vcpu": vcpu & 0xFFFF_FFFF, "channel": channel, **areas}
        record = bytearray(QUEUE_SETUP.build(fields))
        record[QUEUE_SETUP.offset("reserved0")] = reserved
        self.judge.write(DATA_GPA, bytes(record))
        self.judge.by_name("device.queue_setup", 0, DATA_GPA, vcpu=self.caller(vcpu))

    @precondition(lambda self: self.alive)
    @rule(features=st.sampled_from([0x101_3000_0020, 0x1_3000_0020, 0x1_1000_0000]), channel=st.integers(16, 200))
    def start_device(self, features: int, channel: int) -> None:
        """All of a driver's way, so that what comes later is not rare."""
        vcpu = self.caller(0)
        self.judge.by_name("base.accept", SERVICES["device"].number, 1, vcpu=vcpu)
        self.judge.by_name("device.set_status", 0, 0, vcpu=vcpu)
        self.judge.by_name("device.accept", 0, 0, features, vcpu=vcpu)
        for status in (1, 3, 11):
            self.judge.by_name("device.set_status", 0, status, vcpu=vcpu)
        for queue in (0, 1):
            areas = areas_of(queue)
            for gpa in vars(areas).values():
                self.judge.write(gpa, bytes(256))
            self.queue_setup(queue, 8, 1, channel, 0, 0)
        self.judge.by_name("device.bind", 0, 0xFFFF, 2, channel, vcpu=vcpu)
        self.judge.by_name("device.set_status", 0, 15, vcpu=vcpu)

    @precondition(lambda self: self.alive and self.judge.devices[0][1].queues)
    @rule(
        data=st.data(),
        table=st.lists(descriptors, min_size=1, max_size=4),
        ahead=st.sampled_from([0, 1, 1, 1, 2, 9]),
        event=st.integers(-2, 2),
    )
    def offer(self, data: st.DataObject, table: list[Desc], ahead: int, event: int) -> None:
        """The driver's ring, whatever it holds."""
        twin = self.judge.devices[0][1]
        queue = twin.queues[data.draw(st.sampled_from(sorted(twin.queues)))]
        driver, index = queue.areas.driver_gpa, queue.next_avail
        self.judge.write(queue.areas.descriptors_gpa, b"".join(d.pack() for d in table))
        self.judge.write(driver + 4 + 2 * (index % queue.size), bytes(2))
        self.judge.write(driver + 2, struct.pack("<H", index + ahead & 0xFFFF))
        self.judge.write(driver + 4 + 2 * queue.size, struct.pack("<H", queue.told + event & 0xFFFF))

    @precondition(lambda self: self.judge.devices[0][1].queues)
    @rule(
        queue=st.integers(0, 1), turn=st.sampled_from(["arm", "disarm", ""]), written=st.sampled_from([0, 5, 1 << 31])
    )
    def serve(self, queue: int, turn: str, written: int) -> None:
        """The device takes a chain, gives it back, and tells; the guest looks at its status."""
        (real, twin), chain = self.judge.devices[0], ffi.new("struct pv_chain *")
        if queue not in twin.queues:
            return
        popped = lib.pv_device_pop(real.native, queue, chain)
        try:
            expected = twin.pop(queue)
            assert popped == (1 if expected else 0)
        except Broken as broken:
            assert popped == -1
            assert real.fault == broken.rule
            expected = None
        if expected:
            check_chain(self.judge, chain, expected)
            lib.pv_queue_push(ffi.addressof(real.native.queues[queue]), chain.head, written)
            twin.queues[queue].push(expected[0], written)
        self._finish_turn(queue, turn)
        if self.alive:
            self.judge.by_name("device.status", 0, vcpu=self.caller(0))

    @precondition(lambda self: self.alive and self.judge.devices[0][1].running)
    @rule()
    def break_queue(self) -> None:
        """DEV-7, with a buffer that is empty."""
        twin = self.judge.devices[0][1]
        for index, queue in list(twin.queues.items())[:1]:
            self.judge.write(queue.areas.descriptors_gpa, Desc(DATA_GPA, 0, 0, 0).pack() * queue.size)
            self.judge.write(queue.areas.driver_gpa + 2, struct.pack("<H", queue.next_avail + 1 & 0xFFFF))
            self.serve(index, "", 0)

    def _finish_turn(self, queue: int, turn: str) -> None:
        real, twin = self.judge.devices[0]
        native = ffi.addressof(real.native.queues[queue])
        if lib.pv_queue_wants_interrupt(native):
            lib.pv_device_interrupt(real.native, queue)
        twin.tell(queue)
        if turn == "arm":
            assert lib.pv_queue_arm(native) == twin.queues[queue].arm()
        elif turn == "disarm":
            lib.pv_queue_disarm(native)
            twin.queues[queue].disarm()

    @rule(config=st.binary(min_size=len(CONFIG), max_size=len(CONFIG)))
    def config_changes(self, config: bytes) -> None:
        real, twin = self.judge.devices[0]
        lib.pv_device_set_config(real.native, config, len(config))
        twin.set_config(config)

    @rule(device=st.sampled_from([0, 0, 1, 2, EVENT.DOORBELL]), queue=st.sampled_from([0, 0, 1, 2, 7, 0xFFFF]))
    def doorbell(self, device: int, queue: int) -> None:
        """DEV-8: nobody is told of a wrong one.  EVT-10."""
        lib.pv_doorbell(self.judge.host.native, device << 16 | queue)
        if device == 0:
            self.judge.devices[0][1].notify(queue)
        elif device == EVENT.DOORBELL:
            self.judge.model.ring(queue)

    # ---- time ----

    @rule(step_ns=st.sampled_from([0, 1, 10**9, 10**9, 50 * 10**9]))
    def pass_time(self, step_ns: int) -> None:
        self.judge.pass_time(self.judge.model.now_ns + step_ns)

    @invariant()
    def all_agree(self) -> None:
        self.judge.settle()


def check_chain(judge: Judge, chain: Any, expected: tuple[int, Buffers, Buffers]) -> None:
    """The chain that the C core took is the model's."""
    base = int(ffi.cast("uintptr_t", judge.host.at(0)))
    found = [
        (int(ffi.cast("uintptr_t", s.iov_base)) - base, s.iov_len)
        for s in chain.segments[0 : chain.readable + chain.writable]
    ]
    assert (chain.head, found[: chain.readable], found[chain.readable :]) == expected


TestGuests = Guests.TestCase
TestGuests.settings = settings(
    max_examples=max(60, settings().max_examples // 4),
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
)
