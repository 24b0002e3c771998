"""How a machine's life ended, and what it cost."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from .services.system import CrashReport


class VcpuStatistics(NamedTuple):
    """Counts of one vCPU."""

    calls: int
    exits: int
    upcalls: int
    ring_calls: int = 0
    """Those of ``calls`` that came over its call ring."""
    ring_fault: str | None = None
    """Id of the rule that stopped its call ring, if one did."""
    state: str = ""
    """STOPPED, RUNNING or BLOCKED."""
    exits_for: dict[str, int] = {}
    """Those of ``exits`` that were for a trap, a doorbell, another port, MMIO, or something else."""


class QueueStatistics(NamedTuple):
    """A queue at this moment."""

    size: int
    """Descriptors; 0: not in use."""
    in_flight: int
    """Chains that the back end has taken and not yet given back."""


class DeviceStatistics(NamedTuple):
    """Counts of one device; ``more`` is the back end's own."""

    name: str
    type: int
    interrupts: int
    doorbells: int
    fault: str | None
    """Id of the rule that the driver broke, if it did."""
    more: dict[str, int]
    queues: tuple[QueueStatistics, ...] = ()


class MemoryStatistics(NamedTuple):
    """Guest memory, in bytes."""

    total_bytes: int = 0
    resident_bytes: int = 0
    """What the host has backed: touched by either side, and not given back."""
    balloon_target_bytes: int = 0
    """What the host wants back."""
    balloon_bytes: int = 0
    """What the guest says that it has given."""
    reported_bytes: int = 0
    """Free pages reported, all reports together."""


class ContinuityStatistics(NamedTuple):
    """What the guest was told of its machine."""

    events: int = 0
    acknowledged: int = 0
    last_ns: int = 0
    """From the last event that was acknowledged to the acknowledgement."""
    longest_ns: int = 0


class Statistics(NamedTuple):
    """What a machine did.  Times in ns."""

    vcpus: tuple[VcpuStatistics, ...] = ()
    devices: tuple[DeviceStatistics, ...] = ()
    console_bytes: int = 0
    trace_marks: int = 0
    run_ns: int = 0
    memory: MemoryStatistics = MemoryStatistics()
    continuity: ContinuityStatistics = ContinuityStatistics()


class Outcome(NamedTuple):
    """The end of a machine.  A shutdown's `status` is the guest's own, 0 for success; where a debugger
    ended it, it is stopped for the `reason` DEBUGGER.

    Its `statistics` are those of the moment in which it was told: by Machine.run once the guest is at rest, by
    Machine.wait while its threads may still be ending.
    """

    kind: Literal["shutdown", "reset", "crash", "stopped"]
    reason: str = ""
    status: int = 0
    report: CrashReport | None = None
    statistics: Statistics = Statistics()


def plain(value: Any) -> Any:
    """`value` as JSON has it: named tuples as objects, all the way down."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(field) for name, field in value._asdict().items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value
