"""Service vcpu: start, stop and wait, as changes of state."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ...services.system import SHUTDOWN
from ...services.vcpu import VCPU_STATE as STATE
from ...services.vcpu import YIELD
from ..answers import NO_RETURN, WAITS, Allowed, Answer, ok, refused

if TYPE_CHECKING:
    from ..machine import Machine


def start(machine: Machine, _vcpu: int, vcpu: int, entry_gpa: int, stack_gpa: int, argument: int) -> Allowed:
    """Starts a stopped vCPU; it keeps its page, vector and deadline (VCPU-5)."""
    if vcpu >= len(machine.vcpus):
        return refused("NOT_FOUND")
    if stack_gpa % 16:
        return refused("UNALIGNED")
    if not machine.memory.contains(entry_gpa, 1):  # VCPU-2
        return refused("BAD_ADDRESS")
    if stack_gpa < 16 or not machine.memory.contains(stack_gpa - 16, 16):
        return refused("BAD_ADDRESS")
    if machine.vcpus[vcpu].state != STATE.STOPPED:  # VCPU-1
        return refused("BAD_STATE")
    return ok(effect=partial(_begin, machine, vcpu, (entry_gpa, stack_gpa, argument))), refused("FAILED")


def _begin(machine: Machine, vcpu: int, start: tuple[int, int, int]) -> None:
    machine.vcpus[vcpu].start = start
    machine.set_state(vcpu, STATE.RUNNING)


def stop(machine: Machine, vcpu: int) -> Answer:
    """Stops the caller, and its ring (RING-12); the last one to stop ends the machine."""
    machine.remove_ring(vcpu)
    machine.set_state(vcpu, STATE.STOPPED)
    if all(other.state == STATE.STOPPED for other in machine.vcpus):
        machine.finish("shutdown", SHUTDOWN.POWEROFF, 0)
    return NO_RETURN


def yield_(machine: Machine, _vcpu: int, vcpu: int) -> Answer:
    """The state of whom it waits for; what else happens no guest sees."""
    return ok() if vcpu == YIELD.NOBODY else state(machine, _vcpu, vcpu)


def block(machine: Machine, vcpu: int, deadline_ns: int) -> Answer:
    """Returns at once if upcall_pending is set or the deadline passed (VCPU-3); waits otherwise."""
    if not machine.would_wait(vcpu, deadline_ns):
        return ok()
    machine.vcpus[vcpu].blocked_until_ns = deadline_ns
    machine.set_state(vcpu, STATE.BLOCKED)
    return WAITS


def state(machine: Machine, _vcpu: int, vcpu: int) -> Answer:
    """STOPPED, RUNNING or BLOCKED."""
    return ok(machine.vcpus[vcpu].state) if vcpu < len(machine.vcpus) else refused("NOT_FOUND")


def fault_address(machine: Machine, vcpu: int) -> Answer:
    """The CPU's own word; the host does not follow it (CALL-13)."""
    return ok(machine.vcpus[vcpu].fault_address)
