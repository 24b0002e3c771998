"""Back ends of virtio devices: they know queues, not transports.

`make_device` is where a machine's plan becomes devices; a new device is a file here and a line there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine
    from .base import Device


def make_device(planned: PlannedDevice, machine: Machine) -> Device:
    """The back end of a planned device.  It takes nothing of the host's before it is attached."""
    from ..boot.manifest import DEVICE_TYPE

    config = machine.config
    if planned.disk:
        from .block import BlockDevice

        track = machine.tracer.track(f"disk {planned.name}") if machine.tracer else None
        return BlockDevice(planned.name, planned.disk, config.io_engine, config.budgets.poll_ns, track)
    if planned.type == DEVICE_TYPE.CONSOLE:
        from .console import ConsoleDevice

        fd = config.console_input if isinstance(config.console_input, int) else None
        return ConsoleDevice(
            planned.name, machine.devices.service, machine.console_write, machine.console.read, input_fd=fd
        )
    if planned.type == DEVICE_TYPE.ENTROPY:
        from .entropy import EntropyDevice

        return EntropyDevice(planned.name, machine.devices.service)
    raise ValueError(f"no back end for virtio device type {planned.type}")
