"""Service system: how a machine ends, and its watchdog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...services.system import CRASH_REPORT, SHUTDOWN
from ..answers import NO_RETURN, Answer, ok, refused
from ..machine import NEVER

if TYPE_CHECKING:
    from ..machine import Machine


def shutdown(machine: Machine, _vcpu: int, reason: int, status: int) -> Answer:
    """SYS-1."""
    if reason not in {value.number for value in SHUTDOWN}:
        return refused("INVALID")
    machine.finish("shutdown", reason, status)
    return NO_RETURN


def reset(machine: Machine, _vcpu: int) -> Answer:
    """What begins then is a new machine (SYS-3)."""
    machine.finish("reset")
    return NO_RETURN


def crash(machine: Machine, _vcpu: int, gpa: int) -> Answer:
    """The report as it lay in memory; how its text is shown (SYS-2) is no affair of the guest's."""
    machine.finish("crash", machine.memory.read(gpa, CRASH_REPORT.size))
    return NO_RETURN


def watchdog(machine: Machine, _vcpu: int, timeout_ns: int) -> Answer:
    """SYS-4."""
    machine.watchdog_ns = min(machine.now_ns + timeout_ns, NEVER) if timeout_ns else NEVER
    return ok()


def debug(_machine: Machine, _vcpu: int, _gpa: int) -> Answer:
    """No debugger listens (SYS-7)."""
    return ok()
