"""Back ends of virtio devices: they know queues, not transports.

A machine's plan becomes devices by :func:`make_device`: each file here that is called after a virtio
id has ``make(planned, machine)``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine
    from .base import Device


def make_device(planned: PlannedDevice, machine: Machine) -> Device:
    """The back end of a planned device.  It takes nothing of the host's before it is attached."""
    from ..boot.manifest import DEVICE_TYPE

    home = import_module(f".{DEVICE_TYPE.name_of(planned.type).lower()}", __name__)  # those in use alone are loaded
    device: Device = home.make(planned, machine)
    return device
