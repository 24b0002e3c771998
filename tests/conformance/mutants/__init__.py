"""The wrong hosts, by what they get wrong, and the rules that can have none."""

from __future__ import annotations

from tests.conformance.mutants import (
    boot,
    callrings,
    calls,
    devices,
    net,
    pmem,
    queues,
    services,
    virtio,
    virtio_devices,
    vsock,
)
from tests.conformance.plant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *calls.MUTANTS,
    *callrings.MUTANTS,
    *boot.MUTANTS,
    *services.MUTANTS,
    *devices.MUTANTS,
    *pmem.MUTANTS,
    *net.MUTANTS,
    *queues.MUTANTS,
    *vsock.MUTANTS,
    *virtio.MUTANTS,
    *virtio_devices.MUTANTS,
)

IMMUNE: dict[str, str] = {
    "CALL-12": "a host that ends the guest leaves no case that could fail: its run has no plan and fails as a whole",
    "CALL-15": "a trap is a full barrier on every CPU that there is a host for; what is missing would show by chance",
    "VCPU-8": "when the last vCPU has stopped there is nobody left whose case could fail: the run fails as a whole",
    "VQ-12": "an access that is out of order shows by chance",
}
"""Rules that a case proves and no wrong host can break so that it shows, and why."""
