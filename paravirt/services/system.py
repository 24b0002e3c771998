"""Service system: how a machine ends, and its watchdog."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .._native import ffi
from ..abi import STATUS, Constants, parse, size_of
from ..errors import one_line

if TYPE_CHECKING:
    from ..machine import Machine

REGISTERS = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15".split()
PROGRAM_PANIC = 0xFFFF_FFFF
SHUTDOWN = Constants("SHUTDOWN")


class CrashReport(NamedTuple):
    """What a guest said of its crash (record crash_report)."""

    vcpu: int
    vector: int | None
    """Exception vector; None: a panic of the program."""
    error_code: int
    fault_address: int
    registers: dict[str, int]
    text: str

    def describe(self, place: Callable[[int], str] = hex) -> str:
        """In one line; `place` names an address."""
        what = "panic" if self.vector is None else f"exception {self.vector} (error code {self.error_code:#x})"
        where = f"vCPU {self.vcpu} at rip {place(self.registers['rip'])}"
        fault = f", fault address {self.fault_address:#x}" if self.vector == 14 else ""
        return f"{what} on {where}{fault}: {self.text}" if self.text else f"{what} on {where}{fault}"


def parse_report(data: bytes) -> CrashReport:
    """The report in `data`, a copy; its text is the guest's: cut at the first NUL, escaped (SYS-2)."""
    raw = parse("crash_report", data)
    text = one_line(bytes(ffi.buffer(raw.text)).split(b"\0")[0].decode("utf-8", "replace"))
    registers = dict(zip(REGISTERS, raw.registers, strict=True)) | {"rip": raw.rip, "rflags": raw.rflags}
    vector = None if raw.vector == PROGRAM_PANIC else raw.vector
    return CrashReport(raw.vcpu, vector, raw.error_code, raw.fault_address, registers, text)


def shutdown(machine: Machine, _vcpu: int, reason: int, status: int) -> int:
    """Ends the machine; SYS-1."""
    name = SHUTDOWN.names().get(reason)
    if name is None:
        return STATUS.INVALID
    machine.finish("shutdown", reason=name, status=status)
    return STATUS.OK


def reset(machine: Machine, _vcpu: int) -> int:
    """Ends this life of the machine; the next begins from the image."""
    machine.finish("reset")
    return STATUS.OK


def crash(machine: Machine, _vcpu: int, gpa: int) -> int:
    """Ends the machine and keeps the report."""
    machine.finish("crash", report=parse_report(machine.memory.read(gpa, size_of("crash_report"))))
    return STATUS.OK


def watchdog(machine: Machine, _vcpu: int, timeout_ns: int) -> int:
    """Arms or disarms it."""
    machine.arm_watchdog(timeout_ns)
    return STATUS.OK
