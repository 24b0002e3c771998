"""The regions of mapped disks: files whose pages are guest-physical memory beside RAM, and no guest memory (PMEM-2).

They lie above RAM, each from a multiple of 2 MiB on.  Handing them to vCPUs is the accelerator's, mapping them
for the guest the layout's; requests are ``devices/pmem.py``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ._native import ffi, lib
from .attachments.pmem import Pmem
from .config import PAGE_BYTES
from .errors import DiskLost, HostCallFailed
from .memory import HIGH_RAM_BASE

if TYPE_CHECKING:
    from .boot.manifest import PlannedDevice

EHWPOISON = 133  # of a page that the hardware lost; errno does not name it
ALIGNMENT = int(lib.PV_REGION_ALIGNMENT)


class MappedDisk(NamedTuple):
    """A file and where the guest has it."""

    disk: Pmem
    fd: int
    file_bytes: int
    gpa: int
    size_bytes: int
    """Of the region: whole pages.  What a read-only file lacks to the last one reads as zeros."""
    hva: Any

    def loss(self) -> str:
        """What happened to the file, if that can be seen: it was cut."""
        now = os.fstat(self.fd)
        if not stat.S_ISREG(now.st_mode) or now.st_size >= self.file_bytes:
            return ""
        return f"was cut from {self.file_bytes} to {now.st_size} bytes while the guest had it mapped"


class MappedDisks:
    """Those of `plan`, above the `ranges` (gpa, size in bytes) of RAM.  Raises DiskError, HostCallFailed."""

    def __init__(self, plan: Sequence[PlannedDevice], ranges: Sequence[tuple[int, int]]) -> None:
        self._disks: dict[str, MappedDisk] = {}
        self._end_gpa = max(HIGH_RAM_BASE, *(gpa + size for gpa, size in ranges))
        try:
            for planned in plan:
                if isinstance(planned.attachment, Pmem):
                    self._disks[planned.name] = self._map(planned.attachment)
        except BaseException:
            self.close()
            raise

    def _map(self, disk: Pmem) -> MappedDisk:
        from .devices.disk_file import open_disk, told  # most machines have none

        fd, file_bytes = open_disk(disk, 1 if disk.read_only else PAGE_BYTES)
        size_bytes = file_bytes + -file_bytes % PAGE_BYTES
        hva = lib.pv_region_map(fd, size_bytes, disk.read_only)
        if hva == ffi.NULL:
            os.close(fd)
            raise HostCallFailed(f"{told(disk)} cannot be mapped: {os.strerror(ffi.errno)}; see ulimit -v")
        gpa = self._end_gpa + -self._end_gpa % ALIGNMENT
        self._end_gpa = gpa + size_bytes
        return MappedDisk(disk, fd, file_bytes, gpa, size_bytes, hva)

    def __iter__(self) -> Iterator[MappedDisk]:
        return iter(self._disks.values())

    def __getitem__(self, name: str) -> MappedDisk:
        return self._disks[name]

    def lost(self, result: Any, ended_by: int) -> DiskLost | None:
        """The error in place of what a ``struct pv_exit`` would mean without mapped disks, if they are at fault.

        `ended_by` is the signal that ended the accelerator's process, if it has one and that has ended.
        """
        import signal  # only when something went wrong

        no_page = result.kind == lib.PV_EXIT_ERROR and result.reason in (errno.EFAULT, EHWPOISON)
        if not self._disks or not (no_page or result.kind == lib.PV_EXIT_REGION or ended_by == signal.SIGBUS):
            return None
        from .devices.disk_file import told

        said = [f"{told(mapped.disk)} {loss}" for mapped in self if (loss := mapped.loss())]
        if not said:
            said = [f"{', '.join(told(mapped.disk) for mapped in self)} cannot be read any more"]
        return DiskLost(
            f"{'; '.join(said)}; the machine was ended, look after the file and start it again", rule="PMEM-6"
        )

    def close(self) -> None:
        """Unmaps and closes them.  No vCPU and no device uses them any more."""
        while self._disks:
            _, mapped = self._disks.popitem()
            lib.pv_region_unmap(mapped.hva, mapped.size_bytes)
            os.close(mapped.fd)
