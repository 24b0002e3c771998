"""vCPUs of KVM for a debugger: held in their threads, stopped as the KVM at hand can.

KVM stops a vCPU by itself where it virtualises with hardware.  Where it does so by page tables, it does at CPL 0
but for breakpoints in memory, which its emulator stumbles over; at CPL 3 exceptions go to the guest, which hands them
over by ``system.debug`` (SYS-7) once it has gates for them, and before that ends in a triple fault that is taken back
here.  ``ways.py`` finds out which it is.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import parse
from .registers import FLAG_TF
from .space import Space
from .stops import SIGABRT, SIGILL, SIGSEGV, Cpus, Plan, Stop, Tell, Watch
from .ways import LEVELS, Ways, describe, explore

if TYPE_CHECKING:
    from ..machine import Machine

PATIENCE_S = 2.0
"""For vCPUs in a call that takes long: they are out of the guest anyway, and stay there."""
INT3 = 0xCC
_DR6_STEP, _DR6_ADDRESSES = 1 << 14, 15
_DEBUG = 1  # vector
_DR7 = {"code": 0, "write": 1, "read": 3, "access": 3}  # R/W; there is no kind for loads alone
_DR7_LENGTH = {1: 0, 2: 1, 4: 3, 8: 2}


class KvmCpus(Cpus):
    """Those of `machine`, all of them or those that it will start."""

    watches_most = 4
    written = False  # KVM sees for itself

    def __init__(self, machine: Machine, tell: Tell) -> None:
        self._machine, self._tell = machine, tell
        self._changed = threading.Condition()
        self._inside: set[int] = set()
        self._fatal: set[int] = set()
        self._over = False
        self._plan = Plan(frozenset(range(len(machine.vcpus))))
        self._planted: dict[int, bytes] = {}  # GPA → what was there
        self._stepping: set[int] = set()  # by the flag TF

    # ---- in vCPUs' threads ----

    def held(self, index: int, why: int, detail: int) -> bool:
        """As Cpus says."""
        with self._changed:
            stop = self._meaning(index, why, detail)
            self._inside.add(index)
            if stop and self._tell(stop):
                self._hold_all()
            self._wait(index)
            if self._over:
                return why != lib.PV_HELD_END or (stop is not None and stop.kind != "fault")
            ends = index in self._fatal
            self._fatal.discard(index)
            return not ends

    def crashed(self, index: int) -> None:
        """As Cpus says."""
        with self._changed:
            self._inside.add(index)
            if self._tell(Stop(index, "crash", SIGABRT)):
                self._hold_all()
            self._wait(index)

    def _wait(self, index: int) -> None:
        self._changed.notify_all()
        while not self._over and index not in self._plan.running:
            self._changed.wait()
        self._inside.discard(index)
        self._machine.vcpus[index].native.hold = 0

    def _hold_all(self) -> None:
        self._plan = self._plan._replace(running=frozenset())
        for vcpu in self._machine.vcpus:
            lib.pv_kvm_hold(vcpu.native)

    def _meaning(self, index: int, why: int, detail: int) -> Stop | None:
        if why == lib.PV_HELD_ASKED:
            return None
        registers = self.registers(index)
        if why == lib.PV_HELD_CALL:
            return self._called(index, registers, detail)
        stop = (
            self._debugged(index, registers, detail)
            if why == lib.PV_HELD_DEBUG
            else self._ended(index, registers, detail)
        )
        if stop:  # else the guest is to have an exception, which KVM forgets when registers are set
            self.set_registers(index, registers)
        return stop

    def _debugged(self, index: int, registers: Any, dr6: int) -> Stop | None:
        plain = self._machine.image.is_plain
        if not dr6:
            if (stop := self._at_breakpoint(index, registers, registers.rip)) or not plain:
                return stop or self._own(index, registers)
            self._arm(index, lib.PV_DEBUG_GIVE_CODE)  # a kernel patches its code with such
            return None
        if plain and dr6 & _DR6_STEP and index not in self._plan.stepping:
            self._arm(index, lib.PV_DEBUG_GIVE_STEP)
            return None
        if hit := dr6 & _DR6_ADDRESSES:
            return self._at_watch(index, (hit & -hit).bit_length() - 1)
        return Stop(index, "step")

    def _called(self, index: int, registers: Any, gpa: int) -> Stop | None:
        """The guest's handler handed its frame over: the vCPU is put back to where it was."""
        frame = parse("debug_frame", self._machine.memory.read(gpa, ffi.sizeof("struct pv_debug_frame")))
        registers.general = frame.registers
        registers.rip, registers.rflags = frame.rip, frame.rflags
        if frame.vector == _DEBUG:
            stepped = index in self._stepping
            self._clear_step(index, registers)
            self.set_registers(index, registers)
            return Stop(index, "step" if stepped else "trap")
        stop = self._at_breakpoint(index, registers, registers.rip - 1) or Stop(index, "trap")
        self._clear_step(index, registers)
        self.set_registers(index, registers)
        return stop

    def _ended(self, index: int, registers: Any, kind: int) -> Stop | None:
        """An exit that would be the vCPU's last, unless it is ours: there is no gate yet, or no emulation of INT3."""
        at = registers.rip - 1 if kind == lib.PV_EXIT_TRIPLE_FAULT else registers.rip
        stop = self._at_breakpoint(index, registers, at)
        if not stop and kind == lib.PV_EXIT_TRIPLE_FAULT and index in self._stepping:
            stop = Stop(index, "step")
        if not stop and kind == lib.PV_EXIT_INTERNAL and self._code(registers) == bytes((INT3,)):
            stop = self._own(index, registers)
        if stop:
            self._clear_step(index, registers)
            lib.pv_kvm_forget_exception(self._machine.vcpus[index].native)
            return stop
        self._fatal.add(index)
        return Stop(index, "fault", SIGILL if kind == lib.PV_EXIT_INTERNAL else SIGSEGV)

    def _code(self, registers: Any) -> bytes:
        return Space(self._machine.memory, registers).read(registers.rip, 1)

    def _at_breakpoint(self, index: int, registers: Any, rip: int) -> Stop | None:
        if rip not in self._plan.breakpoints:
            return None
        registers.rip = rip
        return Stop(index, "code")

    def _own(self, index: int, registers: Any) -> Stop:
        """A breakpoint in the guest's code, by which it asks for a debugger."""
        registers.rip += 1
        return Stop(index, "trap")

    def _at_watch(self, index: int, number: int) -> Stop:
        watch = self._plan.watches[number] if number < len(self._plan.watches) else Watch(0, 1, "code")
        if watch.kind == "code":
            return Stop(index, "code" if watch.address in self._plan.breakpoints else "address")
        access = {"write": "watch", "read": "rwatch", "access": "awatch"}[watch.kind]
        return Stop(index, "watch", address=watch.address, access=access)  # type: ignore[arg-type]

    def _clear_step(self, index: int, registers: Any) -> None:
        if index in self._stepping:
            self._stepping.discard(index)
            registers.rflags &= ~FLAG_TF

    # ---- for the debugger ----

    def hold(self) -> None:
        """As Cpus says."""
        with self._changed:
            self._hold_all()
            self._changed.wait_for(self._all_inside, PATIENCE_S)
            self._unplant()
            for index in list(self._stepping & self._inside):
                registers = self.registers(index)
                self._clear_step(index, registers)
                self.set_registers(index, registers)

    def _all_inside(self) -> bool:
        stopped = int(lib.PV_VCPU_STATE_STOPPED)
        return self._over or all(
            vcpu.index in self._inside or vcpu.native.state.state == stopped or vcpu.thread_id is None
            for vcpu in self._machine.vcpus
        )

    def go(self, plan: Plan) -> None:
        """As Cpus says."""
        with self._changed:
            self._plan = plan._replace(watches=plan.watches + self._instead(plan))
            self._plant()
            for vcpu in self._machine.vcpus:
                self._arm(vcpu.index)
            for vcpu in self._machine.vcpus:
                if vcpu.index not in self._inside and vcpu.index in plan.running:
                    vcpu.native.hold = 0  # it has not begun
            self._changed.notify_all()

    def _instead(self, plan: Plan) -> tuple[Watch, ...]:
        """Breakpoints that debug registers are taken for, where they stop vCPUs at every level and INT3 does not."""
        if not plan.breakpoints or not all(
            ways.addresses and not (ways.code or ways.stumbles) for ways in self._explored()
        ):
            return ()
        room = self.watches_most - len(plan.watches)
        return tuple(Watch(address, 1, "code") for address in sorted(plan.breakpoints)[:room])

    def _explored(self) -> tuple[Ways, Ways]:
        return explore(self._machine.config.kvm_device)

    def _arm(self, index: int, give: int = 0) -> None:
        """What the vCPU stops for, which KVM is told, or the flag TF has to do; and what the guest is given first."""
        native, plan = self._machine.vcpus[index].native, self._plan
        what = give | (int(lib.PV_DEBUG_CODE) if plan.breakpoints else 0)
        if index in plan.stepping:
            registers = self.registers(index)
            if self._way(registers).step:
                what |= int(lib.PV_DEBUG_STEP)
            else:
                registers.rflags |= FLAG_TF
                self._stepping.add(index)
                self.set_registers(index, registers)
        addresses, dr7 = ffi.new("uint64_t[4]"), 0
        for number, watch in enumerate(plan.watches):
            addresses[number] = watch.address
            length = _DR7_LENGTH[watch.size_bytes] if watch.kind != "code" else 0
            dr7 |= 2 << 2 * number | (_DR7[watch.kind] | length << 2) << 16 + 4 * number
            what |= int(lib.PV_DEBUG_ADDRESSES)
        _check(lib.pv_kvm_set_debug(native, what, addresses, dr7 | 0x600 if dr7 else 0))

    def _way(self, registers: Any) -> Ways:
        return self._explored()[int(registers.segments[0] & 3 == 3)]

    def ways(self) -> str:
        """As Cpus says."""
        return "".join(f"{level}: {describe(ways)}\n" for level, ways in zip(LEVELS, self._explored(), strict=True))

    def _plant(self) -> None:
        """Puts breakpoints into memory, as vCPU 0 sees it or who else runs; those that lie nowhere are none."""
        memory = self._machine.memory
        spaces = [Space(memory, self.registers(index)) for index in sorted(self._inside) or (0,)]
        for address in self._plan.breakpoints - {watch.address for watch in self._plan.watches if watch.kind == "code"}:
            for gpa in {gpa for space in spaces if (gpa := space.gpa(address)) is not None}:
                self._planted.setdefault(gpa, memory.read(gpa, 1))
        for gpa in self._planted:
            memory.write(gpa, bytes((INT3,)))

    def _unplant(self) -> None:
        for gpa, was in self._planted.items():
            if self._machine.memory.read(gpa, 1) == bytes((INT3,)):  # else the guest has put something else there
                self._machine.memory.write(gpa, was)
        self._planted.clear()

    def registers(self, index: int) -> Any:
        """As Cpus says."""
        registers = ffi.new("struct pv_registers *")
        _check(lib.pv_kvm_get_registers(self._machine.vcpus[index].native, registers))
        return registers

    def set_registers(self, index: int, registers: Any) -> None:
        """As Cpus says."""
        _check(lib.pv_kvm_set_registers(self._machine.vcpus[index].native, registers))

    def can_watch(self, index: int, watch: Watch) -> bool:
        """As Cpus says."""
        aligned = watch.kind == "code" or (watch.size_bytes in _DR7_LENGTH and watch.address % watch.size_bytes == 0)
        way = self._way(self.registers(index))
        return aligned and watch.kind != "read" and (way.addresses if watch.kind == "code" else way.watches)

    def ended(self) -> None:
        """As Cpus says."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
