"""Service system: what an end of a machine means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from .._native import ffi, lib
from ..abi import Constants, parse
from ..errors import WatchdogExpired, one_line

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


@ffi.def_extern()  # type: ignore[untyped-decorator]
def pv_py_end(native: Any, end: Any) -> None:
    """The guest ended its life, or its watchdog did."""
    machine: Machine = ffi.from_handle(native.opaque)
    try:
        if end.kind == lib.PV_END_SHUTDOWN:
            machine.finish("shutdown", reason=SHUTDOWN.name_of(end.reason), status=end.status)
        elif end.kind == lib.PV_END_RESET:
            machine.finish("reset")
        elif end.kind == lib.PV_END_CRASH:
            machine.finish("crash", report=parse_report(bytes(ffi.buffer(end.report))))
        else:
            raise WatchdogExpired("the guest's watchdog expired; the guest hangs, see --trace")
    except BaseException as error:
        machine.fail(error)
