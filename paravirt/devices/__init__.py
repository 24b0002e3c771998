"""Back ends of virtio devices: they know queues, not transports.

`make_device` is where a machine's plan becomes devices; a new device is a file here and a line there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine
    from .base import Device, PythonDevice


def make_device(planned: PlannedDevice, machine: Machine) -> Device:
    """The back end of a planned device.  It takes nothing of the host's before it is attached."""
    config = machine.config
    if planned.disk:
        from .block import BlockDevice

        track = machine.tracer.track(f"disk {planned.name}") if machine.tracer else None
        return BlockDevice(planned.name, planned.disk, config.io_engine, config.budgets.poll_ns, track)
    device = _python_device(planned, machine)
    if machine.tracer:
        device.track = machine.tracer.track(f"device {planned.name}")
    return device


def _python_device(planned: PlannedDevice, machine: Machine) -> PythonDevice:
    from ..boot.manifest import DEVICE_TYPE

    service = machine.devices.service
    if planned.type == DEVICE_TYPE.CONSOLE:
        from .console import ConsoleDevice

        source = machine.config.console_input
        fd = source if isinstance(source, int) else None
        return ConsoleDevice(planned.name, service, machine.console_write, machine.console.read, input_fd=fd)
    if planned.type == DEVICE_TYPE.ENTROPY:
        from .entropy import EntropyDevice

        return EntropyDevice(planned.name, service)
    raise ValueError(f"no back end for virtio device type {planned.type}")
