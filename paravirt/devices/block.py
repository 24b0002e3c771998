"""virtio-blk over a raw file or a block device: finds out what it is and hands it to the C core.

Requests, threads and I/O are ``native/block.c``; here a disk is opened, locked, measured and described.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import Constants, build
from ..attachments.block import Disk
from ..attachments.block_served import ServedDisk
from ..config import PAGE_BYTES, IoEngine
from ..errors import ConfigError, DiskNotWritable, HostCallFailed
from .base import QUEUE_SIZE, VIRTIO_FEATURE, Device, counted
from .disk_file import SECTOR_BYTES, open_disk

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine

BLOCK_FEATURE = Constants("BLOCK_F")
ERROR_BYTES = 200
BURST_NS = 100_000_000  # what a limit allows in that time may go at once
ENGINES = {"auto": lib.PV_AIO_AUTO, "uring": lib.PV_AIO_URING, "threads": lib.PV_AIO_THREADS}


class BlockDevice(Device):
    """A disk with `queues` queues.  `poll_ns` bounds how long their threads look for work before they sleep.

    `failures` are for tests: which ``read``, ``write`` and ``flush``, counted from 1, fails with an I/O error.
    """

    type = lib.PV_DEVICE_TYPE_BLOCK
    subject = "sector"

    def __init__(
        self,
        name: str,
        disk: Disk,
        engine: IoEngine = "auto",
        poll_ns: int = 0,
        *,
        queues: int = 1,
        failures: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__(name)
        self.disk = disk
        self.read_only = disk.read_only
        self._engine = engine
        self._poll_ns = poll_ns
        self.queue_sizes = (QUEUE_SIZE,) * queues
        self._failures = failures
        self._capacity_sectors = 0
        self._fds: list[int] = []
        self._native: Any = None
        self._last: dict[str, int] = {}

    def features(self) -> int:
        """What the disk can do; a read-only one offers nothing that changes it (virtio 5.2.5.2)."""
        f = BLOCK_FEATURE
        common = f.SEG_MAX | f.BLK_SIZE | f.TOPOLOGY | f.FLUSH | VIRTIO_FEATURE.RING_RESET
        if len(self.queue_sizes) > 1:
            common |= f.MQ
        return common | (f.RO if self.disk.read_only else f.DISCARD | f.WRITE_ZEROES | f.CONFIG_WCE)

    def config(self) -> bytes:
        """Capacity, and the limits that native/block.h states."""
        values = {
            "capacity_sectors": self._capacity_sectors,
            "seg_max": QUEUE_SIZE - 2,  # header and status take one each
            "block_bytes": SECTOR_BYTES,
            "physical_block_exponent": (PAGE_BYTES // SECTOR_BYTES).bit_length() - 1,
            "min_io_blocks": 1,
            "writeback": not self.disk.writethrough,
            "queues": len(self.queue_sizes),
        }
        if not self.disk.read_only:
            values |= {
                "max_discard_sectors": lib.PV_BLOCK_DISCARD_SECTORS,
                "max_discard_segments": lib.PV_BLOCK_RANGES,
                "discard_sector_alignment": PAGE_BYTES // SECTOR_BYTES,
                "max_write_zeroes_sectors": lib.PV_BLOCK_ZEROES_SECTORS,
                "max_write_zeroes_segments": lib.PV_BLOCK_RANGES,
                "write_zeroes_may_unmap": 1,
            }
        return build("block_config", **values)

    def config_writable_from(self) -> int:
        """The field writeback, and no more (virtio 5.2.5)."""
        return int(ffi.offsetof("struct pv_block_config", "writeback"))

    def config_writable_bytes(self) -> int:
        """One byte; without CONFIG_WCE what is written there does not stay."""
        return 1

    def request_name(self, queue: int, kind: int) -> str:
        """As the ABI has it."""
        return Constants("BLOCK_REQUEST").name_of(kind).lower()

    def attach(self, native: Any) -> None:
        """Opens the disk and starts its thread.  Raises DiskError, HostCallFailed."""
        fd, size_bytes = open_disk(self.disk)
        self._fds = [fd]
        self._capacity_sectors = size_bytes // SECTOR_BYTES
        super().attach(native)
        error = ffi.new("char[]", ERROR_BYTES)
        self._native = lib.pv_block_create(native, self._options(fd), error, ERROR_BYTES)
        if self._native == ffi.NULL:
            self._native = None
            hint = "; use the engine auto or threads" if self._engine == "uring" else ""
            raise HostCallFailed(f"disk {self.name!r}: {ffi.string(error).decode()}{hint}")

    def _options(self, fd: int) -> Any:
        options = ffi.new("struct pv_block_options *")
        options.fd = fd
        options.unaligned_fd, options.alignment_bytes = -1, 1
        if self.disk.direct:
            self._set_direct(options, fd)
        options.engine = ENGINES[self._engine]
        options.read_only, options.writethrough = self.disk.read_only, self.disk.writethrough
        options.limit.operations_per_second = self.disk.operations_per_second
        options.limit.bytes_per_second = self.disk.bytes_per_second
        options.limit.burst_ns = BURST_NS
        for kind, nth in self._failures.items():
            setattr(options.failures, kind, nth)
        options.capacity_sectors = self._capacity_sectors
        options.poll_ns = self._poll_ns
        options.id = self.name.encode()[: lib.PV_BLOCK_ID_BYTES]
        return options

    def _set_direct(self, options: Any, fd: int) -> None:
        """The locked descriptor keeps going through the page cache; a second one passes it by."""
        flags = (os.O_RDONLY if self.disk.read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_DIRECT
        try:
            self._fds.append(os.open(f"/proc/self/fd/{fd}", flags))
        except OSError as error:
            raise HostCallFailed(
                f"disk {self.name!r}: its file system refuses O_DIRECT ({error.strerror}); leave ,direct out"
            ) from error
        options.fd, options.unaligned_fd = self._fds[-1], fd
        options.alignment_bytes = PAGE_BYTES  # no file system asks for more

    @property
    def capacity_bytes(self) -> int:
        """As the driver sees it.  While attached."""
        return self._capacity_sectors * SECTOR_BYTES

    def file_bytes(self) -> int:
        """Whole sectors of the file as it is now.  While attached."""
        return os.lseek(self._fds[0], 0, os.SEEK_END) // SECTOR_BYTES * SECTOR_BYTES

    def grow(self, size_bytes: int | None = None) -> int:
        """The file becomes so large, if it is not, and the driver is told; None: as large as it is.  The size then.

        Any thread but the machine's own.  Raises ConfigError, DiskNotWritable.
        """
        now_bytes = self.capacity_bytes
        if size_bytes is None:
            size_bytes = self.file_bytes()
        if size_bytes < now_bytes or size_bytes % SECTOR_BYTES:
            raise ConfigError(
                f"disk {self.name!r} cannot become {size_bytes} bytes: under a guest it only grows, by sectors of "
                f"{SECTOR_BYTES}, and it has {now_bytes}"
            )
        try:
            if os.lseek(self._fds[0], 0, os.SEEK_END) < size_bytes:
                os.ftruncate(self._fds[0], size_bytes)
        except OSError as error:
            raise DiskNotWritable(
                f"disk {self.name!r}: {self.disk.path} cannot grow to {size_bytes} bytes: {error.strerror}; "
                "make room, or let who owns it grow it first"
            ) from error
        self._capacity_sectors = size_bytes // SECTOR_BYTES
        lib.pv_block_grow(self._native, self._capacity_sectors)
        return size_bytes

    def detach(self) -> None:
        """Ends the thread and closes the disk."""
        if self._native is not None:
            self._last = self.statistics()
            lib.pv_block_destroy(self._native)
            self._native = None
        while self._fds:
            with suppress(OSError):  # an error of earlier writes; who wanted to know of it sent FLUSH
                os.close(self._fds.pop())

    @property
    def engine(self) -> str:
        """Who does the I/O: ``uring`` or ``threads``.  While attached."""
        return "uring" if lib.pv_block_engine(self._native) == lib.PV_AIO_URING else "threads"

    def statistics(self) -> dict[str, int]:
        """The fields of ``struct pv_block_statistics``: of all queues."""
        if self._native is None:
            return self._last
        return counted("block", self._native)


def make(planned: PlannedDevice, machine: Machine) -> Device:
    """The disk that was attached."""
    config, disk = machine.config, planned.attachment
    if isinstance(disk, ServedDisk):
        from .block_served import ServedBlockDevice

        poll_ns = config.budgets.poll_ns
        return ServedBlockDevice(planned.name, disk, machine.memory.regions, machine.fail, poll_ns=poll_ns)
    assert isinstance(disk, Disk)
    queues = min(disk.queues or config.vcpus, int(lib.PV_MAX_QUEUES))
    return BlockDevice(planned.name, disk, config.io_engine, config.budgets.poll_ns, queues=queues)
