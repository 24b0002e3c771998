"""Service console: output within a budget, input that is waiting."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..answers import Allowed, Answer, ok, refused

if TYPE_CHECKING:
    from ..machine import Machine


def write(machine: Machine, _vcpu: int, gpa: int, size_bytes: int) -> Answer:
    """All bytes or none (CON-1)."""
    budget = machine.console_budget
    if budget is not None and len(machine.console_output) + size_bytes > budget:  # CON-2
        return refused("QUOTA")
    if size_bytes:
        machine.console_output += machine.memory.read(gpa, size_bytes)
    return ok(size_bytes)


def read(machine: Machine, _vcpu: int, gpa: int, room_bytes: int) -> Allowed:
    """What is waiting, or its beginning; zero only if nothing is or there is no room (CON-3)."""
    most = min(room_bytes, len(machine.console_input))
    return tuple(ok(size, partial(_take, machine, gpa, size)) for size in range(most, 0, -1)) or ok(0)


def _take(machine: Machine, gpa: int, size_bytes: int) -> None:
    machine.memory.write(gpa, machine.console_input[:size_bytes])
    machine.console_input = machine.console_input[size_bytes:]
