"""The wrong hosts, by what they get wrong, and the rules that can have none."""

from __future__ import annotations

from tests.conformance.mutants import boot, callrings, calls, devices, queues, services
from tests.conformance.plant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *calls.MUTANTS,
    *callrings.MUTANTS,
    *boot.MUTANTS,
    *services.MUTANTS,
    *devices.MUTANTS,
    *queues.MUTANTS,
)

IMMUNE: dict[str, str] = {
    "BLK-8": "whether data is durable shows only when the power fails",
    "BLK-9": "whether data is durable shows only when the power fails",
    "CALL-12": "a host that ends the guest leaves no case that could fail: its run has no plan and fails as a whole",
    "CALL-15": "a trap is a full barrier on every CPU that there is a host for; what is missing would show by chance",
    "CONT-1": "a guest cannot have itself copied",
    "TIME-4": "a guest cannot put a counter behind another's",
    "VQ-12": "an access that is out of order shows by chance",
}
"""Rules of the host's that have no wrong host, and why."""
