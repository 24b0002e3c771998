"""Why vCPUs stopped, and what an accelerator has to do for a debugger: the words that its parts share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

SIGINT, SIGILL, SIGTRAP, SIGABRT, SIGSEGV = 2, 4, 5, 6, 11

Kind = Literal["asked", "step", "code", "address", "watch", "trap", "fault", "crash"]


class Stop(NamedTuple):
    """A vCPU stopped, and with it all others."""

    vcpu: int
    kind: Kind
    """code: a breakpoint in memory; address: one in a debug register; trap: the guest's own; fault: it cannot go on."""
    signal: int = SIGTRAP
    address: int = 0
    """Of the memory that is watched."""
    access: Literal["watch", "rwatch", "awatch"] = "watch"


class Watch(NamedTuple):
    """Memory that vCPUs stop at, once they have touched it; ``code`` of one byte: an address of instructions."""

    address: int
    size_bytes: int
    kind: Literal["code", "write", "read", "access"]


class Plan(NamedTuple):
    """What vCPUs do next: those in `running` go on, those in `stepping` for one instruction, others stay."""

    running: frozenset[int]
    stepping: frozenset[int] = frozenset()
    breakpoints: frozenset[int] = frozenset()
    """Virtual addresses of instructions at which any of them stops."""
    watches: tuple[Watch, ...] = ()
    watched: bool = False
    """A debugger is told of stops: of the guest's own breakpoints, too."""


class Cpus(Protocol):
    """The vCPUs of one life of a machine.

    Who makes it gives `tell`, which is called with a Stop, in any thread; false: nobody wants it.
    """

    watches_most: int
    """How many Watches there can be."""
    written: bool
    """Set by who changes memory: what was made of code there is out of date."""

    def hold(self) -> None:
        """Has no vCPU run guest code; returns when that is so."""

    def go(self, plan: Plan) -> None:
        """Lets them go on."""

    def registers(self, index: int) -> Any:
        """A ``struct pv_registers *`` of a vCPU that is held.  Raises OSError."""

    def set_registers(self, index: int, registers: Any) -> None:
        """The same, the other way."""

    def ways(self) -> str:
        """How vCPUs are stopped here, for people."""

    def held(self, index: int, why: int, detail: int) -> bool:
        """From the C core, in that vCPU's thread, which is out of the guest until this returns; false: it ends."""

    def crashed(self, index: int) -> None:
        """The guest has ended itself, in a call of that vCPU's: it is held there for a last look."""

    def can_watch(self, index: int, watch: Watch) -> bool:
        """Whether that vCPU can be stopped so."""

    def ended(self) -> None:
        """The machine ends: nobody is held any more."""


Tell = Callable[[Stop], bool]
