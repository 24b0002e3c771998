"""virtio-rng: random bytes of the host's kernel (virtio 5.4)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._native import lib
from .base import IN_ORDER, PythonDevice
from .queue import Chain

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine

CHAIN_BYTES = 64 << 10  # a driver that gives more room gets a part, which virtio 5.4.6 allows


class EntropyDevice(PythonDevice):
    """Fills the driver's buffers."""

    type = lib.PV_DEVICE_TYPE_ENTROPY

    def features(self) -> int:
        """Buffers come back in order."""
        return IN_ORDER

    def handle(self, queue: int, chain: Chain) -> int:
        """Fills `chain`, up to CHAIN_BYTES of it."""
        wanted = min(chain.writable_bytes, CHAIN_BYTES)
        data = b""
        while len(data) < wanted:
            data += os.getrandom(wanted - len(data))
        return chain.write(0, data)


def make(planned: PlannedDevice, machine: Machine) -> EntropyDevice:
    """One of these for `machine`."""
    device = EntropyDevice(planned.name, machine.devices.service)
    return device
