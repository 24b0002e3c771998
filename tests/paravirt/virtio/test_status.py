"""The status machine: random drivers over both transports at once, beside a model of the rules.

What is said of one step here holds for device.* calls and for virtio-mmio alike: the two devices and
the model are compared after every step.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hypercall_abi import SERVICES, STATUS
from hypercall_abi.model import Machine, VirtioDevice
from hypercall_abi.model.virtio_device import ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, LADDER, NEEDS_RESET
from hypercall_abi.model.virtqueue import Areas, Broken
from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt._native import ffi, lib
from tests.paravirt.virtio.bare_device import CONFIG, MAXIMA, OFFERED, WRITABLE_FROM, BareDevice, Calls, Mmio, areas_of
from tests.support.fake_machine import PAGE, PAGES_GPA, RAM_BYTES, RAM_GPA, FakeMachine

END = RAM_GPA + RAM_BYTES
U32 = 0xFFFF_FFFF
U64 = (1 << 64) - 1

queues = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 0xFFFF])
statuses = st.one_of(
    st.sampled_from([0, ACKNOWLEDGE, FAILED, NEEDS_RESET, U32, 0x100]),
    st.lists(st.sampled_from([*LADDER, FAILED, NEEDS_RESET]), max_size=6).map(sum).map(lambda n: n & 0xFF),
)
features = st.one_of(
    st.sampled_from([OFFERED[0], VIRTIO_FEATURE.VERSION_1, OFFERED[1], 0, OFFERED[0] | 1, 1 << 63, U64]),
    st.integers(0, U64),
)
gpas = st.sampled_from([0, RAM_GPA - 16, RAM_GPA + 8, RAM_GPA + 1, RAM_GPA + 2, RAM_GPA, END - 64, END, U64 - 15])


def model_of_device() -> VirtioDevice:
    """The model of a `BareDevice`, in a machine like `FakeMachine`."""
    machine = Machine({RAM_GPA: RAM_BYTES}, pages_gpa=PAGES_GPA + PAGE, vcpus=2)
    return VirtioDevice(machine, "disk", 2, OFFERED, MAXIMA, bytearray(CONFIG), WRITABLE_FROM)


class Drivers(RuleBasedStateMachine):
    """The same steps by calls, by registers and by the model."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = FakeMachine()
        self.devices = BareDevice(self.machine), BareDevice(self.machine, mmio=True)
        self.calls, self.mmio = Calls(self.devices[0]), Mmio(self.devices[1])
        self.model = model_of_device()

    def teardown(self) -> None:
        for device in self.devices:
            device.close()

    @rule(block=st.integers(0, 3), wanted=features)
    def accept(self, block: int, wanted: int) -> None:
        assert self.calls.accept(block, wanted) == self.model.accept(block, wanted)
        self.mmio.accept(block, wanted)

    @rule(wanted=st.sampled_from([OFFERED[0], VIRTIO_FEATURE.VERSION_1 | 1 << 5]))
    def accept_well(self, wanted: int) -> None:
        for block, features in enumerate((wanted, 0)):
            assert self.calls.accept(block, features) == self.model.accept(block, features)
            self.mmio.accept(block, features)

    @rule(status=statuses)
    def set_status(self, status: int) -> None:
        assert self.calls.set_status(status) == self.model.set_status(status)
        self.mmio.set_status(status)

    @rule()
    def step_well(self) -> None:
        self.set_status(self.model.next_step())

    @rule(size=st.sampled_from([1, 4, 8]), running=st.booleans())
    def start_well(self, size: int, running: bool) -> None:
        """All of it, from reset to queues that are enabled, so that what comes later is not rare."""
        self.set_status(0)
        self.accept_well(OFFERED[0])
        for _ in range(3):
            self.step_well()
        for queue in (0, 1):
            self.queue_setup_well(queue, size)
        if running:
            self.step_well()

    @rule(queue=queues, size=st.sampled_from([0, 1, 4, 6, 8, 16, 256, 512, 0xFFFF]), at=st.tuples(gpas, gpas, gpas))
    def queue_setup(self, queue: int, size: int, at: tuple[int, int, int]) -> None:
        areas = Areas(*at)
        assert self.calls.queue_setup(queue, size, areas) == self.model.queue_setup(queue, size, areas)
        self.mmio.queue_setup(queue, size, areas)

    @rule(queue=st.sampled_from([0, 1]), size=st.sampled_from([1, 4, 8]))
    def queue_setup_well(self, queue: int, size: int) -> None:
        areas = areas_of(queue)
        assert self.calls.queue_setup(queue, size, areas) == self.model.queue_setup(queue, size, areas)
        self.mmio.queue_setup(queue, size, areas)

    @rule(offset=st.one_of(st.integers(0, len(CONFIG) + 2), st.just(250)), size_bytes=st.sampled_from([1, 2, 4]))
    def config_read(self, offset: int, size_bytes: int) -> None:
        expected = self.model.config_read(offset, size_bytes)
        assert self.calls.config_read(offset, size_bytes) == expected
        assert self.mmio.config_read(offset, size_bytes) == (expected or bytes(size_bytes))

    @rule(offset=st.integers(0, len(CONFIG) + 2), data=st.sampled_from([b"\xaa", b"\xbb\xcc", b"\xdd\xee\xff\x11"]))
    def config_write(self, offset: int, data: bytes) -> None:
        assert self.calls.config_write(offset, data) == self.model.config_write(offset, data)
        self.mmio.config_write(offset, data)

    @rule(config=st.binary(min_size=len(CONFIG), max_size=len(CONFIG)))
    def config_changes(self, config: bytes) -> None:
        for device in self.devices:
            lib.pv_device_set_config(device.native, config, len(config))
        self.model.set_config(config)

    @rule(queue=queues)
    def notify(self, queue: int) -> None:
        assert self.calls.notify(queue) == self.model.notify(queue)
        self.mmio.notify(queue)

    def _offer(self, queue: int, descriptor: bytes) -> None:
        """One more chain, the same for both devices, for they share their rings' memory."""
        q = self.model.queues[queue]
        for memory in (self.machine, self.model.machine.memory):
            memory.write(q.areas.descriptors_gpa, descriptor)
            memory.write(q.areas.driver_gpa + 4 + 2 * (q.next_avail % q.size), bytes(2))
            memory.write(q.areas.driver_gpa + 2, struct.pack("<H", q.next_avail + 1))

    @precondition(lambda self: self.model.queues)
    @rule(data=st.data())
    def chain_is_taken(self, data: st.DataObject) -> None:
        queue = data.draw(st.sampled_from(sorted(self.model.queues)))
        self._offer(queue, struct.pack("<QIHH", RAM_GPA, 1, 0, 0))
        taken = self.model.pop(queue) is not None
        assert taken == self.model.running
        for device in self.devices:
            assert device.pop(queue) == taken

    @precondition(lambda self: self.model.running and self.model.queues)
    @rule(data=st.data())
    def driver_breaks_a_rule(self, data: st.DataObject) -> None:
        queue = data.draw(st.sampled_from(sorted(self.model.queues)))
        self._offer(queue, struct.pack("<QIHH", 0, 1, 0, 0))
        with pytest.raises(Broken) as broken:  # DEV-7
            self.model.pop(queue)
        for device in self.devices:
            assert device.pop(queue) == -1
            assert device.fault == broken.value.rule == "VQ-3"
            assert all(device.pop(other) == 0 for other in self.model.queues)

    @invariant()
    def all_agree(self) -> None:
        calls, mmio = (device.snapshot() for device in self.devices)
        assert calls == mmio == snapshot(self.model)
        assert self.devices[0].events == self.devices[1].events == self.model.events
        assert self.calls.status() == self.mmio.status() == self.model.bits
        assert self.calls.generation() == self.mmio.generation() == self.model.generation
        for block in (0, 1):
            assert self.calls.offered(block) == self.mmio.offered(block) == OFFERED[block]
        for queue in (*range(len(MAXIMA) + 1), 8, 0xFFFF):
            maximum = MAXIMA[queue] if queue < len(MAXIMA) else 0
            assert self.calls.queue_size(queue) == self.mmio.queue_size(queue) == maximum


