"""Service event: raising channels; what raising does is in `machine.py`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ...services.event import CHANNELS, UPCALL
from ..answers import Allowed, Answer, ok, refused

if TYPE_CHECKING:
    from ..machine import Machine


def send(machine: Machine, _vcpu: int, vcpu: int, channel: int) -> Answer:
    """Raises a channel, also of a vCPU that is stopped (EVT-8)."""
    if vcpu >= len(machine.vcpus) or channel >= machine.limit(CHANNELS):  # EVT-6
        return refused("NOT_FOUND")
    machine.raise_channel(vcpu, channel)
    return ok()


def upcall(machine: Machine, vcpu: int, vector: int) -> Allowed:
    """Chooses the vector; a host that cannot route it says FAILED."""
    if vector not in (UPCALL.OFF, UPCALL.NMI) and not 32 <= vector <= 255:
        return refused("INVALID")
    return ok(effect=partial(setattr, machine.vcpus[vcpu], "vector", vector)), refused("FAILED")
