"""Service entropy: bytes that nobody can foresee, a model least of all."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..answers import Allowed, ok, refused

if TYPE_CHECKING:
    from ..machine import Machine


def fill(machine: Machine, _vcpu: int, gpa: int, size_bytes: int) -> Allowed:
    """The whole buffer or nothing (ENT-1)."""
    return ok(size_bytes, partial(machine.memory.undefine, gpa, size_bytes)), refused("FAILED")
