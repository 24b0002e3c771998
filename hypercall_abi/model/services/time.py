"""Service time: arming the deadline; when it is due is in `machine.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers import Answer, ok

if TYPE_CHECKING:
    from ..machine import Machine


def deadline(machine: Machine, vcpu: int, deadline_ns: int) -> Answer:
    """TIME-3; one that has passed is raised when time is looked at next."""
    machine.arm_deadline(vcpu, deadline_ns)
    return ok()
