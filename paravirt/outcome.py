"""How a machine's life ended, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .services.system import CrashReport


@dataclass(frozen=True)
class VcpuStatistics:
    """Counts of one vCPU."""

    calls: int
    exits: int
    upcalls: int


@dataclass(frozen=True)
class DeviceStatistics:
    """Counts of one device; ``more`` is the back end's own."""

    name: str
    type: int
    interrupts: int
    doorbells: int
    fault: str | None
    """Id of the rule that the driver broke, if it did."""
    more: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Statistics:
    """What a machine did.  Times in ns."""

    vcpus: tuple[VcpuStatistics, ...] = ()
    devices: tuple[DeviceStatistics, ...] = ()
    console_bytes: int = 0
    trace_marks: int = 0
    run_ns: int = 0


@dataclass(frozen=True)
class Outcome:
    """The end of a machine.  A shutdown's `status` is the guest's own, 0 for success."""

    kind: Literal["shutdown", "reset", "crash", "stopped"]
    reason: str = ""
    status: int = 0
    report: CrashReport | None = None
    statistics: Statistics = field(default_factory=Statistics)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        from dataclasses import asdict

        return asdict(self)
