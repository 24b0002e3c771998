"""A call ring as its host sees it (RING-1 to RING-15): set-up, visits, and its end.

When the host visits a ring, and how far it gets, is its own affair: the judge says up to which completion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..callring import ENTRIES, RING, RING_CONTROL, RING_SETUP, RING_STATE
from ..conventions import COMPLETION, ROAD, STATUS, SUBMISSION
from ..services.event import CHANNELS

if TYPE_CHECKING:
    from .machine import Machine

INDEX_MASK = (1 << 32) - 1
_CONTROL_WORDS = ("submission_tail", "completion_tail", "doorbell_wanted", "state", "completion_event")
_AREAS = (("submissions_gpa", 64, SUBMISSION.size), ("completions_gpa", 32, COMPLETION.size))


def check(machine: Machine, setup: Any, padding: bytes) -> int:
    """What base.ring answers to this set-up, whatever the vCPU has: RING-2, in the order of CALL-6."""
    if setup.channel >= machine.limit(CHANNELS) and setup.channel != RING.NO_CHANNEL:
        return STATUS.NOT_FOUND
    entries = setup.entries
    if not entries or entries & (entries - 1) or setup.flags or any(padding):  # CALL-14
        return STATUS.INVALID
    if entries > machine.limit(ENTRIES):
        return STATUS.LIMIT
    areas = [(setup[name], align, entries * size) for name, align, size in _AREAS]
    areas.append((setup.control_gpa, 64, RING_CONTROL.size))
    if any(gpa % align for gpa, align, _ in areas):
        return STATUS.UNALIGNED
    return STATUS.OK if all(machine.memory.contains(gpa, size) for gpa, _, size in areas) else STATUS.BAD_ADDRESS


@dataclass
class CallRing:
    """The ring of one vCPU, in use or at fault."""

    machine: Machine
    vcpu: int
    setup: Any
    state: int = RING_STATE.ON
    completed: int = 0
    signalled: int = 0
    """Completions when completion_event was last read."""

    @classmethod
    def begin(cls, machine: Machine, vcpu: int, setup: Any) -> CallRing:
        """Takes a ring into use (RING-3)."""
        ring = cls(machine, vcpu, setup)
        for name, number in (("completion_tail", 0), ("doorbell_wanted", 0), ("state", RING_STATE.ON)):
            ring.set(name, number)
        return ring

    def get(self, name: str) -> int:
        """A word of its control record."""
        return self.machine.memory.number(self._gpa(name), 4)

    def set(self, name: str, number: int) -> None:
        """Writes a word of its control record."""
        self.machine.memory.put(self._gpa(name), 4, number)

    def _gpa(self, name: str) -> int:
        assert name in _CONTROL_WORDS
        return int(self.setup.control_gpa) + RING_CONTROL.offset(name)

    def open_words(self) -> list[tuple[int, int]]:
        """What the host may write at any time while the ring is in use: whether it sleeps."""
        return [(self._gpa("doorbell_wanted"), 4)] if self.state == RING_STATE.ON else []

    # ---- visits ----

    def waiting(self) -> int:
        """Submissions that are not completed."""
        return self.get("submission_tail") - self.completed & INDEX_MASK

    def visit(self, until: int) -> None:
        """The host has visited: its completion_tail is `until` now, or it found the ring at fault."""
        if self.state != RING_STATE.ON:
            return
        if self.waiting() > self.setup.entries:
            self._fault()
            return
        if until - self.completed & INDEX_MASK > self.waiting():
            raise ValueError("RING-4: more is completed than was submitted")
        while self.completed != until:
            self._serve_next()
        self.set("completion_tail", self.completed)
        passed = self.completed - self.signalled & INDEX_MASK
        if self.get("completion_event") - self.signalled & INDEX_MASK < passed:  # RING-10
            self._raise()
        self.signalled = self.completed

    def _serve_next(self) -> None:  # RING-5
        from .services.base import entry

        at = self.completed % self.setup.entries
        from_gpa = self.setup.submissions_gpa + at * SUBMISSION.size
        entry(self.machine, self.vcpu, from_gpa, self.setup.completions_gpa + at * COMPLETION.size, ROAD.RING)
        self.completed = self.completed + 1 & INDEX_MASK

    def _fault(self) -> None:  # RING-8
        self.state = RING_STATE.FAULT
        self.set("state", RING_STATE.FAULT)
        self._raise()

    def _raise(self) -> None:
        if self.setup.channel != RING.NO_CHANNEL:  # RING-11
            self.machine.raise_channel(self.vcpu, self.setup.channel)

    def end(self) -> None:
        """Out of use; a ring at fault is not touched any more (RING-12)."""
        if self.state == RING_STATE.ON:
            self.set("state", RING_STATE.OFF)
        self.state = RING_STATE.OFF


def parse_setup(data: bytes) -> tuple[Any, bytes]:
    """A ring_setup record and what is in its padding."""
    at = RING_SETUP.offset("reserved0")
    return RING_SETUP.parse(data[:at] + bytes(4) + data[at + 4 :]), data[at : at + 4]
