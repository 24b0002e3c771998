"""The guest's side of a call ring over a FakeMachine, in plain Python: whatever a guest may write can be written."""

from __future__ import annotations

from collections.abc import Sequence

from hypercall_abi import SERVICES, STATUS
from hypercall_abi.callring import RING, RING_CONTROL, RING_SETUP
from hypercall_abi.conventions import COMPLETION, SUBMISSION
from hypercall_abi.services.base import FEATURE
from paravirt._native import ffi, lib
from tests.support.fake_machine import RAM_GPA, FakeMachine

U32 = 1 << 32
OFFSET = {f.name: f.offset for f in RING_CONTROL.fields}
Entry = tuple[int, Sequence[int], int]  # call, arguments, flags


class CallRing:
    """The ring of `vcpu`; at `gpa`: the set-up record, the control record, submissions, completions."""

    def __init__(
        self,
        machine: FakeMachine,
        vcpu: int = 0,
        *,
        gpa: int = RAM_GPA + 0x40000,
        entries: int = 8,
        channel: int = RING.NO_CHANNEL,
    ) -> None:
        self.machine, self.vcpu, self.entries, self.gpa = machine, vcpu, entries, gpa
        self.control_gpa, self.submissions_gpa = gpa + 0x40, gpa + 0x1000
        self.completions_gpa = self.submissions_gpa + entries * SUBMISSION.size
        self.record: dict[str, int] = {
            "submissions_gpa": self.submissions_gpa,
            "completions_gpa": self.completions_gpa,
            "control_gpa": self.control_gpa,
            "entries": entries,
            "channel": channel,
            "flags": 0,
        }
        self.tail = self.seen = 0

    def accept(self) -> None:
        """Offers and accepts the feature."""
        self.machine.native.offered[SERVICES["base"].number] = FEATURE.RING
        assert self.machine.call("base.accept", SERVICES["base"].number, FEATURE.RING) == (STATUS.OK, FEATURE.RING)

    def set_up(self, **changed: int) -> int:
        """The status of base.ring with the record as it is, but for what is `changed`."""
        self.machine.write(self.gpa, RING_SETUP.build(self.record | changed))
        return self.machine.call("base.ring", self.gpa, 1, vcpu=self.vcpu)[0]

    def start(self) -> CallRing:
        """Accepted, cleared, set up."""
        self.accept()
        self.machine.write(self.control_gpa, bytes(RING_CONTROL.size))
        assert self.set_up() == STATUS.OK
        return self

    def remove(self) -> int:
        return self.machine.call("base.ring", 0, 0, vcpu=self.vcpu)[0]

    def word(self, name: str) -> int:
        """A word of the control record."""
        return int.from_bytes(self.machine.read(self.control_gpa + OFFSET[name], 4), "little")

    def set(self, name: str, value: int) -> None:
        self.machine.write(self.control_gpa + OFFSET[name], (value % U32).to_bytes(4, "little"))

    def submit(self, *entries: Entry) -> None:
        """Writes submissions with their indexes as cookies, then submission_tail."""
        for call, args, flags in entries:
            record = {"call": call, "flags": flags, "args": [*args, *[0] * 6][:6], "cookie": self.tail}
            at = self.tail % self.entries
            self.machine.write(self.submissions_gpa + at * SUBMISSION.size, SUBMISSION.build(record))
            self.tail = (self.tail + 1) % U32
        self.set("submission_tail", self.tail)

    def submit_call(self, name: str, *args: int) -> None:
        service, _, function = name.partition(".")
        self.submit((SERVICES[service].id(function), args, 0))

    def poll(self) -> int:
        """Lets the host visit all rings once; calls made."""
        return int(lib.pv_callring_poll(self.machine.native))

    def take(self) -> list[tuple[int, int, int]]:
        """Completions since the last look: cookie, status, value."""
        taken = []
        while self.seen != self.word("completion_tail"):
            at = self.completions_gpa + self.seen % self.entries * COMPLETION.size
            done = COMPLETION.parse(self.machine.read(at, COMPLETION.size))
            taken.append((done.cookie, done.status, done.value))
            self.seen = (self.seen + 1) % U32
        return taken

    @property
    def fault(self) -> str | None:
        """The rule that the guest broke, as the host has it."""
        rule = self.machine.vcpus[self.vcpu].callring.fault
        return None if rule == ffi.NULL else ffi.string(rule).decode()
