"""What the KVM at hand does for a debugger, found out by trying: it is not the same at every level, nor everywhere.

A machine is made whose guest is a row of NOPs, and stopped in each way at each level.
"""

from __future__ import annotations

from contextlib import suppress
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
_DR6_STEP = 1 << 14
_HIT_AT = 4
_WATCHED_GPA = 0x30_0000
_PATIENCE_S = 2.0


class Ways(NamedTuple):
    """At one level."""

    code: bool = False
    """Breakpoints in memory stop the vCPU by themselves; else the guest has to hand its exception over."""
    step: bool = False
    """KVM steps; else the flag TF does, whose exception is the guest's likewise."""
    addresses: bool = False
    """Debug registers stop at instructions."""
    watches: bool = False
    """And at accesses to memory."""
    stumbles: bool = False
    """It cannot emulate a breakpoint in memory, by which it is found."""


LEVELS = ("CPL 0", "CPL 3")


def describe(ways: Ways) -> str:
    """In words."""
    found = [
        f"breakpoints by {_breakpoints(ways)}",
        "steps by KVM" if ways.step else "steps by such gates",
        "watchpoints" if ways.watches else "no watchpoints",
    ]
    return ", ".join(found)


def _breakpoints(ways: Ways) -> str:
    if ways.code or ways.stumbles:
        return "KVM"
    gates = "gates of the guest (SYS-7)"
    return f"debug registers, beyond four by {gates}" if ways.addresses else gates


@cache
def explore(kvm_device: Path) -> tuple[Ways, Ways]:
    """At CPL 0 and at CPL 3."""
    return _explore(kvm_device, "supervisor"), _explore(kvm_device, "user")


def _explore(kvm_device: Path, privilege: Privilege) -> Ways:
    found = {way: _try(kvm_device, privilege, way) for way in ("code", "step", "addresses", "watches")}
    return Ways(
        code=found["code"] == (lib.PV_HELD_DEBUG, 0),
        step=found["step"][0] == lib.PV_HELD_DEBUG and bool(found["step"][1] & _DR6_STEP),
        addresses=found["addresses"][0] == lib.PV_HELD_DEBUG and bool(found["addresses"][1] & 1),
        watches=found["watches"][0] == lib.PV_HELD_DEBUG and bool(found["watches"][1] & 1),
        stumbles=found["code"] == (lib.PV_HELD_END, lib.PV_EXIT_INTERNAL),
    )


def _try(kvm_device: Path, privilege: Privilege, way: str) -> tuple[int, int]:
    """Why the vCPU stopped, as the C core says it; each in a machine of its own, since some ways ruin it."""
    from ..machine import Machine

    config = MachineConfig(
        GUESTS / CARRIER, memory_bytes=4 << 20, privilege=privilege, accel="kvm", kvm_device=kvm_device,
        timeout_s=_PATIENCE_S,
    )  # fmt: skip
    probe = _Probe(way)
    with suppress(ParavirtError), Machine(config) as machine:
        probe.take(machine)
        machine.run()
    return probe.found


class _Probe:
    """Stands where a machine's debugger stands."""

    def __init__(self, way: str) -> None:
        self._way = way
        self._armed = False
        self._machine: Any = None
        self.found = (int(lib.PV_HELD_ASKED), 0)

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
        """From the C core: at the entry, and when it stopped."""
        vcpu = self._machine.vcpus[0].native
        vcpu.hold = 0
        if not self._armed:
            self._armed = True
            self._arm(vcpu)
            return True
        self.found = why, detail
        self._machine.finish("stopped")
        return bool(why != lib.PV_HELD_END)

    def _arm(self, vcpu: Any) -> None:
        place = self._machine.image.entry_gpa + _HIT_AT
        addresses = ffi.new("uint64_t[4]", [place, 0, 0, 0])
        if self._way == "code":
            self._machine.memory.write(place, _INT3)
            lib.pv_kvm_set_debug(vcpu, lib.PV_DEBUG_CODE, addresses, 0)
        elif self._way == "step":
            lib.pv_kvm_set_debug(vcpu, lib.PV_DEBUG_STEP, addresses, 0)
        elif self._way == "watches":
            store = b"\x48\xa3" + _WATCHED_GPA.to_bytes(8, "little")  # mov %rax, there
            self._machine.memory.write(self._machine.image.entry_gpa, store + b"\x90" + _INT3)
            addresses[0] = _WATCHED_GPA
            lib.pv_kvm_set_debug(vcpu, lib.PV_DEBUG_ADDRESSES, addresses, 0x602 | 9 << 16)  # 8 bytes, written
        else:
            # Where it is not heeded, the INT3 is reached, which ends the run in another way.
            self._machine.memory.write(place + 1, _INT3)
            lib.pv_kvm_set_debug(vcpu, lib.PV_DEBUG_ADDRESSES, addresses, 0x602)
