"""The accelerator KVM: a virtual machine's descriptors over the C core, with errors as types.

``software.py`` has the same methods; a machine is told by :func:`paravirt.accel.make_accelerator` which it has.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..boot.layout import Layout
from ..config import MachineConfig
from ..errors import (
    CpuNotOffered,
    HostCallFailed,
    HostLimit,
    KvmForbidden,
    KvmMissing,
    KvmTooOld,
    ParavirtError,
)

if TYPE_CHECKING:
    from ..mapped import MappedDisk


LEAVES_MOST = 256


class Kvm:
    """One virtual machine.  ``native`` is the C core's ``struct pv_kvm *``."""

    name = "kvm"
    instead_of = ""

    def __init__(self, config: MachineConfig, machine: Any) -> None:
        self.native = ffi.new("struct pv_kvm *")
        self._path = config.kvm_device
        self.cpu_level: int | None = None
        """Of x86-64 that guests see; None: the host's."""
        try:
            self._check(lib.pv_kvm_create(self.native, os.fsencode(config.kvm_device), machine))
            self._check_capabilities(config)
            self.native.vcpus = config.vcpus
            if config.cpu != "host":
                self._set_model(config.cpu)
        except ParavirtError:
            lib.pv_kvm_destroy(self.native)
            raise

    def _check(self, result: int) -> None:
        if result >= 0:
            return
        step, reason = ffi.string(self.native.failed).decode(), os.strerror(-result)
        if step == "open" and -result in (errno.EACCES, errno.EPERM):
            raise KvmForbidden(f"no permission to open {self._path}; add this user to its group: usermod -aG kvm USER")
        if -result in (errno.EMFILE, errno.ENFILE):
            raise HostLimit(f"too many open files at {step}; raise the limit with ulimit -n")
        if step == "open":
            raise KvmMissing(
                f"cannot open {self._path}: {reason}; load the module kvm_intel or kvm_amd, or see `paravirt doctor`"
            )
        if step == "KVM_GET_API_VERSION":
            raise KvmMissing(f"{self._path} is not KVM; see `paravirt doctor`")
        raise HostCallFailed(f"KVM refused {step}: {reason}; see `paravirt doctor`")

    def _check_capabilities(self, config: MachineConfig) -> None:
        fd = self.native.system_fd
        for name, least, answer, use in capabilities(fd):
            if answer < least:
                raise KvmTooOld(f"{self._path} lacks {name}, needed for {use}; use a newer kernel")
        most = lib.pv_kvm_vcpus_most(fd)
        if config.vcpus > most:
            raise HostLimit(f"{config.vcpus} vCPUs: KVM here allows {most}; give less with --vcpus")

    def _set_model(self, cpu: str) -> None:
        """Has vCPUs see that CPU.  Raises CpuNotOffered."""
        from .cpuid import Register, change, missing, parse_cpu  # only for those who ask

        model = parse_cpu(cpu)
        self.cpu_level = model.level or None
        leaves = ffi.new("struct pv_cpuid[]", LEAVES_MOST)
        count = lib.pv_kvm_supported(self.native, leaves, LEAVES_MOST)
        self._check(count)
        found = leaves[0:count]
        has = {Register(leaf.function, leaf.index, n): leaf.words[n] for leaf in found for n in range(4)}
        if lacking := missing(model, has):
            raise CpuNotOffered(
                f"KVM here cannot give {', '.join(lacking)}; choose a lower level with --cpu, or leave them out"
            )
        changes = [change(model, leaf.function, leaf.index) for leaf in found]
        self._changes = ffi.new("struct pv_cpuid_change[]", [tuple(c) for c in changes])
        self.native.cpuid, self.native.cpuid_changes = self._changes, count

    def add_memory(self, gpa: int, size_bytes: int, hva: Any) -> None:
        """Makes host memory at `hva` guest memory at `gpa`."""
        self._check(lib.pv_kvm_add_memory(self.native, gpa, size_bytes, hva))

    def add_mapped(self, mapped: MappedDisk) -> None:
        """Makes a mapped disk's pages memory of its region."""
        read_only = mapped.disk.read_only
        if read_only and not any(
            answer > 0 for name, _, answer, _ in capabilities(self.native.system_fd) if name == "KVM_CAP_READONLY_MEM"
        ):
            raise KvmTooOld(f"{self._path} lacks KVM_CAP_READONLY_MEM; attach {mapped.disk.name!r} without ,ro")
        self._check(lib.pv_kvm_add_mapped(self.native, mapped.gpa, mapped.size_bytes, mapped.hva, read_only))

    def set_entry(self, layout: Layout) -> None:
        """How vCPUs are entered; before the first is created."""
        entry = self.native.entry
        entry.mode = layout.mode
        entry.page_table_gpa = layout.page_table_gpa
        entry.gdt_gpa, entry.gdt_bytes = layout.gdt_gpa, layout.gdt_bytes
        entry.idt_gpa = layout.idt_gpa
        entry.tss_gpa, entry.tss_bytes = layout.tss_gpa, layout.tss_bytes
        entry.xcr0 = layout.xcr0
        self.native.boot_info_gpa = layout.boot_info_gpa
        self.native.lines = layout.windows > 0 or layout.is_plain  # whose serial port has one

    def add_vcpu(self, vcpu: Any) -> None:
        """Creates KVM's side of a ``struct pv_vcpu *``."""
        self._check(lib.pv_kvm_vcpu_create(self.native, vcpu))

    def remove_vcpu(self, vcpu: Any) -> None:
        """Destroys KVM's side of it, which may not be there; its thread has ended."""
        lib.pv_kvm_vcpu_destroy(vcpu)

    def begin(self, lost: Callable[[], None]) -> None:
        """All vCPUs are there and about to run."""

    def end(self) -> None:
        """No vCPU runs any more."""

    def counter_hz(self, vcpu: Any) -> int:
        """Frequency of the guest's counter; 0: it has none to rely on."""
        return int(lib.pv_kvm_counter_hz(vcpu))

    def in_service(self, vcpu: Any, vector: int) -> bool:
        """Whether a vCPU that rests has not ended an interrupt of that vector (EVT-9)."""
        return bool(lib.pv_kvm_in_service(vcpu, vector))

    @property
    def run(self) -> Any:
        """The C function (struct pv_vcpu *, struct pv_exit *) that runs a vCPU in its thread."""
        return lib.pv_vcpu_run

    @property
    def ended_by(self) -> int:
        """The signal that ended the accelerator's own process: it has none."""
        return 0

    @property
    def last_words(self) -> str:
        """What an exit that is the accelerator's own fault was about."""
        return ""

    def add_doorbell(self, fd: int, device: int, queue: int) -> None:
        """The kernel signals `fd` when the guest rings the doorbell for a queue."""
        self._check(lib.pv_kvm_doorbell(self.native, fd, device << 16 | queue))

    def remove_doorbell(self, fd: int, device: int, queue: int) -> None:
        """As if `add_doorbell` had not been."""
        self._check(lib.pv_kvm_no_doorbell(self.native, fd, device << 16 | queue))

    def add_mmio_doorbell(self, fd: int, gpa: int, queue: int) -> None:
        """The same for a write of `queue` to a virtio-mmio register at `gpa`."""
        self._check(lib.pv_kvm_mmio_doorbell(self.native, fd, gpa, queue))

    def add_line(self, fd: int, line: int) -> None:
        """The kernel raises an interrupt line when `fd` is signalled."""
        self._check(lib.pv_kvm_line(self.native, fd, line))

    def close(self) -> None:
        """After the last vCPU is destroyed."""
        lib.pv_kvm_destroy(self.native)


def capabilities(system_fd: int) -> list[tuple[str, int, int, str]]:
    """(name, least answer needed, answer, use) of what this host needs of KVM."""
    listed, n = [], 0
    while (capability := lib.pv_kvm_capability(n)) != ffi.NULL:
        answer = lib.pv_kvm_check(system_fd, capability.number)
        name, use = ffi.string(capability.name).decode(), ffi.string(capability.use).decode()
        listed.append((name, capability.least, answer, use))
        n += 1
    return listed
