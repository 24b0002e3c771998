"""Hosts that get mapped disks wrong: where regions lie, what may be done there, requests."""

from __future__ import annotations

from functools import partial

from tests.conformance.plant import Mutant

_pmem = partial(Mutant, file="paravirt/native/pmem.c")
_mapped = partial(Mutant, file="paravirt/mapped.py")
_layout = partial(Mutant, file="paravirt/boot/layout.py")

MUTANTS = (
    _mapped(
        id="region_anywhere",
        rule="PMEM-1",
        old="self._end_gpa + -self._end_gpa % ALIGNMENT",
        new="self._end_gpa + PAGE_BYTES",
    ),
    _layout(
        id="region_is_executable",
        rule="PMEM-1",
        old="READ_ONLY if disk.disk.read_only else DATA",
        new="(READ_ONLY if disk.disk.read_only else DATA) & ~NO_EXECUTE",
    ),
    Mutant(
        id="region_is_guest_memory",
        rule="PMEM-2",
        file="paravirt/machine.py",
        old="self.accelerator.add_mapped(mapped)",
        new="self.accelerator.add_mapped(mapped)\n"
        'lib.pv_memory_add(ffi.addressof(self.native, "memory"), mapped.gpa, mapped.size_bytes, mapped.hva)',
    ),
    _layout(
        id="stores_to_read_only_regions",
        rule="PMEM-3",
        old="READ_ONLY if disk.disk.read_only else DATA",
        new="DATA",
    ),
    Mutant(
        id="read_only_is_not_said",
        rule="PMEM-3",
        file="paravirt/native/device.c",
        old="device->read_only ? PV_DEVICE_FLAG_READ_ONLY : 0",
        new="0",
    ),
    _pmem(
        id="no_room_for_an_answer_is_fine",
        rule="PMEM-5",
        old="request->chain.writable_bytes < sizeof(struct pv_pmem_response)",
        new="0",
    ),
    _pmem(
        id="every_request_is_a_flush",
        rule="PMEM-5",
        old="known ? result : PV_PMEM_RESULT_FAILED",
        new="result",
    ),
)