def snapshot(model: VirtioDevice) -> dict[str, Any]:
    """As `BareDevice.snapshot`."""
    return {
        "status": model.bits,
        "accepted": model.accepted,
        "generation": model.generation,
        "config": bytes(model.config),
        "queues": {index: (queue.size, queue.areas) for index, queue in model.queues.items()},
    }


TestDrivers = Drivers.TestCase
TestDrivers.settings = settings(stateful_step_count=40)


@pytest.fixture
def calls() -> Iterator[Calls]:
    """A device with RING_RESET, its service feature accepted."""
    machine = FakeMachine()
    machine.native.state.accepted[SERVICES["device"].number] = 1
    device = BareDevice(machine, ring_reset=True)
    yield Calls(device)
    device.close()


def start(calls: Calls, wanted: int = OFFERED[0] | VIRTIO_FEATURE.RING_RESET) -> None:
    assert calls.accept(0, wanted) == STATUS.OK
    for status in (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK):
        assert calls.set_status(status) == STATUS.OK
    for queue in (0, 1):
        assert calls.queue_setup(queue, 8, areas_of(queue)) == STATUS.OK


def go(calls: Calls) -> None:
    assert calls.set_status(calls.status() | DRIVER_OK) == STATUS.OK


def test_queue_reset(calls: Calls) -> None:
    """With RING_RESET a queue is taken back and set up again while the others run (DEV-5, DEV-17)."""
    start(calls)
    go(calls)
    assert calls.call("queue_reset", 1)[0] == STATUS.OK
    assert calls.call("queue_reset", 1)[0] == STATUS.BAD_STATE
    assert calls.call("queue_reset", 2)[0] == STATUS.NOT_FOUND
    assert calls.notify(1) == STATUS.BAD_STATE
    assert calls.notify(0) == STATUS.OK
    assert calls.queue_setup(1, 4, areas_of(1)) == STATUS.OK
    assert calls.queue_setup(1, 4, areas_of(1)) == STATUS.BAD_STATE
    assert calls.device.events == [("activate",), ("queue", 1, False), ("notify", 0), ("queue", 1, True)]


