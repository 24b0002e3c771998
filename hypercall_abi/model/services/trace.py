"""Service trace: a budget is all that a guest can tell of it (TRC-1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers import Answer, ok, refused

if TYPE_CHECKING:
    from ..machine import Machine


def _mark(machine: Machine) -> Answer:
    if machine.trace_budget is not None and machine.trace_marks >= machine.trace_budget:
        return refused("QUOTA")
    machine.trace_marks += 1
    return ok()


def mark(machine: Machine, _vcpu: int, _name_gpa: int, _name_bytes: int, _value: int) -> Answer:
    """A moment; the name may be any bytes (TRC-2)."""
    return _mark(machine)


def begin(machine: Machine, _vcpu: int, _name_gpa: int, _name_bytes: int) -> Answer:
    """A span begins."""
    return _mark(machine)


def end(machine: Machine, _vcpu: int) -> Answer:
    """A span ends, or none did (TRC-2)."""
    return _mark(machine)
