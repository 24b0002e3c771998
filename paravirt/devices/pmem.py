"""virtio-pmem: describes a mapped disk and hands its requests to the C core.

The file is opened and mapped by ``mapped.py``; requests and their thread are ``native/pmem.c``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import Constants, build
from ..errors import HostCallFailed
from .base import IN_ORDER, VIRTIO_FEATURE, Device, counted

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine
    from ..mapped import MappedDisk


class PmemDevice(Device):
    """A mapped disk.

    `sync` makes what was stored durable in place of fdatasync: a C function of a descriptor; for tests.
    """

    type = lib.PV_DEVICE_TYPE_PMEM

    def __init__(self, name: str, mapped: MappedDisk, sync: Any = None) -> None:
        super().__init__(name)
        self.mapped = mapped
        self.read_only = mapped.disk.read_only
        self._sync = sync
        self._native: Any = None
        self._last: dict[str, int] = {}

    def features(self) -> int:
        """Those of its ring."""
        return VIRTIO_FEATURE.RING_RESET | IN_ORDER

    def config(self) -> bytes:
        """Where the region is."""
        return build("pmem_config", start_gpa=self.mapped.gpa, size_bytes=self.mapped.size_bytes)

    def request_name(self, queue: int, kind: int) -> str:
        """As the ABI has it."""
        return Constants("PMEM_TYPE").name_of(kind).lower()

    def attach(self, native: Any) -> None:
        """Starts its thread.  Raises HostCallFailed."""
        super().attach(native)
        native.region_gpa, native.region_bytes = self.mapped.gpa, self.mapped.size_bytes
        options = ffi.new("struct pv_pmem_options *")
        options.fd = self.mapped.fd
        options.size_bytes = self.mapped.file_bytes
        options.sync = self._sync or ffi.NULL
        self._native = lib.pv_pmem_create(native, options)
        if self._native == ffi.NULL:
            self._native = None
            raise HostCallFailed(f"mapped disk {self.name!r}: no thread: {os.strerror(ffi.errno)}; see ulimit -u")

    def detach(self) -> None:
        """Ends the thread."""
        if self._native is not None:
            self._last = self.statistics()
            lib.pv_pmem_destroy(self._native)
            self._native = None

    def statistics(self) -> dict[str, int]:
        """Requests, errors, syncs, sync_ns, interrupts, sleeps, and the size of the region."""
        if self._native is None:
            return self._last
        return counted("pmem", self._native) | {"mapped_bytes": self.mapped.size_bytes}


def make(planned: PlannedDevice, machine: Machine) -> PmemDevice:
    """The mapped disk that was attached."""
    return PmemDevice(planned.name, machine.mapped[planned.name])