def test_queue_setup_after_a_fault(calls: Calls) -> None:
    """DEV-5: RING_RESET does not help a device that needs a reset of its own."""
    start(calls)
    go(calls)
    assert calls.call("queue_reset", 0)[0] == STATUS.OK
    rule_id = ffi.new("char[]", b"BLK-3")
    lib.pv_device_fault(calls.device.native, rule_id)
    assert calls.queue_setup(0, 8, areas_of(0)) == STATUS.BAD_STATE


@pytest.mark.parametrize(
    ("wanted", "agreed"),
    [
        ((VIRTIO_FEATURE.VERSION_1, 0), True),
        ((OFFERED[0], OFFERED[1]), True),
        ((OFFERED[0] & ~VIRTIO_FEATURE.VERSION_1, OFFERED[1]), False),
        ((0, 0), False),
        ((OFFERED[0] | 1, 0), False),
        ((OFFERED[0] | VIRTIO_FEATURE.RING_PACKED, 0), False),
        ((OFFERED[0], OFFERED[1] | 1), False),
        ((OFFERED[0] | 1 << 63, 0), False),
    ],
)
def test_features_agree(calls: Calls, wanted: tuple[int, int], agreed: bool) -> None:
    """DEV-3: refused features leave FEATURES_OK clear, and can be mended without a reset."""
    before = ACKNOWLEDGE | DRIVER
    assert calls.set_status(before) == STATUS.OK
    for block in (0, 1):
        assert calls.accept(block, wanted[block]) == STATUS.OK
    assert calls.call("set_status", before | FEATURES_OK) == (STATUS.OK, before | FEATURES_OK if agreed else before)
    for block in (0, 1):
        assert calls.accept(block, OFFERED[block]) == (STATUS.BAD_STATE if agreed else STATUS.OK)
    assert calls.call("set_status", before | FEATURES_OK) == (STATUS.OK, before | FEATURES_OK)


def test_queue_reset_not_agreed(calls: Calls) -> None:
    """DEV-17: without RING_RESET there is no way back but the device's reset."""
    start(calls, OFFERED[0])
    assert calls.call("queue_reset", 0)[0] == STATUS.BAD_STATE
    go(calls)
    assert calls.call("queue_reset", 0)[0] == STATUS.BAD_STATE
    assert sorted(calls.device.snapshot()["queues"]) == [0, 1]


def test_queue_reset_before_it_runs(calls: Calls) -> None:
    """Before DRIVER_OK no back end is asked."""
    start(calls)
    assert calls.call("queue_reset", 0)[0] == STATUS.OK
    assert calls.queue_setup(0, 2, areas_of(0)) == STATUS.OK
    assert calls.device.events == []


def test_a_fault_is_told_once(calls: Calls) -> None:
    """DEV-7: NEEDS_RESET and one configuration event; faults of a driver that does not run are none."""
    machine, device = calls.machine, calls.device
    pending = machine.vcpus[1].page.pending
    rules = [ffi.new("char[]", rule_id) for rule_id in (b"BLK-3", b"VQ-1")]
    lib.pv_device_fault(device.native, rules[0])
    assert calls.status() == 0
    start(calls)
    assert calls.call("bind", 0xFFFF, 1, 70)[0] == STATUS.OK
    lib.pv_device_fault(device.native, rules[0])
    assert not calls.status() & NEEDS_RESET
    assert device.fault is None
    assert pending[1] == 0
    go(calls)
    for rule_id in rules:
        lib.pv_device_fault(device.native, rule_id)
        assert calls.status() & NEEDS_RESET
    assert device.fault == "BLK-3"
    assert pending[1] == 1 << 70 - 64
    assert device.native.interrupts == 1
    assert calls.set_status(0) == STATUS.OK
    assert calls.status() == 0
    assert calls.device.fault is None


def test_config_event_only_when_running(calls: Calls) -> None:
    """No configuration event before DRIVER_OK; afterwards one per change."""
    pending = calls.machine.vcpus[0].page.pending
    start(calls)
    assert calls.call("bind", 0xFFFF, 0, 20)[0] == STATUS.OK
    lib.pv_device_set_config(calls.device.native, CONFIG, len(CONFIG))
    assert pending[0] == 0
    go(calls)
    lib.pv_device_set_config(calls.device.native, CONFIG, 4)
    assert pending[0] == 1 << 20
    assert calls.generation() == 2


def test_unplugging_resets(calls: Calls) -> None:
    """A device that goes away is taken from its back end first."""
    start(calls)
    go(calls)
    calls.device.close()
    assert calls.device.events == [("activate",), ("reset",)]
