"""Service continuity: who is told, and what was acknowledged.  Its events come from the judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers import Answer, ok, refused

if TYPE_CHECKING:
    from ..machine import Machine


def subscribe(machine: Machine, _vcpu: int, vcpu: int) -> Answer:
    """Events raise channel CONTINUITY of this vCPU from now on."""
    if vcpu >= len(machine.vcpus):
        return refused("NOT_FOUND")
    machine.continuity_vcpu = vcpu
    return ok()


def acknowledge(machine: Machine, _vcpu: int, counter: int) -> Answer:
    """Of the event that happened last; another counter names none."""
    if counter != machine.continuity_counter:
        return refused("INVALID")
    machine.continuity_acknowledged = counter
    return ok()
