"""Service device beyond what test_status.py compares: the list, bindings, doorbells and their budget."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi import SERVICES, STATUS
from hypercall_abi.model.virtio_device import ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK
from hypercall_abi.services.device import DEVICE_INFO
from paravirt._native import ffi, lib
from tests.paravirt.virtio.bare_device import (
    CONFIG,
    MAXIMA,
    NO_CHANNEL,
    OFFERED,
    SCRATCH_GPA,
    BareDevice,
    Calls,
    areas_of,
)
from tests.support.fake_machine import FakeMachine

ON_DEVICES = [call for call in SERVICES["device"].calls if call.name != "list" and not call.feature]
U64 = (1 << 64) - 1


@pytest.fixture
def machine() -> Iterator[FakeMachine]:
    """Three devices, the second of them on virtio-mmio."""
    machine = FakeMachine()
    devices = [BareDevice(machine), BareDevice(machine, mmio=True), BareDevice(machine)]
    devices[2].native.name = b"x" * 32
    machine.devices = devices  # type: ignore[attr-defined]
    yield machine
    for device in devices:
        device.close()


@pytest.fixture
def calls(machine: Any) -> Calls:
    return Calls(machine.devices[0])


def start(calls: Calls, **binding: int) -> None:
    assert calls.accept(0, OFFERED[0]) == STATUS.OK
    for status in (ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK):
        assert calls.set_status(status) == STATUS.OK
    assert calls.queue_setup(0, 8, areas_of(0), **binding) == STATUS.OK
    assert calls.set_status(calls.status() | DRIVER_OK) == STATUS.OK


def listed(machine: FakeMachine, size_bytes: int) -> list[Any]:
    machine.write(SCRATCH_GPA, b"\xee" * 256)
    status, value = machine.call("device.list", SCRATCH_GPA, size_bytes)
    assert status == STATUS.OK
    assert machine.read(SCRATCH_GPA + value, 256 - value) == b"\xee" * (256 - value)
    data = machine.read(SCRATCH_GPA, value)
    return [DEVICE_INFO.parse(data[i : i + DEVICE_INFO.size]) for i in range(0, value, DEVICE_INFO.size)]


def test_list(machine: FakeMachine) -> None:
    """Index, type, queues, configuration and name; a device on virtio-mmio is not listed (DEV-13)."""
    first, second = listed(machine, 256)
    assert (first.device, first.type, first.queues, first.config_bytes) == (0, 2, len(MAXIMA), len(CONFIG))
    assert (first.name, second.device, second.name) == ("disk", 2, "x" * 32)


@pytest.mark.parametrize("size_bytes", [0, 1, DEVICE_INFO.size - 1, DEVICE_INFO.size, 2 * DEVICE_INFO.size - 1])
def test_list_in_part(machine: FakeMachine, size_bytes: int) -> None:
    """As many whole records as fit."""
    assert len(listed(machine, size_bytes)) == size_bytes // DEVICE_INFO.size


@pytest.mark.parametrize("device", [1, 3, 32, 0xFFFF_FFFF, 1 << 32, U64], ids=hex)
@pytest.mark.parametrize("call", ON_DEVICES, ids=lambda call: call.name)
def test_no_such_device(machine: FakeMachine, call: Any, device: int) -> None:
    """NOT_FOUND from every call, for a device on virtio-mmio too (DEV-13)."""
    args = [SCRATCH_GPA if name.endswith("_gpa") else 0 for name in call.registers[1:]]
    assert machine.call(f"device.{call.name}", device, *args)[0] == STATUS.NOT_FOUND


@given(queue=st.sampled_from([0, 1, 2, 3, 0xFFFE, 0x1_0000, U64]), block=st.sampled_from([2, 3, 1 << 32, U64]))
def test_wide_arguments(queue: int, block: int) -> None:
    """Arguments are 64 bits wide and not cut."""
    device = BareDevice(FakeMachine())
    calls = Calls(device)
    assert calls.call("features", block)[0] == STATUS.INVALID
    assert calls.accept(block, 0) == STATUS.INVALID
    exists = queue < len(MAXIMA) and MAXIMA[queue]
    assert calls.queue_size(queue) == (exists or 0)
    assert calls.notify(queue) == (STATUS.BAD_STATE if exists else STATUS.NOT_FOUND)
    assert calls.call("bind", queue, 0, 16)[0] == (STATUS.OK if exists else STATUS.NOT_FOUND)
    assert calls.set_status(ACKNOWLEDGE | 1 << 32) == STATUS.INVALID
    assert calls.call("config_read", U64, SCRATCH_GPA, 1)[0] == STATUS.INVALID
    device.close()


def test_empty_accesses(calls: Calls) -> None:
    """Nothing at the end of the configuration space is still inside it, one further is not (DEV-6)."""
    for name in ("config_read", "config_write"):
        assert calls.call(name, len(CONFIG), 0, 0) == (STATUS.OK, 0)
        assert calls.call(name, len(CONFIG) + 1, 0, 0)[0] == STATUS.INVALID
    assert calls.device.events == []


def test_setup_record_is_checked(calls: Calls) -> None:
    """CALL-14: reserved bytes are zero; vCPU and channel exist (DEV-10); refused, nothing is kept (CALL-10)."""
    before = bytes(ffi.buffer(ffi.addressof(calls.device.native, "state").queues))
    good = 0, 8, areas_of(0)
    calls.accept(0, OFFERED[0])
    for status in (ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK):
        assert calls.set_status(status) == STATUS.OK
    assert calls.queue_setup(*good, reserved=1) == STATUS.INVALID
    assert calls.queue_setup(*good, vcpu=2) == STATUS.NOT_FOUND
    assert calls.queue_setup(*good, channel=256) == STATUS.NOT_FOUND
    assert calls.queue_setup(0, 3, areas_of(0), vcpu=1, channel=9) == STATUS.INVALID
    assert bytes(ffi.buffer(ffi.addressof(calls.device.native, "state").queues)) == before
    assert calls.queue_setup(*good, vcpu=1, channel=255) == STATUS.OK


def pending(machine: FakeMachine, vcpu: int) -> list[int]:
    words = machine.vcpus[vcpu].page.pending
    return [64 * word + bit for word in range(4) for bit in range(64) if words[word] >> bit & 1]


def test_bindings(machine: FakeMachine, calls: Calls) -> None:
    """A queue raises its channel, where it is bound last; none without; a reset forgets it (DEV-15, DEV-16)."""
    native = calls.device.native
    start(calls, vcpu=1, channel=200)
    lib.pv_device_interrupt(native, 0)
    assert (pending(machine, 0), pending(machine, 1)) == ([], [200])
    assert calls.call("bind", 0, 0, 17)[0] == STATUS.OK
    lib.pv_device_interrupt(native, 0)
    assert (pending(machine, 0), pending(machine, 1)) == ([17], [200])
    for vcpu, channel in ((2, 17), (1 << 32, 17), (0, 256), (0, U64)):
        assert calls.call("bind", 0, vcpu, channel)[0] == STATUS.NOT_FOUND
    assert calls.call("bind", 0, 0, NO_CHANNEL)[0] == STATUS.OK
    lib.pv_device_interrupt(native, 0)
    assert native.interrupts == 2
    assert calls.call("bind", 0xFFFF, 0, 18)[0] == STATUS.OK
    assert calls.set_status(0) == STATUS.OK
    start(calls)
    lib.pv_device_set_config(native, CONFIG, len(CONFIG))
    lib.pv_device_interrupt(native, 0)
    assert (pending(machine, 0), pending(machine, 1)) == ([17], [200])


@pytest.mark.parametrize("value", [0, 1, 2, 0x1_0000, 0x2_0000, 0x3_0000, 0x20_0000, 0xFFFF_FFFF], ids=hex)
def test_doorbell(machine: FakeMachine, calls: Calls, value: int) -> None:
    """DEV-8: device << 16 | queue; one that names no enabled queue of a running device is ignored."""
    lib.pv_doorbell(machine.native, value)
    assert calls.device.events == []
    start(calls)
    lib.pv_doorbell(machine.native, value)
    assert calls.device.events == [("activate",)] + [("notify", 0)] * (value == 0)


def test_doorbell_reaches_the_eventfd(calls: Calls) -> None:
    """A queue with an eventfd is told by it, whatever road the doorbell took."""
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        calls.device.native.queues[0].doorbell_fd = fd
        start(calls)
        assert calls.notify(0) == STATUS.OK
        lib.pv_doorbell(calls.machine.native, 0)
        assert os.eventfd_read(fd) == 2
        os.eventfd_write(fd, U64 - 1)  # full
        assert calls.notify(0) == STATUS.OK
    finally:
        os.close(fd)
    assert calls.device.events == [("activate",)]
    assert calls.device.native.doorbells == 3


@pytest.mark.parametrize("budget", [1, 3, 1000])
def test_doorbell_budget(machine: Any, budget: int) -> None:
    """DEV-12: a flood is refused with QUOTA; the budget is the machine's, whatever the device or the road."""
    first, third = (Calls(machine.devices[index]) for index in (0, 2))
    start(first)
    start(third)
    machine.native.doorbell_budget = budget
    begin_ns = lib.pv_clock_ns()
    answers = [calls.notify(0) for _ in range(budget) for calls in (first, third)]
    for _ in range(10):
        lib.pv_doorbell(machine.native, 0)
    grown = budget * (lib.pv_clock_ns() - begin_ns) / 1e9  # meanwhile
    rung = sum(device.events.count(("notify", 0)) for device in machine.devices)
    assert answers[:budget] == [STATUS.OK] * budget
    assert answers.count(STATUS.OK) <= rung <= budget + grown + 1
    assert set(answers) <= {STATUS.OK, STATUS.QUOTA}


def test_doorbell_budget_used_up(machine: FakeMachine, calls: Calls) -> None:
    """DEV-12: refused until the clock catches up; nothing is rung."""
    start(calls)
    machine.native.doorbell_budget = 1000
    machine.native.doorbell_due_ns = lib.pv_clock_ns() + 3600 * 10**9
    assert calls.notify(0) == STATUS.QUOTA
    lib.pv_doorbell(machine.native, 0)
    assert calls.device.events == [("activate",)]
    machine.native.doorbell_due_ns = lib.pv_clock_ns()
    assert calls.notify(0) == STATUS.OK
    machine.native.doorbell_budget = 0  # no bound
    machine.native.doorbell_due_ns = lib.pv_clock_ns() + 3600 * 10**9
    assert calls.notify(0) == STATUS.OK
