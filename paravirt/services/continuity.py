"""Service continuity: which copy of itself a machine is, and what its guest is told of pauses, restores and copies.

The page, the channel and the acknowledgement are in C (``native/continuity.c``); that a machine is stopped and goes on
is ``pausing.py``'s.  Who restores or copies a machine calls :meth:`Continuity.announce` before its first vCPU runs.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import Constants
from ..outcome import ContinuityStatistics

if TYPE_CHECKING:
    from ..machine import Machine

CONTINUITY_EVENT = Constants("CONTINUITY_EVENT")
GENERATION_BYTES, SEED_BYTES = 16, 32
OTHERS = frozenset((CONTINUITY_EVENT.RESTORED, CONTINUITY_EVENT.CLONED))
"""Events after which the machine is another one than before (CONT-1)."""
MOVED = OTHERS | {CONTINUITY_EVENT.MIGRATED}
"""Events after which its clock may have jumped (TIME-7)."""


class Continuity:
    """That of `machine`, through all of its lives: a reset makes no other machine of it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.generation = os.urandom(GENERATION_BYTES)
        """The generation id, in the page and for ACPI."""
        self._lock = threading.Lock()  # of an announcement

    def begin(self) -> None:
        """A life begins, with the page at `Layout.continuity_page_gpa`, if there is one; no vCPU runs."""
        native, gpa = self._machine.native, self._machine.layout.continuity_page_gpa
        if gpa and lib.pv_machine_continuity(native, gpa):
            for place in (native.continuity.page, native.state.continuity):
                ffi.memmove(place.generation, self.generation, GENERATION_BYTES)

    def announce(self, event: int, clock_jump_ns: int = 0) -> int:
        """Tells the guest of `event` (CONTINUITY_EVENT); its counter, or 0 if the machine has no page.

        RESTORED and CLONED make a new generation id first, which also kernels hear of that know ACPI alone.  What
        happened while no vCPU ran is announced before one does (CONT-3).  Any thread.
        """
        with self._lock:
            native = self._machine.native
            if event in OTHERS:
                self.generation = os.urandom(GENERATION_BYTES)
            if event in MOVED:
                lib.pv_time_jumped(native)
            said = {"event": event, "generation": self.generation, "seed": os.urandom(SEED_BYTES)}
            announcement = ffi.new("struct pv_announcement *", said | {"clock_jump_ns": clock_jump_ns})
            counter = int(lib.pv_continuity_announce(native, announcement))
            if event in OTHERS:
                self._tell_firmware()
            self._trace(event, counter)
        return counter

    def _tell_firmware(self) -> None:
        machine = self._machine
        if machine.layout.generation_gpa:
            machine.memory.write(machine.layout.generation_gpa, self.generation)
            if machine.devices.platform:
                machine.devices.platform.generation_changed()

    @property
    def heard(self) -> bool:
        """Whether the guest has subscribed."""
        return bool(lib.pv_continuity_heard(self._machine.native))

    @staticmethod
    def wait(native: Any, counter: int, timeout_s: float) -> bool:
        """Whether the guest acknowledges that event of a ``struct pv_machine *`` within `timeout_s`, or has."""
        return bool(lib.pv_continuity_wait(native, counter, int(timeout_s * 1e9)))

    def statistics(self) -> ContinuityStatistics:
        """Counts of this life so far."""
        native, state = self._machine.native.continuity, self._machine.native.state.continuity
        return ContinuityStatistics(state.counter, native.acknowledgements, native.last_ns, native.longest_ns)

    def _trace(self, event: int, counter: int) -> None:
        if tracer := self._machine.tracer:
            name = CONTINUITY_EVENT.name_of(event).encode()
            now_ns = time.monotonic_ns()
            what = {"kind": lib.PV_TRACE_MARK, "id": len(name), "value": counter, "text": name}
            mark = ffi.new("struct pv_trace_event *", what | {"begin_ns": now_ns, "end_ns": now_ns})
            lib.pv_trace_put(tracer.track("continuity"), mark)
