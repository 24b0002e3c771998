"""What the benchmarks share: guests, QEMU at its best, the first byte of a process, C that is compiled for a run."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from paravirt import Machine, MachineConfig
from paravirt._native import ffi

HERE = Path(__file__).resolve().parent
INCLUDES = (HERE.parents[1] / "paravirt" / "native", HERE.parents[1] / "hypercall_abi" / "include")
GUESTS = Path(__file__).resolve().parents[2] / "paravirt" / "guests"
QEMU = "qemu-system-x86_64"
MEMORY = "128M"
TIMEOUT_S = 300


def guest(name: str) -> Path:
    """The built guest `name`."""
    return GUESTS / f"{name}.elf"


def compile_c(source: str, to: Path) -> ctypes.CDLL:
    """Compiles a C file of this directory to a library in the directory `to`, and loads it."""
    library = to / f"{Path(source).stem}.so"
    flags = ["-std=gnu11", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    includes = [f"-I{path}" for path in INCLUDES]
    subprocess.run(["cc", *flags, *includes, str(HERE / source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def address(pointer: object) -> int:
    """Of a cffi pointer, for ctypes."""
    return int(ffi.cast("uintptr_t", pointer))


def bench_line(text: str) -> dict[str, float]:
    """The figures of a guest's line ``bench: key=value …``.  Raises RuntimeError if there is none."""
    for line in text.splitlines():
        if line.startswith("bench: ") and "=" in line:
            return {name: float(value) for name, _, value in (word.partition("=") for word in line.split()[1:])}
    raise RuntimeError(f"the guest told no figures: {text.strip() or 'nothing'}")


def run_guest(name: str, **options: object) -> tuple[float, str]:
    """Seconds from the call of the API to the end of a built guest, and what it printed.  Raises ParavirtError."""
    console = bytearray()
    began = time.perf_counter()
    config = MachineConfig(guest(name), console=console.extend, timeout_s=TIMEOUT_S).replace(**options)
    with Machine(config) as machine:
        machine.run()
    return time.perf_counter() - began, console.decode()


def qemu_command(image: Path, memory: str = MEMORY) -> list[str] | None:
    """QEMU's lightest machine with the same guest and console; None if there is no QEMU."""
    path = shutil.which(QEMU)
    if path is None:
        return None
    machine = "microvm,acpi=off,pic=off,pit=off,rtc=off,isa-serial=on"
    # This KVM refuses MSR_IA32_ARCH_CAPABILITIES, which `host` would set.
    cpu = "host,-arch-capabilities"
    plain = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]
    leave = ["-device", "isa-debug-exit,iobase=0x501,iosize=4"]
    return [path, "-M", machine, "-accel", "kvm", "-cpu", cpu, "-m", memory, *plain, "-kernel", str(image), *leave]


def first_byte_s(command: Sequence[str]) -> float:
    """Seconds from the start of `command` to the first byte that it prints.  Raises RuntimeError if none comes."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        first = os.read(process.stdout.fileno(), 1)
        took = time.perf_counter() - began
        process.stdout.read()
        said = process.stderr.read().decode()
    if not first:
        raise RuntimeError(f"{command[0]} printed nothing: {said}")
    return took
