"""virtio-rng: random bytes of the host's kernel (virtio 5.4)."""

from __future__ import annotations

import os

from hypercall_abi.devices import DEVICE_TYPE

from .base import PythonDevice
from .queue import Chain

CHAIN_BYTES = 64 << 10  # a driver that gives more room gets a part, which virtio 5.4.6 allows


class EntropyDevice(PythonDevice):
    """Fills the driver's buffers."""

    type = DEVICE_TYPE.ENTROPY

    def handle(self, queue: int, chain: Chain) -> int:
        """Fills `chain`, up to CHAIN_BYTES of it."""
        wanted = min(chain.writable_bytes, CHAIN_BYTES)
        data = b""
        while len(data) < wanted:
            data += os.getrandom(wanted - len(data))
        return chain.write(0, data)
