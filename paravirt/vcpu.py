"""A vCPU: the C core's record of it, and the thread that runs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ._native import ffi, lib
from .abi import Constants
from .config import PAGE_BYTES
from .errors import (
    DiskLost,
    EngineLost,
    EntryFailed,
    HostCallFailed,
    KvmInternalError,
    ParavirtError,
    SoftwareUnsupported,
    TripleFault,
    UnknownExit,
)
from .outcome import VcpuStatistics

if TYPE_CHECKING:
    from .machine import Machine

STATES = Constants("VCPU_STATE").names()
REASONS = ("trap", "doorbell", "port", "mmio", "other")
"""Why a vCPU left for user space, in the order of PV_REASON_."""
Run = Callable[[Any, Any], None]
"""An accelerator's: a ``struct pv_vcpu *`` runs until it is stopped or a ``struct pv_exit *`` says why not."""
Ended = Callable[["Vcpu", Any], None]


@contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Threads that are started meanwhile stay on that CPU of the host's, if it is one.  Raises OSError."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})  # a thread inherits it: so it never runs elsewhere, however short it lives
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Vcpu:
    """vCPU number `index`.  ``native`` is the C core's ``struct pv_vcpu *``; `page` its shared page."""

    def __init__(self, index: int, machine: Any, page: Any) -> None:
        self.index = index
        self.native = ffi.new("struct pv_vcpu *")
        self.native.index = index
        self.native.machine = machine
        self.native.page = ffi.cast("struct pv_vcpu_page *", page)
        self.native.page.index = index
        self.native.page.deadline_ns = self.native.state.deadline_ns = (1 << 64) - 1
        self._thread: threading.Thread | None = None

    def set_start(self, entry_gpa: int, argument: int) -> None:
        """Has the vCPU begin at `entry_gpa` as soon as its thread runs: the boot vCPU."""
        start = self.native.start
        start.entry_gpa, start.stack_gpa, start.argument = entry_gpa, 0, argument
        self.native.state.state = self.native.page.state = lib.PV_VCPU_STATE_RUNNING

    def begin(self, run: Run, ended: Ended) -> None:
        """Starts its thread, in which `run` is called, and at its end `ended`, with a ``struct pv_exit *``."""
        thread = threading.Thread(target=self._run, args=(run, ended), name=f"vcpu{self.index}", daemon=True)
        thread.start()
        self._thread = thread  # one that could not be started is not joined

    def _run(self, run: Run, ended: Ended) -> None:
        result = ffi.new("struct pv_exit *")
        run(self.native, result)
        ended(self, result)

    def join(self) -> None:
        """Waits for its thread."""
        if self._thread:
            self._thread.join()
            self._thread = None

    @property
    def thread_id(self) -> int | None:
        """The kernel's number of its thread, while it has one."""
        return self._thread.native_id if self._thread else None

    @property
    def statistics(self) -> VcpuStatistics:
        """Counts so far."""
        native, ring = self.native, self.native.callring
        fault = ffi.string(ring.fault).decode() if ring.fault != ffi.NULL else None
        return VcpuStatistics(
            native.calls + ring.calls,
            native.exits,
            native.upcalls,
            ring.calls,
            fault,
            STATES[native.state.state],
            dict(zip(REASONS, native.exits_for, strict=True)),
        )


def add_vcpus(machine: Machine, resources: ExitStack) -> list[Vcpu]:
    """Makes those of `machine`, whose layout and accelerator are there; `resources` gives them back."""
    native, layout, made = machine.native, machine.layout, []
    for index in range(machine.config.vcpus):
        page = machine.memory.hva(layout.vcpu_pages_gpa + index * PAGE_BYTES, PAGE_BYTES)
        vcpu = Vcpu(index, native, page)
        vcpu.native.trace = machine.tracer.track(f"vCPU {index}") if machine.tracer else ffi.NULL
        made.append(vcpu)
        native.vcpus[index] = vcpu.native
        native.vcpu_count = index + 1
        resources.callback(machine.accelerator.remove_vcpu, vcpu.native)
        machine.accelerator.add_vcpu(vcpu.native)
    return made


def exit_error(index: int, result: Any, place: Callable[[int], str] = hex, hint: str = "") -> ParavirtError | None:
    """What a ``struct pv_exit`` means, as an error; None if the vCPU was stopped.

    `place` names an address, `hint` says what a triple fault was probably about.
    """
    if result.kind == lib.PV_EXIT_STOPPED:
        return None
    where = f"vCPU {index} at rip {place(result.rip)}"
    errors: dict[int, tuple[type[ParavirtError], str]] = {
        lib.PV_EXIT_TRIPLE_FAULT: (
            TripleFault,
            f"triple fault on {where}: an exception with no gate that could take it; {hint}",
        ),
        lib.PV_EXIT_UNKNOWN: (
            UnknownExit,
            f"KVM exit reason {result.reason} on {where} is not known to this host; report it with the image",
        ),
        lib.PV_EXIT_INTERNAL: (
            KvmInternalError,
            f"KVM internal error {result.reason} on {where}: mostly an instruction that it cannot emulate; "
            f"{hint or 'try --privilege user'}",
        ),
        lib.PV_EXIT_UNSUPPORTED: (
            SoftwareUnsupported,
            f"the software vCPU does not do what {where} wants: {hint}; use --accel kvm",
        ),
        lib.PV_EXIT_REGION: (
            DiskLost,
            f"what is mapped for device {result.reason} cannot be read any more, as {where} wants",
        ),
        lib.PV_EXIT_ENTRY: (EntryFailed, f"the CPU refused the state of {where}: reason {result.detail:#x}"),
    }
    if result.kind == lib.PV_EXIT_ENGINE:
        return EngineLost(f"the software vCPU's engine ended: {hint}; report it")
    if result.kind == lib.PV_EXIT_ERROR:
        return HostCallFailed(f"KVM_RUN failed on vCPU {index}: {os.strerror(result.reason)}; see `paravirt doctor`")
    error, text = errors[result.kind]
    return error(text)
