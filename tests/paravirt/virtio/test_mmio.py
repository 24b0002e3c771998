"""The virtio-mmio window beyond what test_status.py compares: registers, widths, interrupts, any access at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercall_abi.mmio import MMIO
from hypercall_abi.model.virtio_device import ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, LADDER
from hypercall_abi.virtqueue import VIRTIO_FEATURE, VIRTIO_STATUS
from paravirt._native import lib
from tests.paravirt.virtio.bare_device import CONFIG, MAXIMA, OFFERED, WRITABLE_FROM, BareDevice, Mmio, areas_of
from tests.support.fake_machine import RAM_BYTES, RAM_GPA, FakeMachine

U32 = 0xFFFF_FFFF
USED_BUFFERS, CONFIGURATION = 1, 2
READABLE = {
    MMIO.MAGIC: 0x7472_6976,
    MMIO.VERSION: 2,
    MMIO.DEVICE_ID: 2,
    MMIO.QUEUE_SIZE_MAX: MAXIMA[0],
    MMIO.DEVICE_FEATURES: OFFERED[0] & U32,
}


@pytest.fixture
def device() -> Iterator[BareDevice]:
    device = BareDevice(FakeMachine(), mmio=True)
    yield device
    device.close()


@pytest.fixture
def window(device: BareDevice) -> Mmio:
    return Mmio(device)


def start(window: Mmio) -> None:
    window.accept(0, OFFERED[0])
    for status in (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK):
        window.set_status(status)
    window.queue_setup(0, 8, areas_of(0))
    window.set_status(window.status() | DRIVER_OK)
    assert window.status() & DRIVER_OK


@pytest.mark.parametrize("register", READABLE)
def test_identity(window: Mmio, register: int) -> None:
    """Magic, version, device id and the like; written to, they stay."""
    for _ in range(2):
        assert window.read(register) == READABLE[register]
        window.write(register, 0)


@pytest.mark.parametrize("size_bytes", [0, 1, 2, 3, 8])
def test_other_widths(window: Mmio, device: BareDevice, size_bytes: int) -> None:
    """Registers are 32 bits wide: other accesses read zero and write nothing."""
    for register in READABLE:
        assert window.read(register, size_bytes) == 0
    window.write(MMIO.STATUS, ACKNOWLEDGE, size_bytes)
    window.write(MMIO.QUEUE_SEL, 1, size_bytes)
    assert device.native.state.status == 0
    assert device.native.state.queue_selector == 0


def test_config_widths(window: Mmio, device: BareDevice) -> None:
    """The configuration space takes 1, 2 and 4 bytes at any offset; nothing beyond it (DEV-6)."""
    for size_bytes in (1, 2, 4):
        for offset in range(len(CONFIG) - size_bytes + 1):
            assert window.config_read(offset, size_bytes) == CONFIG[offset : offset + size_bytes]
        assert window.config_read(len(CONFIG) - size_bytes + 1, size_bytes) == bytes(size_bytes)
        window.config_write(len(CONFIG) - size_bytes + 1, b"\xee" * size_bytes)
    for size_bytes in (0, 3, 8):
        assert window.read(MMIO.CONFIG, size_bytes) == 0
        window.write(MMIO.CONFIG + WRITABLE_FROM, 0, size_bytes)
    assert device.snapshot()["config"] == CONFIG
    assert device.events == []


def test_feature_blocks(window: Mmio) -> None:
    """128 offered bits in four blocks, none behind them."""
    offered = OFFERED[0] | OFFERED[1] << 64
    for selector in (0, 1, 2, 3, 4, 5, 0x8000_0000, U32):
        window.write(MMIO.DEVICE_FEATURES_SEL, selector)
        assert window.read(MMIO.DEVICE_FEATURES) == (offered >> 32 * selector & U32 if selector < 4 else 0)


def test_no_shared_memory(window: Mmio) -> None:
    """A region that does not exist has the length of all ones."""
    assert [window.read(0xB0 + 4 * i) for i in range(4)] == [U32] * 4


@pytest.mark.parametrize("queue", [2, 3, 8, 0xFFFF, U32])
def test_no_such_queue(window: Mmio, device: BareDevice, queue: int) -> None:
    """Registers of a queue that is not there read zero and keep nothing."""
    start(window)
    before = device.snapshot()
    window.queue_setup(queue, 8, areas_of(1))
    assert window.read(MMIO.QUEUE_READY) == 0
    assert window.read(MMIO.QUEUE_SIZE_MAX) == 0
    window.notify(queue)
    assert device.snapshot() == before
    assert device.events == [("activate",)]


def test_ready_is_refused_and_mended(window: Mmio, device: BareDevice) -> None:
    """DEV-14: a refused READY reads zero; what was written stays, so that one register mends it."""
    window.accept(0, OFFERED[0])
    window.set_status(ACKNOWLEDGE | DRIVER)
    window.queue_setup(0, 8, areas_of(0))
    assert window.read(MMIO.QUEUE_READY) == 0  # before FEATURES_OK
    window.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    window.write(MMIO.QUEUE_DRIVER_LOW, RAM_GPA + RAM_BYTES)
    window.write(MMIO.QUEUE_READY, 1)
    assert window.read(MMIO.QUEUE_READY) == 0
    window.write(MMIO.QUEUE_DRIVER_LOW, areas_of(0).driver_gpa)
    window.write(MMIO.QUEUE_READY, 2)
    assert window.read(MMIO.QUEUE_READY) == 0
    window.write(MMIO.QUEUE_READY, 1)
    assert window.read(MMIO.QUEUE_READY) == 1
    assert device.snapshot()["queues"] == {0: (8, areas_of(0))}


@pytest.mark.parametrize("size", [0, 3, 257, 512, 0x1_0008, U32])
def test_bad_sizes(window: Mmio, size: int) -> None:
    """Sizes that are none, also those that would fit cut to 16 bits."""
    window.accept(0, OFFERED[0])
    for status in (ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK):
        window.set_status(status)
    window.queue_setup(0, size, areas_of(0))
    assert window.read(MMIO.QUEUE_READY) == 0


def test_ready_taken_back(window: Mmio, device: BareDevice) -> None:
    """Before DRIVER_OK a queue can be taken back; from an active device only by reset."""
    start(window)
    window.write(MMIO.QUEUE_READY, 0)
    assert window.read(MMIO.QUEUE_READY) == 1
    window.set_status(0)
    assert window.read(MMIO.QUEUE_READY) == 0
    window.accept(0, OFFERED[0])
    for status in (ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK):
        window.set_status(status)
    window.queue_setup(0, 8, areas_of(0))
    assert window.read(MMIO.QUEUE_READY) == 1
    window.write(MMIO.QUEUE_READY, 0)
    assert window.read(MMIO.QUEUE_READY) == 0
    assert device.events == [("activate",), ("reset",)]


def test_interrupts(window: Mmio, device: BareDevice) -> None:
    """The status says why, the line that; acknowledging clears what it names."""
    start(window)
    for _ in range(2):
        lib.pv_device_interrupt(device.native, 0)
    assert device.interrupts() == 2
    assert window.read(MMIO.INTERRUPT_STATUS) == USED_BUFFERS
    lib.pv_device_set_config(device.native, CONFIG, len(CONFIG))
    assert device.interrupts() == 1
    assert window.read(MMIO.INTERRUPT_STATUS) == USED_BUFFERS | CONFIGURATION
    window.write(MMIO.INTERRUPT_ACK, USED_BUFFERS)
    assert window.read(MMIO.INTERRUPT_STATUS) == CONFIGURATION
    window.set_status(0)
    assert window.read(MMIO.INTERRUPT_STATUS) == 0
    assert device.native.interrupts == 3


def test_queue_reset() -> None:
    """With RING_RESET a write of 1 takes the selected queue back, over when the write is; it can be enabled anew."""
    device = BareDevice(FakeMachine(), mmio=True, ring_reset=True)
    window = Mmio(device)
    window.accept(0, OFFERED[0] | VIRTIO_FEATURE.RING_RESET)
    for status in (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK):
        window.set_status(status)
    for queue in (0, 1):
        window.queue_setup(queue, 8, areas_of(queue))
    window.set_status(window.status() | DRIVER_OK)
    for value in (0, 2, U32):
        window.write(MMIO.QUEUE_RESET, value)
        assert window.read(MMIO.QUEUE_READY) == 1
    window.write(MMIO.QUEUE_RESET, 1)
    assert (window.read(MMIO.QUEUE_RESET), window.read(MMIO.QUEUE_READY)) == (0, 0)
    window.notify(1)
    window.notify(0)
    window.queue_setup(1, 4, areas_of(1))
    assert (window.read(MMIO.QUEUE_RESET), window.read(MMIO.QUEUE_READY)) == (0, 1)
    assert device.events == [("activate",), ("queue", 1, False), ("notify", 0), ("queue", 1, True)]
    assert device.snapshot()["queues"] == {0: (8, areas_of(0)), 1: (4, areas_of(1))}
    device.close()


def test_queue_reset_that_was_not_agreed_on(window: Mmio) -> None:
    start(window)
    window.write(MMIO.QUEUE_RESET, 1)
    assert (window.read(MMIO.QUEUE_RESET), window.read(MMIO.QUEUE_READY)) == (0, 1)


registers = st.one_of(
    st.sampled_from([value.number for value in MMIO if value.number < MMIO.CONFIG]), st.integers(0, 0x1FF)
)
values = st.one_of(
    st.sampled_from([0, 1, 2, 7, 8, 0x10, U32, RAM_GPA, RAM_GPA + 0x1_0000, RAM_GPA + RAM_BYTES - 64]),
    st.sampled_from([sum(LADDER[:n]) for n in range(5)]),
    st.integers(0, U32),
)
accesses = st.tuples(registers, st.sampled_from([4, 4, 4, 4, 1, 2, 8]), st.one_of(st.none(), values))


@given(st.lists(accesses, max_size=60))
@settings(max_examples=max(150, settings().max_examples))
def test_any_accesses(accesses: list[tuple[int, int, int | None]]) -> None:
    """A driver that writes anything anywhere never leaves the ladder, and enables only queues inside memory."""
    device = BareDevice(FakeMachine(), mmio=True)
    window = Mmio(device)
    for offset, size_bytes, value in accesses:
        if value is None:
            assert 0 <= window.read(offset, size_bytes) <= U32
        else:
            window.write(offset, value, size_bytes)
        status = window.status()
        climbed = [bool(status & bit) for bit in LADDER]
        assert climbed == sorted(climbed, reverse=True)
        assert not status & VIRTIO_STATUS.NEEDS_RESET
        for queue, (size, areas) in device.snapshot()["queues"].items():
            assert 0 < size <= MAXIMA[queue]
            assert all(RAM_GPA <= gpa < RAM_GPA + RAM_BYTES for gpa in vars(areas).values())
    activated, taken_back = (device.events.count((name,)) for name in ("activate", "reset"))
    assert activated - taken_back in (0, 1)
    device.close()
