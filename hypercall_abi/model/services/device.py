"""Service device: the calls of the transport; what they do to a device is in `../virtio_device.py`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ...conventions import STATUS
from ...services.device import BINDING, DEVICE_INFO, QUEUE_SETUP
from ..answers import Allowed, Answer, ok, refused
from ..virtqueue import Areas

if TYPE_CHECKING:
    from ..machine import Machine
    from ..virtio_device import VirtioDevice


def _find(machine: Machine, index: int) -> VirtioDevice | None:
    device = machine.devices[index] if index < len(machine.devices) else None
    return None if device is None or device.mmio else device  # DEV-13


def _answer(status: int, value: int = 0) -> Answer:
    return Answer(status, value if status >= 0 else None)


def list_(machine: Machine, _vcpu: int, gpa: int, room_bytes: int) -> Answer:
    """Whole records, in the order of indexes."""
    written = 0
    for index in range(len(machine.devices)):
        device = _find(machine, index)
        if device is None:
            continue
        if room_bytes - written < DEVICE_INFO.size:
            break
        record = {
            "device": index,
            "type": device.type,
            "queues": len(device.maxima),
            "config_bytes": len(device.config),
            "flags": device.flags,
            "name": device.name,
        }
        machine.memory.write(gpa + written, DEVICE_INFO.build(record))
        written += DEVICE_INFO.size
    return ok(written)


def features(machine: Machine, _vcpu: int, index: int, block: int) -> Answer:
    """64 of the bits offered."""
    device = _find(machine, index)
    if device is None:
        return refused("NOT_FOUND")
    return ok(device.offered[block]) if block < 2 else refused("INVALID")


def accept(machine: Machine, _vcpu: int, index: int, block: int, features: int) -> Answer:
    """Checked when FEATURES_OK is set, not now."""
    device = _find(machine, index)
    return _answer(device.accept(block, features)) if device else refused("NOT_FOUND")


def status(machine: Machine, _vcpu: int, index: int) -> Answer:
    """The status bits."""
    device = _find(machine, index)
    return ok(device.bits) if device else refused("NOT_FOUND")


def set_status(machine: Machine, _vcpu: int, index: int, status: int) -> Answer:
    """The value is the status afterwards: FEATURES_OK may have stayed clear."""
    device = _find(machine, index)
    if device is None:
        return refused("NOT_FOUND")
    answer = device.set_status(status)
    return _answer(answer, device.bits)


def config_read(machine: Machine, _vcpu: int, index: int, offset: int, gpa: int, size_bytes: int) -> Answer:
    """All the bytes or INVALID."""
    device = _find(machine, index)
    if device is None:
        return refused("NOT_FOUND")
    data = device.config_read(offset, size_bytes)
    if data is None:
        return refused("INVALID")
    if data:
        machine.memory.write(gpa, data)
    return ok(size_bytes)


def config_write(machine: Machine, _vcpu: int, index: int, offset: int, gpa: int, size_bytes: int) -> Answer:
    """All the bytes or INVALID."""
    device = _find(machine, index)
    if device is None:
        return refused("NOT_FOUND")
    data = machine.memory.read(gpa, size_bytes) if size_bytes else b""
    return _answer(device.config_write(offset, data), size_bytes)


def generation(machine: Machine, _vcpu: int, index: int) -> Answer:
    """Of the configuration."""
    device = _find(machine, index)
    return ok(device.generation) if device else refused("NOT_FOUND")


def queue_size(machine: Machine, _vcpu: int, index: int, queue: int) -> Answer:
    """A queue that does not exist has size 0; it is no error to ask."""
    device = _find(machine, index)
    return ok(device.maximum(queue)) if device else refused("NOT_FOUND")


def queue_setup(machine: Machine, _vcpu: int, index: int, gpa: int) -> Answer:
    """Sets a queue up from its record."""
    device = _find(machine, index)
    if device is None:
        return refused("NOT_FOUND")
    data = machine.memory.read(gpa, QUEUE_SETUP.size)
    at = QUEUE_SETUP.offset("reserved0")
    padding = data[at : at + 4]
    setup = QUEUE_SETUP.parse(data[:at] + bytes(4) + data[at + 4 :])
    areas = Areas(setup.descriptors_gpa, setup.driver_gpa, setup.device_gpa)
    return _answer(device.queue_setup(setup.queue, setup.size, areas, setup.vcpu, setup.channel, padding))


def queue_reset(machine: Machine, _vcpu: int, index: int, queue: int) -> Answer:
    """Takes one queue back."""
    device = _find(machine, index)
    return _answer(device.queue_reset(queue)) if device else refused("NOT_FOUND")


def bind(machine: Machine, _vcpu: int, index: int, queue: int, vcpu: int, channel: int) -> Answer:
    """Of a queue or of CONFIG."""
    device = _find(machine, index)
    what = None if queue == BINDING.CONFIG else queue
    return _answer(device.bind(what, vcpu, channel)) if device else refused("NOT_FOUND")


def notify(machine: Machine, _vcpu: int, index: int, queue: int) -> Allowed:
    """A doorbell; with a budget any good one may be one too many (DEV-12)."""
    device = _find(machine, index)
    if device is None or not device.maximum(queue):
        return refused("NOT_FOUND")
    if not device.running or queue not in device.queues:
        return refused("BAD_STATE")
    rung = Answer(STATUS.OK, 0, partial(_ring, device, queue))
    return rung if machine.doorbell_budget is None else (rung, refused("QUOTA"))


def _ring(device: VirtioDevice, queue: int) -> None:
    device.notify(queue)
