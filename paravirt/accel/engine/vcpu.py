"""One vCPU in the engine: its Unicorn, the hooks that tell why it stops, and what then happens.

Addresses are translated here (``paging.py``), since Unicorn's own walk does not say how an access
faulted.  A page is either writable or executable at a time, so that it is looked through
(``code.py``) again after a change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import code, gates, paging, records, start
from .access import Access
from .apic import APIC_BYTES, APIC_GPA, Apic
from .cpuid import Leaf
from .emulator import (
    ERROR_INVALID_INSTRUCTION,
    MEM_FETCH,
    MEM_READ,
    MEM_WRITE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    EmulatorError,
    TlbEntry,
)
from .exceptions import exceptions
from .memory import Memory

FAULTING_GPA = 0xFFFF_D000
"""Where loads and stores go that fault: as accesses to a device they come with all bits of their address."""
FLOATING_GPA = 0xFFFF_E000
"""Where accesses go that nothing answers: beyond RAM and the hole below 4 GiB."""
REFUSING_GPA = FAULTING_GPA - records.REGIONS_MOST * paging.PAGE
"""Where stores go that are refused: a page for each region."""
PAUSES = 20
"""How many PAUSEs of a slice are done before the next one gives way: a vCPU that waits for another makes many."""
_ACCESS = {MEM_READ: paging.READ, MEM_WRITE: paging.WRITE, MEM_FETCH: paging.FETCH}
_EXIT_REGISTERS = ("RIP", "RSP", "CR2", *records.EXIT_REGISTERS)

Exit = tuple[int, int, int, int]  # kind, size, port or GPA, value


class Vcpu(Access):
    """vCPU `index`.  ``exchange`` sends an exit and brings the value that is read, while this vCPU waits."""

    def __init__(self, index: int, memory: Memory, setup: dict[str, Any], cpuid: dict[int, Leaf]) -> None:
        self.index = index
        self.apic = Apic(index, memory.put_bit)
        self.setup = setup
        self.exchange: Callable[[Vcpu, Exit], int]
        self.steal_ns = 0
        self.why = ""
        """What an exit EXIT_INTERNAL was about."""
        self.halted = False
        self.debugged = False
        """A debugger is there: breakpoints of the guest's own stop, too."""
        self.stepping = False
        self.stopped = ""
        """Why it did, for the debugger."""
        self._breakpoints: frozenset[int] = frozenset()
        self.in_scratch = False
        """It is being led into its mode (start.py), where every address is that of the scratch page's neighbourhood."""
        self.alone = True
        """Nothing waits for the end of its slice: a PAUSE gives way to nobody."""
        self._cpuid = cpuid
        self._ports = (setup["trap_port"], setup["doorbell_port"])
        self._watched: set[int] = set()
        self._decoded: dict[int, tuple[int, int, bytes]] = {}
        self._pauses = 0
        self._executable: set[int] = set()
        self._reason: tuple[int, int] | None = None
        self._interrupt: int | None = None
        self._fault: paging.PageFault | None = None
        self._faulting: paging.PageFault | None = None
        # Counts only if the run fails: the library asks for where code once was, too.
        self._refused: paging.PageFault | None = None
        self._unbacked: int | None = None
        super().__init__(memory, start.make_emulator(memory, self))
        self._hook()
        self.fresh = self.emulator.save()

    # ---- hooks ----

    def _hook(self) -> None:
        emulator = self.emulator
        emulator.on_translation(self._fill)
        emulator.on_interrupt(self._interrupted)
        emulator.on_code(self._reached)
        emulator.watch(start.LANDING_GPA)
        emulator.on_instruction("CPUID", self._answer_cpuid)
        emulator.on_instruction("IN", lambda *_: 0xFFFF_FFFF)
        emulator.on_instruction("OUT", lambda *_: None)

    def _fill(self, address: int, kind: int, entry: TlbEntry) -> bool:
        if self.in_scratch:
            entry.page, entry.rights = address & -paging.PAGE, PROT_READ | PROT_WRITE | PROT_EXEC
            return True
        wanted, user = _ACCESS[kind], self.cpl == 3
        try:
            page, writable, _ = self.walk(address, wanted, user and not self._is_table(address, wanted))
        except paging.PageFault as fault:
            return self._redirect(fault, wanted, entry)
        if self.memory.offset(page, paging.PAGE) is None:
            if (number := self.memory.region(page)) is not None and wanted != paging.FETCH:
                self._fill_region(page, number, wanted, writable, entry)
                return True
            if wanted == paging.FETCH:  # the library would give up on itself
                self._unbacked = page
                return False
            in_hole = start.hole(self.memory)[0] <= page < REFUSING_GPA
            entry.page, entry.rights = page if in_hole else FLOATING_GPA, PROT_READ | PROT_WRITE
            return True
        entry.page = page
        entry.rights = self._rights(address & -paging.PAGE, page, wanted, writable)
        return True

    def _fill_region(self, page: int, number: int, wanted: int, writable: bool, entry: TlbEntry) -> None:
        """A store to one that is read-only, which the guest's tables let pass, is the host's to hear of (PMEM-3)."""
        read_only = self.memory.regions[number].read_only
        if wanted == paging.WRITE and read_only:
            entry.page, entry.rights = REFUSING_GPA + number * paging.PAGE, PROT_WRITE
        else:
            entry.page, entry.rights = page, PROT_READ | (PROT_WRITE if writable and not read_only else 0)

    def _redirect(self, fault: paging.PageFault, wanted: int, entry: TlbEntry) -> bool:
        """Here an address is that of a page; an access says the rest of it, a fetch is from RIP on."""
        if wanted == paging.FETCH or fault.code is None:
            rip = self.get("RIP")
            self._refused = paging.PageFault(max(fault.address, rip), fault.code)
            return False
        self._faulting = fault
        entry.page, entry.rights = FAULTING_GPA, PROT_READ | PROT_WRITE
        return True

    def _fault_at(self, offset: int) -> None:
        """The access that was redirected has come: it is not done, and the instruction starts anew."""
        assert self._faulting
        if not self._fault:  # 64 bits come as two accesses
            self._fault = paging.PageFault(self._faulting.address + offset, self._faulting.code)
        self.emulator.stop()

    def _is_table(self, address: int, wanted: int) -> bool:
        """Whether the CPU may be reading a descriptor for itself, which it does at every level."""
        if wanted != paging.READ:
            return False
        return any(base <= address <= base + limit for base, limit in (self.get("GDTR"), self.get("TR")))

    def _rights(self, address: int, page: int, wanted: int, writable: bool) -> int:
        if wanted == paging.FETCH:
            self._look_through(address, page)
            return PROT_READ | PROT_EXEC
        if wanted == paging.WRITE and page in self._executable:
            self._executable.discard(page)
            self._decoded.clear()
        if page in self._executable:
            return PROT_READ
        return PROT_READ | (PROT_WRITE if writable else 0)

    def _look_through(self, address: int, page: int) -> None:
        self._executable.add(page)
        at = self.memory.offset(page, paging.PAGE)
        assert at is not None
        for offset in code.find(self.memory.map[at : at + paging.PAGE]):
            if address + offset not in self._watched:
                self._watched.add(address + offset)
                self.emulator.watch(address + offset)

    def _reached(self, address: int) -> None:
        """A watched address: stops there if what is there is this file's to do."""
        if self.in_scratch:
            self.emulator.stop()
            return
        if address in self._breakpoints:
            self.stopped = "code"
            self.emulator.stop()
            return
        found = self._decoded.get(address)
        if found is None:
            found = self._decoded[address] = self._decode(address)
        kind, length, bytes_ = found
        if kind == code.IO or (kind == code.OUT and self.get("DX") not in self._ports):
            if not gates.forbidden(self, *code.port_access(bytes_, self.get("DX"))):
                return
            kind = code.IO
        elif not self._stops(kind):
            return
        self._reason = kind, length
        self.emulator.stop()

    def _decode(self, address: int) -> tuple[int, int, bytes]:
        try:
            bytes_ = self.read(address, code.LONGEST_BYTES)
        except paging.PageFault:  # the page ends
            bytes_ = self.read(address, -address % paging.PAGE).ljust(code.LONGEST_BYTES, b"\0")
        return *code.decode(bytes_), bytes_

    def _stops(self, kind: int) -> bool:
        if kind == code.PAUSE:
            self._pauses += 1
            return not self.alone and self._pauses > PAUSES
        if kind == code.HALT:
            return self.cpl == 0
        if kind == code.IRET and self.apic.nmi_blocked:
            self.apic.nmi_blocked = False  # as on a CPU: whether it faults or not
            if self._due() is not None:
                self.emulator.stop_soon()
        return kind in (code.OUT, code.SYSCALL)

    def _interrupted(self, vector: int) -> None:
        self._interrupt = vector
        self.emulator.stop()

    def _answer_cpuid(self, *_: object) -> int:
        leaf = self._cpuid.get(self.get("EAX"), (0, 0, 0, 0))
        for name, value in zip(("RAX", "RBX", "RCX", "RDX"), leaf, strict=True):
            self.set(name, value)
        return 1

    def hole_read(self, gpa: int, size: int) -> int:
        """A load from where there is no RAM."""
        if APIC_GPA <= gpa < APIC_GPA + APIC_BYTES:
            return self.apic.read(gpa - APIC_GPA)
        if gpa >= FAULTING_GPA:
            if gpa < FLOATING_GPA:
                self._fault_at(gpa - FAULTING_GPA)
            return (1 << 8 * size) - 1
        return self.exchange(self, (records.EXIT_READ, size, gpa, 0))

    def hole_write(self, gpa: int, size: int, value: int) -> None:
        """A store there."""
        if APIC_GPA <= gpa < APIC_GPA + APIC_BYTES:
            self.apic.write(gpa - APIC_GPA, value)
            if self._due() is not None:  # it waited for the end of an interrupt
                self.emulator.stop_soon()
        elif gpa >= FAULTING_GPA:
            if gpa < FLOATING_GPA:
                self._fault_at(gpa - FAULTING_GPA)
        elif gpa >= REFUSING_GPA:
            region = self.memory.regions[(gpa - REFUSING_GPA) // paging.PAGE]
            self.exchange(self, (records.EXIT_WRITE, size, region.gpa, value))
        else:
            self.exchange(self, (records.EXIT_WRITE, size, gpa, value))

    # ---- running ----

    @property
    def ready(self) -> bool:
        """Whether there is something to run: after HLT, not before an interrupt."""
        return not self.halted or self._due() is not None

    def _due(self) -> int | None:
        return self.apic.next(bool(self.get("EFLAGS") & gates.FLAG_IF))

    def run(self) -> Exit | None:
        """Runs until it is stopped (None) or until something is the host's."""
        try:
            if self.stepping:
                return self._step()
            self._deliver()
            self.apic.enter()
            try:
                return self._run()
            finally:
                self.apic.leave()
        except gates.TripleFault:
            return records.EXIT_TRIPLE_FAULT, 0, 0, 0
        except gates.Unsupported as why:
            return self._internal(str(why))

    def _step(self) -> Exit | None:
        """One instruction, which no interrupt comes before; a call is one once it is answered (debug.py)."""
        before = self.get("RIP")
        self.set("EFLAGS", self.get("EFLAGS") | gates.FLAG_TF)
        exit_ = self._run()
        self.step_over()
        if not exit_ and not self.stopped and (self.get("RIP") != before or self.halted):
            self.stopped = "step"
        return exit_

    def step_over(self) -> None:
        """The flag that steps is gone again."""
        if self.stepping:
            self.set("EFLAGS", self.get("EFLAGS") & ~gates.FLAG_TF)

    def break_at(self, addresses: frozenset[int], written: bool) -> None:
        """Stops before the instructions at those addresses; if `written`, the debugger has changed memory."""
        if addresses != self._breakpoints or written:
            for address in addresses - self._watched:
                self._watched.add(address)
                self.emulator.watch(address)
            self._breakpoints = addresses
            self._executable.clear()
            self._decoded.clear()
            self.emulator.flush()
            self.set("CR3", self.get("CR3"))  # forgets where pages were: they are looked through again

    def _internal(self, why: str) -> Exit:
        self.why = why
        return records.EXIT_INTERNAL, 0, 0, 0

    def _deliver(self) -> None:
        """Delivers an interrupt that is due."""
        vector = self._due()
        if vector is not None:
            self.apic.take(vector)
            self.halted = False
            gates.deliver(self, vector)

    def _run(self) -> Exit | None:
        self._reason = self._interrupt = self._fault = self._refused = self._unbacked = None
        self._pauses = 0
        failed: EmulatorError | None = None
        try:
            self.emulator.run(self.get("RIP"))
        except EmulatorError as error:
            failed = error
        if self._reason:
            return self._instruction(*self._reason)
        if self._interrupt is not None:
            if self._interrupt == gates.DEBUG and self.stepping:
                self.stopped = "step"
            elif self._interrupt == gates.BREAKPOINT and self.debugged:
                self.stopped = "trap"
            else:
                self._exception(self._interrupt)
        elif self._fault:
            self._page_fault(self._fault)
        elif failed and self._unbacked is not None:
            return self._internal(f"code at {self._unbacked:#x}, which is not RAM")
        elif failed and self._refused:
            self._page_fault(self._refused)
        elif failed and failed.number == ERROR_INVALID_INSTRUCTION:
            gates.deliver(self, gates.INVALID_OPCODE)
        elif failed:
            return self._internal(str(failed))
        return None

    def _page_fault(self, fault: paging.PageFault) -> None:
        if fault.code is None:
            gates.deliver(self, gates.PROTECTION)
            return
        self.set("CR2", fault.address)
        self.set("CR3", self.get("CR3"))  # forgets where the access was redirected to
        gates.deliver(self, gates.PAGE_FAULT, fault.code)

    def _exception(self, vector: int) -> None:
        """An exception, or INT; after INT the engine's RIP is past it."""
        try:
            asked = vector in (gates.BREAKPOINT, gates.OVERFLOW) or (
                self.read(self.get("RIP") - 2, 2) == bytes((0xCD, vector))
            )
        except paging.PageFault:
            asked = False
        error_code = 0 if asked else exceptions().take(self.emulator)
        gates.deliver(self, vector, error_code, software=asked)

    def _instruction(self, kind: int, length: int) -> Exit | None:
        rip = self.get("RIP")
        if kind == code.IO:
            gates.deliver(self, gates.PROTECTION)
            return None
        if kind == code.SYSCALL:  # not offered, and the engine takes it for nothing
            gates.deliver(self, gates.INVALID_OPCODE)
            return None
        self.set("RIP", rip + length)
        if kind == code.HALT:
            self.halted = True
        elif kind == code.OUT:
            port = self.get("DX")
            kind = records.EXIT_TRAP if port == self._ports[0] else records.EXIT_DOORBELL
            return kind, 4, port, self.get("EAX")
        return None

    def pack_exit(self, exit_: Exit) -> bytes:
        """The record of an exit."""
        kind, size, place, value = exit_
        rip, rsp, cr2, *registers = (self.get(name) for name in _EXIT_REGISTERS)
        return records.EXIT.pack(kind, size, place, value, rip, rsp, cr2, self.steal_ns, *registers)

    def resume(self, values: tuple[int, ...], poisoned: bool) -> None:
        """A trap's answer: ENTRY_REGISTERS; all but the first two only if `poisoned`."""
        names = records.ENTRY_REGISTERS if poisoned else records.ENTRY_REGISTERS[:2]
        for name, value in zip(names, values, strict=False):
            self.set(name, value)
