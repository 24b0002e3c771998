"""One vCPU in the engine: its Unicorn, the hooks that tell why it stops, and what then happens.

Addresses are translated here (``paging.py``), since Unicorn's own walk does not say how an access
faulted.  A page is either writable or executable at a time, so that it is looked through
(``code.py``) again after a change.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import unicorn
from unicorn import Uc, UcError, unicorn_const, x86_const

from . import code, gates, paging, records, start
from .apic import APIC_BYTES, APIC_GPA, Apic
from .cpuid import Leaf

FLOATING_GPA = 0xFFFF_E000
"""Where accesses go that nothing answers: beyond RAM and the hole below 4 GiB."""
MSR_EFER = 0xC000_0080
PROT_READ, PROT_WRITE, PROT_EXEC = unicorn.UC_PROT_READ, unicorn.UC_PROT_WRITE, unicorn.UC_PROT_EXEC
_ACCESS = {
    unicorn_const.UC_MEM_READ: paging.READ,
    unicorn_const.UC_MEM_WRITE: paging.WRITE,
    unicorn_const.UC_MEM_FETCH: paging.FETCH,
}
_EXIT_REGISTERS = [getattr(x86_const, f"UC_X86_REG_{name}") for name in ("RIP", "RSP", "CR2", *records.EXIT_REGISTERS)]

Exit = tuple[int, int, int, int]  # kind, size, port or GPA, value


class Memory:
    """Guest memory as this process maps it; `ranges` are (gpa, size in bytes), one after the other in the file."""

    def __init__(self, fd: int, ranges: list[tuple[int, int]]) -> None:
        self.ranges = ranges
        self.map = mmap.mmap(fd, sum(size for _, size in ranges))

    def offset(self, gpa: int, size_bytes: int) -> int | None:
        """Where `gpa` is in the file; None if the range is not wholly RAM."""
        before = 0
        for start_gpa, size in self.ranges:
            if start_gpa <= gpa and gpa + size_bytes <= start_gpa + size:
                return before + gpa - start_gpa
            before += size
        return None

    def word(self, gpa: int) -> int | None:
        """8 bytes as a number, None outside of RAM."""
        at = self.offset(gpa, 8)
        return None if at is None else int.from_bytes(self.map[at : at + 8], "little")


class Vcpu:
    """vCPU `index`.  ``exchange`` sends an exit and brings the value that is read, while this vCPU waits."""

    def __init__(self, index: int, memory: Memory, setup: dict[str, Any], cpuid: dict[int, Leaf]) -> None:
        self.index = index
        self.apic = Apic(index)
        self.setup = setup
        self.exchange: Callable[[Vcpu, Exit], int]
        self.steal_ns = 0
        self.why = ""
        """What an exit EXIT_INTERNAL was about."""
        self.halted = False
        self.in_scratch = False
        """It is being led into its mode (start.py), where every address is that of the scratch page's neighbourhood."""
        self.alone = True
        """Nothing waits for the end of its slice; a PAUSE gives way to nobody."""
        self._memory = memory
        self._cpuid = cpuid
        self._ports = (setup["trap_port"], setup["doorbell_port"])
        self._hooked: set[int] = set()
        self._executable: set[int] = set()
        self._reason: tuple[int, int] | None = None
        self._interrupt: int | None = None
        self._fault: paging.PageFault | None = None
        self._unbacked: int | None = None
        self._step = False
        self.uc = start.make_engine(memory, self)
        self._hook()
        self.fresh = self.uc.context_save()

    # ---- registers and memory ----

    def get(self, name: str) -> Any:
        """A register by Unicorn's name for it."""
        return self.uc.reg_read(getattr(x86_const, f"UC_X86_REG_{name}"))

    def set(self, name: str, value: Any) -> None:
        """The same, written."""
        self.uc.reg_write(getattr(x86_const, f"UC_X86_REG_{name}"), value)

    @property
    def efer(self) -> int:
        """The register EFER."""
        return int(self.uc.msr_read(MSR_EFER))

    @property
    def cpl(self) -> int:
        """The level that runs."""
        return int(self.get("CS")) & 3

    def _walk(self, address: int, access: int, user: bool) -> tuple[int, bool, bool]:
        return paging.walk(self._memory.word, self.get("CR0"), self.get("CR3"), user, address, access)

    def _pieces(self, address: int, size_bytes: int, access: int, user: bool) -> list[tuple[int, int]]:
        pieces = []
        while size_bytes:
            part = min(size_bytes, -address % paging.PAGE or paging.PAGE)
            page, _, _ = self._walk(address, access, user)
            at = self._memory.offset(page, paging.PAGE)
            if at is None:
                raise gates.Unsupported(f"the CPU's own access to {page:#x}, which is not RAM")
            pieces.append((at + address % paging.PAGE, part))
            address, size_bytes = address + part, size_bytes - part
        return pieces

    def read(self, address: int, size_bytes: int, *, system: bool = False) -> bytes:
        """Bytes at a virtual address, as the CPU itself if `system`.  Raises PageFault."""
        pieces = self._pieces(address, size_bytes, paging.READ, self.cpl == 3 and not system)
        return b"".join(self._memory.map[at : at + part] for at, part in pieces)

    def write(self, address: int, data: bytes) -> None:
        """Stores at a virtual address.  Raises PageFault before anything is stored."""
        for at, part in self._pieces(address, len(data), paging.WRITE, self.cpl == 3):
            self._memory.map[at : at + part], data = data[:part], data[part:]

    # ---- hooks ----

    def _hook(self) -> None:
        add, insn = self.uc.hook_add, unicorn.UC_HOOK_INSN
        add(unicorn.UC_HOOK_TLB_FILL, self._fill)
        add(unicorn.UC_HOOK_INTR, self._interrupted)
        add(insn, self._answer_cpuid, None, 1, 0, x86_const.UC_X86_INS_CPUID)
        add(insn, lambda *_: 0xFFFF_FFFF, None, 1, 0, x86_const.UC_X86_INS_IN)
        add(insn, lambda *_: None, None, 1, 0, x86_const.UC_X86_INS_OUT)

    def _fill(self, uc: Uc, address: int, access: int, entry: Any, _data: object) -> bool:
        if self.in_scratch:
            entry.paddr, entry.perms = address & -paging.PAGE, unicorn.UC_PROT_ALL
            return True
        wanted, user = _ACCESS[access], self.cpl == 3
        try:
            page, writable, executable = self._walk(address, wanted, user and not self._is_table(address, wanted))
        except paging.PageFault as fault:
            self._fault = fault
            return False
        if self._memory.offset(page, paging.PAGE) is None:
            if wanted == paging.FETCH:  # the engine would give up on itself
                self._unbacked = page
                return False
            in_hole = start.hole(self._memory)[0] <= page < FLOATING_GPA
            entry.paddr, entry.perms = page if in_hole else FLOATING_GPA, PROT_READ | PROT_WRITE
            return True
        entry.paddr = page
        entry.perms = self._permissions(address & -paging.PAGE, page, wanted, writable, executable)
        return True

    def _is_table(self, address: int, wanted: int) -> bool:
        """Whether the CPU may be reading a descriptor for itself, which it does at every level."""
        if wanted != paging.READ:
            return False
        return any(base <= address <= base + limit for _, base, limit, _ in (self.get("GDTR"), self.get("TR")))

    def _permissions(self, address: int, page: int, wanted: int, writable: bool, executable: bool) -> int:
        if wanted == paging.FETCH:
            self._look_through(address, page)
            return int(PROT_READ | PROT_EXEC)
        if wanted == paging.WRITE:
            self._executable.discard(page)
        if page in self._executable:
            return int(PROT_READ)
        return int(PROT_READ | (PROT_WRITE if writable else 0))

    def _look_through(self, address: int, page: int) -> None:
        self._executable.add(page)
        at = self._memory.offset(page, paging.PAGE)
        assert at is not None
        for offset in code.find(self._memory.map[at : at + paging.PAGE]):
            place = address + offset
            if place not in self._hooked:
                self._hooked.add(place)
                self.uc.hook_add(unicorn.UC_HOOK_CODE, self._reached, None, place, place)

    def _reached(self, uc: Uc, address: int, _size: int, _data: object) -> None:
        if self._step:
            return
        try:
            kind, length = code.decode(self.read(address, code.LONGEST_BYTES))
        except paging.PageFault:
            return  # shorter than that, and the page ends
        if kind == 0 or (kind == code.HALT and self.cpl) or (kind == code.PAUSE and self.alone):
            return
        if kind == code.IRET and not self.apic.nmi_blocked:
            return
        if kind == code.OUT and self.get("DX") not in self._ports:
            return
        self._reason = kind, length
        uc.emu_stop()

    def _interrupted(self, uc: Uc, vector: int, _data: object) -> None:
        self._interrupt = vector
        uc.emu_stop()

    def _answer_cpuid(self, _uc: Uc, _data: object) -> bool:
        leaf = self._cpuid.get(self.get("EAX"), (0, 0, 0, 0))
        for name, value in zip(("RAX", "RBX", "RCX", "RDX"), leaf, strict=True):
            self.set(name, value)
        return True

    def hole_read(self, _uc: Uc, offset: int, size: int, base: int) -> int:
        """A load from where there is no RAM."""
        gpa = base + offset
        if APIC_GPA <= gpa < APIC_GPA + APIC_BYTES:
            return self.apic.read(gpa - APIC_GPA)
        if gpa >= FLOATING_GPA:
            return (1 << 8 * size) - 1
        return self.exchange(self, (records.EXIT_READ, size, gpa, 0))

    def hole_write(self, _uc: Uc, offset: int, size: int, value: int, base: int) -> None:
        """A store there."""
        gpa = base + offset
        if APIC_GPA <= gpa < APIC_GPA + APIC_BYTES:
            self.apic.write(gpa - APIC_GPA, value)
            # What waited for the end of an interrupt. To stop in here would have the store done again.
            self.alone &= self._due() is None
        elif gpa < FLOATING_GPA:
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
            self._deliver()
            return self._run()
        except gates.TripleFault:
            return records.EXIT_TRIPLE_FAULT, 0, 0, 0
        except gates.Unsupported as why:
            return self._internal(str(why))

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
        self._reason = self._interrupt = self._fault = self._unbacked = None
        failed: UcError | None = None
        try:
            self.uc.emu_start(self.get("RIP"), 0)
        except UcError as error:
            failed = error
        if self._reason:
            return self._instruction(*self._reason)
        if self._interrupt is not None:
            self._exception(self._interrupt)
        elif self._unbacked is not None:
            return self._internal(f"code at {self._unbacked:#x}, which is not RAM")
        elif self._fault:
            self._page_fault(self._fault)
        elif failed and failed.errno == unicorn_const.UC_ERR_INSN_INVALID:
            gates.deliver(self, gates.INVALID_OPCODE)
        elif failed:
            return self._internal(str(failed))
        return None

    def _page_fault(self, fault: paging.PageFault) -> None:
        if fault.code is None:
            gates.deliver(self, gates.PROTECTION)
            return
        self.set("CR2", fault.address)
        gates.deliver(self, gates.PAGE_FAULT, fault.code)

    def _exception(self, vector: int) -> None:
        """An exception, or INT; after INT the engine's RIP is past it."""
        try:
            asked = vector in (gates.BREAKPOINT, gates.OVERFLOW) or (
                self.read(self.get("RIP") - 2, 2) == bytes((0xCD, vector))
            )
        except paging.PageFault:
            asked = False
        gates.deliver(self, vector, software=asked)

    def _instruction(self, kind: int, length: int) -> Exit | None:
        rip = self.get("RIP")
        if kind == code.SYSCALL:  # not offered, and the engine takes it for nothing
            gates.deliver(self, gates.INVALID_OPCODE)
            return None
        if kind == code.IRET:
            self._step_over()
            self.apic.nmi_blocked = False
            return None
        self.set("RIP", rip + length)
        if kind == code.HALT:
            self.halted = True
        elif kind == code.OUT:
            port = self.get("DX")
            kind = records.EXIT_TRAP if port == self._ports[0] else records.EXIT_DOORBELL
            return kind, 4, port, self.get("EAX")
        return None

    def _step_over(self) -> None:
        """One instruction that a hook stands at; what it faults with is met again without the hook's help."""
        self._step = True
        try:
            self.uc.emu_start(self.get("RIP"), 0, count=1)
        except UcError:
            return
        finally:
            self._step = False

    def pack_exit(self, exit_: Exit) -> bytes:
        """The record of an exit."""
        kind, size, place, value = exit_
        rip, rsp, cr2, *registers = self.uc.reg_read_batch(_EXIT_REGISTERS)
        return records.EXIT.pack(kind, size, place, value, rip, rsp, cr2, self.steal_ns, *registers)

    def resume(self, values: tuple[int, ...], poisoned: bool) -> None:
        """A trap's answer: ENTRY_REGISTERS; all but the first two only if `poisoned`."""
        names = records.ENTRY_REGISTERS if poisoned else records.ENTRY_REGISTERS[:2]
        for name, value in zip(names, values, strict=False):
            self.set(name, value)
