"""A machine as the standard sees it: what it remembers, and what happens to it besides calls.

Time passes when the judge says so (:meth:`Machine.pass_time`); what a device does is said by the judge too
(`virtio_device.py`).  The checks common to all calls are in `dispatch.py`, the calls in `services/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..conventions import ROAD
from ..schema import Limit
from ..services import event, time
from ..services.vcpu import VCPU_STATE as STATE
from .answers import Answer, Chooser, first
from .guest_memory import PAGE_BYTES, GuestMemory

if TYPE_CHECKING:
    from .callring import CallRing
    from .virtio_device import VirtioDevice

NEVER = time.DEADLINE.NEVER
_PAGE = event.VCPU_PAGE
_WIDTHS = {field.name: field.size // (field.count or 1) for field in _PAGE.fields}


class VcpuPage:
    """The shared page of a vCPU, where it lies in guest memory: both sides read and write it there."""

    def __init__(self, memory: GuestMemory, gpa: int) -> None:
        self._memory, self.gpa = memory, gpa

    def get(self, name: str, index: int = 0) -> int:
        """A word of the page."""
        return self._memory.number(self._gpa(name, index), _WIDTHS[name])

    def set(self, name: str, number: int, index: int = 0) -> None:
        """Writes a word of the page."""
        self._memory.put(self._gpa(name, index), _WIDTHS[name], number)

    def _gpa(self, name: str, index: int) -> int:
        return self.gpa + _PAGE.offset(name) + index * _WIDTHS[name]

    @property
    def pending(self) -> list[int]:
        """The pending words."""
        return [self.get("pending", i) for i in range(4)]


@dataclass
class Vcpu:
    """What the host remembers of a vCPU besides its page."""

    index: int
    state: int = STATE.STOPPED
    vector: int = event.UPCALL.OFF
    deadline_ns: int = NEVER
    blocked_until_ns: int = NEVER
    start: tuple[int, int, int] | None = None
    """Entry, stack and argument of the last vcpu.start."""
    fault_address: int = 0
    calls: int = 0
    upcalls: int = 0


class Machine:
    """A machine with memory `ranges` (GPA → bytes) and `vcpus` vCPUs, whose pages begin at `pages_gpa`.

    `services` maps the numbers of the services offered to the features offered; None: all, without features.
    `denied` holds ids of calls that are switched off.  A budget of None has no end.
    """

    def __init__(
        self,
        ranges: Mapping[int, int | bytearray],
        *,
        pages_gpa: int,
        vcpus: int = 1,
        services: Mapping[int, int] | None = None,
        denied: frozenset[int] = frozenset(),
        boot_info: bytes = b"",
        console_input: bytes = b"",
        console_budget: int | None = None,
        trace_budget: int | None = None,
        doorbell_budget: int | None = None,
        limits: Mapping[int, int] | None = None,
    ) -> None:
        from .dispatch import SERVICES, stated

        self.memory = GuestMemory(ranges)
        self.services = dict.fromkeys(SERVICES, 0) if services is None else dict(services)
        self.denied = denied
        self.boot_info = boot_info
        self.console_input, self.console_output = console_input, b""
        self.console_budget, self.trace_budget, self.doorbell_budget = console_budget, trace_budget, doorbell_budget
        self.limits = stated(limits or {})
        self.accepted: dict[int, int] = {}
        """Features accepted, of the services that accepted (BASE-3)."""
        self.rings: dict[int, CallRing] = {}
        """Call rings by their vCPU, in use or at fault."""
        self.devices: list[VirtioDevice | None] = []
        self.balloon_target_bytes = 0
        self.now_ns = 0
        self.watchdog_ns = NEVER
        self.continuity_vcpu: int | None = None
        self.continuity_counter = self.continuity_acknowledged = 0
        self.trace_marks = 0
        self.end: tuple[Any, ...] | None = None
        """How the machine ended: ("shutdown", reason, status), ("reset",), ("crash", report) or ("watchdog",)."""
        self.upcalls: list[int] = []
        """Index of the vCPU of every upcall that was sent."""
        self.choose_entry: Chooser = first
        """Picks the answers of entries of a batch or a ring."""
        self.vcpus = [Vcpu(i) for i in range(vcpus)]
        self.pages = [VcpuPage(self.memory, pages_gpa + i * PAGE_BYTES) for i in range(vcpus)]
        for index, page in enumerate(self.pages):
            page.set("index", index)
            page.set("deadline_ns", NEVER)
        self.set_state(0, STATE.RUNNING)

    # ---- calls ----

    def call(self, number: int, *args: int, vcpu: int = 0, road: int = ROAD.TRAP, choose: Chooser = first) -> Answer:
        """Makes a call by its id; `choose` picks from what is allowed what the host did."""
        from .dispatch import dispatch

        return dispatch(self, vcpu, number, (*args, *[0] * 6)[:6], road, choose)

    def call_by_name(self, name: str, *args: int, **how: Any) -> Answer:
        """The same by name, such as ``event.send``."""
        from .dispatch import call_id

        return self.call(call_id(name), *args, **how)

    def limit(self, limit: Limit) -> int:
        """This host's own value of a limit."""
        return self.limits[limit.id]

    # ---- events and time ----

    def page(self, index: int) -> VcpuPage:
        """The shared page of a vCPU."""
        return self.pages[index]

    def raise_channel(self, index: int, channel: int) -> None:
        """EVT-1: pending bit, then upcall_pending, then at most one upcall."""
        page, vcpu = self.pages[index], self.vcpus[index]
        word, bit = channel // 64, 1 << channel % 64
        page.set("pending", page.get("pending", word) | bit, word)
        if page.get("mask", word) & bit:  # EVT-5: it stays pending
            return
        before = page.get("upcall_pending")
        page.set("upcall_pending", 1)
        if not before and not page.get("upcall_mask") and vcpu.vector != event.UPCALL.OFF:
            vcpu.upcalls += 1
            page.set("upcalls", vcpu.upcalls)
            self.upcalls.append(index)
        self._wake(vcpu)

    def ring(self, index: int) -> None:
        """EVT-10: a doorbell sends the upcall, and nothing else happens."""
        heard = self.accepted.get(event.SERVICE.number, 0) & event.FEATURE.DOORBELL and index < len(self.vcpus)
        if heard and self.vcpus[index].vector != event.UPCALL.OFF:
            self.upcalls.append(index)

    def _wake(self, vcpu: Vcpu) -> None:
        if vcpu.state == STATE.BLOCKED and not self.would_wait(vcpu.index, vcpu.blocked_until_ns):  # EVT-2
            self.set_state(vcpu.index, STATE.RUNNING)
            self.count_call(vcpu.index)  # its vcpu.block is over

    def count_call(self, index: int) -> None:
        """A call of this vCPU has been answered."""
        self.vcpus[index].calls += 1
        self.pages[index].set("calls", self.vcpus[index].calls)

    def would_wait(self, index: int, deadline_ns: int) -> bool:
        """Whether vcpu.block would not return at once (VCPU-3)."""
        due = deadline_ns != NEVER and self.now_ns >= deadline_ns
        return not self.pages[index].get("upcall_pending") and not due

    def pass_time(self, now_ns: int) -> None:
        """It is `now_ns` (monotonic): what is due happens, in the order of vCPUs."""
        assert now_ns >= self.now_ns, "TIME-1"
        self.now_ns = now_ns
        for vcpu in self.vcpus:
            if vcpu.deadline_ns <= now_ns:  # TIME-2: once, then it is disarmed
                self.arm_deadline(vcpu.index, NEVER)
                self.raise_channel(vcpu.index, event.CHANNEL.DEADLINE)
            self._wake(vcpu)
        if self.watchdog_ns <= now_ns:
            self.finish("watchdog")

    def arm_deadline(self, index: int, deadline_ns: int) -> None:
        """Replaces the deadline of a vCPU (TIME-3)."""
        self.vcpus[index].deadline_ns = deadline_ns
        self.pages[index].set("deadline_ns", deadline_ns)

    # ---- life ----

    def remove_ring(self, index: int) -> None:
        """Takes the call ring of a vCPU out of use, if it has one."""
        if ring := self.rings.pop(index, None):
            ring.end()

    def set_state(self, index: int, state: int) -> None:
        """The state of a vCPU, for vcpu.state and in its page."""
        self.vcpus[index].state = state
        self.pages[index].set("state", state)

    def finish(self, *how: Any) -> None:
        """The machine ends; of several ends the first counts (SYS-5)."""
        if self.end is None:
            self.end = how

    # ---- what the standard leaves open ----

    def open_words(self) -> Iterator[tuple[int, int]]:
        """(GPA, bytes) of what the host writes of its own accord: steal time, exits, whether it sleeps."""
        for ring in self.rings.values():
            yield from ring.open_words()
        for page in self.pages:
            for name in ("steal_ns", "exits"):
                yield page.gpa + _PAGE.offset(name), _WIDTHS[name]
