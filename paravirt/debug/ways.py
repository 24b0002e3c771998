"""What the KVM at hand does for a debugger, found out by trying: it is not the same at every level, nor everywhere.

A machine is made whose guest is a row of NOPs, and stopped in each way at each level.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from .._native import ffi, lib
from ..boot.bundled import GUESTS
from ..config import MachineConfig, Privilege
from ..errors import ParavirtError
from . import held as held  # for the C core to find

CARRIER = "hello.elf"
_NOPS = b"\x90" * 8 + b"\xeb\xfe"  # then a jump to itself
_INT3 = b"\xcc"
_HIT_AT = 4
_PATIENCE_S = 2.0


class Ways(NamedTuple):
    """At one level."""

    code: bool = False
    """Breakpoints in memory stop the vCPU by themselves; else the guest has to hand its exception over."""
    step: bool = False
    """KVM steps; else the flag TF does, whose exception is the guest's likewise."""
    addresses: bool = False
    """Debug registers: breakpoints on instructions, and on accesses to memory."""
    stumbles: bool = False
    """It cannot emulate a breakpoint in memory, by which it is found."""


LEVELS = ("CPL 0", "CPL 3")


def describe(ways: Ways) -> str:
    """In words."""
    found = [
        f"breakpoints by {'KVM' if ways.code or ways.stumbles else 'gates of the guest (SYS-7)'}",
        "steps by KVM" if ways.step else "steps by such gates",
        "debug registers" if ways.addresses else "no watchpoints",
    ]
    return ", ".join(found)


@cache
def explore(kvm_device: Path) -> tuple[Ways, Ways]:
    """At CPL 0 and at CPL 3."""
    return _explore(kvm_device, "supervisor"), _explore(kvm_device, "user")


def _explore(kvm_device: Path, privilege: Privilege) -> Ways:
    from ..machine import Machine

    config = MachineConfig(
        GUESTS / CARRIER, memory_bytes=4 << 20, privilege=privilege, accel="kvm", kvm_device=kvm_device,
        timeout_s=_PATIENCE_S,
    )  # fmt: skip
    probe = _Probe()
    try:
        with Machine(config) as machine:
            probe.take(machine)
            machine.run()
    except ParavirtError:  # what it found out before that is true
        pass
    return Ways(probe.code, probe.step, probe.addresses, probe.stumbles)


class _Probe:
    """Stands where a machine's debugger stands: one way after the other, from the same state."""

    def __init__(self) -> None:
        self.code = self.step = self.addresses = self.stumbles = False
        self._turn = 0
        self._machine: Any = None
        self._entry = ffi.new("struct pv_registers *")

    def take(self, machine: Any) -> None:
        """Before it runs."""
        self._machine = machine
        machine.debugger = self
        machine.native.held = lib.pv_py_held
        machine.memory.write(machine.image.entry_gpa, _NOPS)
        machine.vcpus[0].native.hold = 1

    def begin(self) -> None:
        """It begins, held before its first instruction."""

    def ended(self) -> None:
        """It ends; nothing is held."""

    def close(self) -> None:
        """It is given back; there is nothing to close."""

    def over(self, _outcome: object) -> None:
        """It is known how."""

    def held(self, _index: int, why: int, detail: int) -> bool:
        vcpu = self._machine.vcpus[0].native
        vcpu.hold = 0
        if self._turn == 0:
            lib.pv_kvm_get_registers(vcpu, self._entry)
        self._look(why == lib.PV_HELD_DEBUG, detail)
        self.stumbles |= (why, detail) == (lib.PV_HELD_END, lib.PV_EXIT_INTERNAL)
        lib.pv_kvm_forget_exception(vcpu)
        lib.pv_kvm_set_registers(vcpu, self._entry)
        self._turn += 1
        return self._try(vcpu)

    def _look(self, stopped: bool, detail: int) -> None:
        if self._turn == 1:
            self.code = stopped and not detail
        elif self._turn == 2:
            self.step = stopped and bool(detail & 1 << 14)
        elif self._turn == 3:
            self.addresses = stopped and bool(detail & 1)

    def _try(self, vcpu: Any) -> bool:
        addresses = ffi.new("uint64_t[4]")
        place = self._entry.rip + _HIT_AT
        if self._turn == 1:
            self._machine.memory.write(place, _INT3)
            lib.pv_kvm_set_debug(vcpu, lib.PV_DEBUG_CODE, addresses, 0)
        elif self._turn == 2:
            lib.pv_kvm_set_debug(vcpu, lib.PV_DEBUG_STEP, addresses, 0)
        elif self._turn == 3:
            # Where it is not heeded, the INT3 is reached, which ends the run in another way.
            self._machine.memory.write(place, _NOPS[:1] + _INT3)
            addresses[0] = place
            lib.pv_kvm_set_debug(vcpu, lib.PV_DEBUG_ADDRESSES, addresses, 0x602)
        else:
            self._machine.finish("stopped")
        return self._turn < 4
