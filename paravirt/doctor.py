"""What this machine can do for guests, one finding per thing, each with what to do about it.

It does what a run would do and says what came of it; it works, and says less, without the C core.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from .boot.bundled import GUESTS, bundled_guests
from .boot.cpu import cpu_level, host_cpu_flags
from .config import KVM_DEVICE, MIB, VCPUS_MOST, MachineConfig, host_memory_bytes
from .errors import KvmMissing, ParavirtError

IO_URING_SETUP = 425  # system call
IO_URING_PARAMS_BYTES = 120


class Verdict(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing examined; `advice` says what to do, empty if nothing needs to be done."""

    name: str
    verdict: Verdict
    text: str
    advice: str = ""


def examine(kvm_device: Path | None = None) -> list[Finding]:
    """Everything there is to know, in the order in which to mend it; who names a KVM device must have that one."""
    core = _core()
    return [
        core,
        *(_accelerators(kvm_device) if core.verdict == Verdict.OK else ()),
        _cpu(),
        _io_uring(),
        _memory(),
        _guests(),
        _compiler(),
        _python(),
    ]


def _accelerators(kvm_device: Path | None) -> Iterator[Finding]:
    """KVM, and what stands in for it: one of them will do."""
    found, software = list(_kvm(kvm_device or KVM_DEVICE)), _software()
    if software.verdict == Verdict.OK and kvm_device is None:
        found = [replace(f, verdict=Verdict.WARN) if f.verdict == Verdict.FAIL else f for f in found]
    yield from found
    yield software


def _software() -> Finding:
    """Runs a vCPU that does nothing but stop."""
    from ._native import ffi, lib
    from .accel.software import Software
    from .memory import GuestMemory

    machine = ffi.new("struct pv_machine *")
    lib.pv_machine_init(machine)
    memory = GuestMemory(MIB, ffi.addressof(machine, "memory"))
    try:
        software = Software(MachineConfig(Path("none")), machine, memory)
        loads = software.loads()
        words = "" if loads else software.last_words
        software.close()
    except ParavirtError as error:
        text, _, advice = str(error).partition("; ")
        return Finding("software", Verdict.WARN, text, advice)
    finally:
        memory.close()
    if not loads:
        return Finding("software", Verdict.WARN, f"its engine does not start: {words}", "pip install --force unicorn")
    return Finding("software", Verdict.OK, "a software vCPU (--accel software), where there is no KVM")


def _kvm_failure(error: ParavirtError, device: Path) -> Finding:
    text, _, advice = str(error).partition("; ")
    if isinstance(error, KvmMissing) and not device.exists():
        advice = "sudo modprobe kvm_intel or kvm_amd; in a container pass the device on (--device /dev/kvm)"
        if not {"vmx", "svm"} & host_cpu_flags():
            advice = (
                "turn virtualisation on in the firmware, or nesting on in the hypervisor below; else modprobe kvm_pvm"
            )
    elif isinstance(error, KvmMissing):
        advice = "give the path of a real KVM device"
    return Finding("kvm", Verdict.FAIL, text, advice)


def _kvm(device: Path) -> Iterator[Finding]:
    """Makes a virtual machine with nothing in it."""
    from ._native import ffi, lib
    from .accel.kvm import Kvm, capabilities

    machine = ffi.new("struct pv_machine *")
    lib.pv_machine_init(machine)
    try:
        kvm = Kvm(MachineConfig(Path("none"), kvm_device=device), machine)
    except ParavirtError as error:
        yield _kvm_failure(error, device)
        return
    try:
        flags = host_cpu_flags()
        kind = "VMX" if "vmx" in flags else "SVM" if "svm" in flags else "page tables in software (no vmx or svm)"
        yield Finding("kvm", Verdict.OK, f"{device} makes machines, virtualisation by {kind}")
        fd = kvm.native.system_fd
        yield Finding("abilities", Verdict.OK, f"all {len(capabilities(fd))} that are needed of KVM")
        most = min(lib.pv_kvm_vcpus_most(fd), VCPUS_MOST)
        yield Finding("vcpus", Verdict.OK, f"up to {most} in a machine, on {os.cpu_count()} CPUs")
    finally:
        kvm.close()
    yield _debugger(device)


def _debugger(device: Path) -> Finding:
    """Stops a vCPU in every way there is."""
    from .debug.ways import LEVELS, describe, explore

    found = [f"{level}: {describe(ways)}" for level, ways in zip(LEVELS, explore(device), strict=True)]
    return Finding("debugger", Verdict.OK, "; ".join(found))


def _cpu() -> Finding:
    flags = host_cpu_flags()
    text = f"x86-64-v{cpu_level(flags)}"
    if os.uname().machine != "x86_64":
        return Finding("cpu", Verdict.FAIL, os.uname().machine, "guests are for x86-64: use such a machine")
    if not {"constant_tsc", "nonstop_tsc"} <= flags:
        advice = "the guest's clock may drift from the host's by more than usual"
        return Finding("cpu", Verdict.WARN, f"{text}, counter not said to be constant", advice)
    return Finding("cpu", Verdict.OK, f"{text}, constant counter")


def _io_uring() -> Finding:
    params = ctypes.create_string_buffer(IO_URING_PARAMS_BYTES)
    fd = ctypes.CDLL(None, use_errno=True).syscall(IO_URING_SETUP, 4, params)
    if fd >= 0:
        os.close(fd)
        return Finding("io_uring", Verdict.OK, "disks use io_uring")
    reason = os.strerror(ctypes.get_errno())
    advice = (
        "disks use threads instead; faster: sysctl kernel.io_uring_disabled=0, or allow it in the container's seccomp"
    )
    return Finding("io_uring", Verdict.WARN, f"refused: {reason}", advice)


def _memory() -> Finding:
    available = host_memory_bytes()
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        free = available
    free = min(free, available)
    text = f"{free // MIB}M available of {available // MIB}M"
    if free < 256 * MIB:
        return Finding("memory", Verdict.WARN, text, "give guests little (--memory 32M), or end something else")
    return Finding("memory", Verdict.OK, text)


def _core() -> Finding:
    try:
        from paravirt._native import ffi, lib

        digest = ffi.string(lib.pv_abi_digest()).decode()
    except (ImportError, AttributeError, OSError) as error:
        advice = "build it: ./dev exec true in a clone, or install the package again"
        return Finding("core", Verdict.FAIL, f"the C core does not load: {error}", advice)
    return Finding("core", Verdict.OK, f"loads, ABI digest {digest[:12]}")


def _guests() -> Finding:
    names = bundled_guests()
    if not names:
        return Finding("guests", Verdict.WARN, "no bundled guests", "build them: make -C guest_drivers")
    judges = len(list(GUESTS.glob("*.elf"))) - len(names)
    return Finding("guests", Verdict.OK, f"{', '.join(names)}; {judges} images that judge hosts")


def _compiler() -> Finding:
    found = [name for name in ("gcc", "clang") if shutil.which(name)]
    if not found:
        return Finding("compiler", Verdict.WARN, "neither gcc nor clang", "to build guests: apt-get install gcc make")
    return Finding("compiler", Verdict.OK, ", ".join(found))


def _python() -> Finding:
    return Finding("python", Verdict.OK, f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}")
