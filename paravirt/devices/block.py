"""virtio-blk over a raw file or a block device: finds out what it is and hands it to the C core.

Requests, threads and I/O are ``native/block.c``; here a disk is opened, locked, measured and described.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import Constants, build
from ..attachments.block import Disk
from ..config import IoEngine
from ..errors import (
    DiskBusy,
    DiskEmpty,
    DiskNotFound,
    DiskNotWritable,
    DiskOddSize,
    DiskUnreadable,
    HostCallFailed,
)
from .base import QUEUE_SIZE, VIRTIO_FEATURE, Device

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine

BLOCK_FEATURE = Constants("BLOCK_F")
SECTOR_BYTES = 512
PAGE_BYTES = 4096
ERROR_BYTES = 200
BURST_NS = 100_000_000  # what a limit allows in that time may go at once
ENGINES = {"auto": lib.PV_AIO_AUTO, "uring": lib.PV_AIO_URING, "threads": lib.PV_AIO_THREADS}


def open_disk(disk: Disk) -> tuple[int, int]:
    """A descriptor of the disk's file, locked, and its size in bytes.

    A writer excludes every other user, readers share.  Raises the errors of a disk.
    """
    try:
        _check_kind(os.stat(disk.path).st_mode, disk)
        fd = os.open(disk.path, (os.O_RDONLY if disk.read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(disk, error) from error
    try:
        _lock(fd, disk)
        return fd, _size(fd, disk)
    except BaseException:
        os.close(fd)
        raise


def _check_kind(mode: int, disk: Disk) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise DiskUnreadable(
            f"disk {disk.name!r}: {disk.path} is neither a file nor a block device; give a raw disk image"
        )


def _refused(disk: Disk, error: OSError) -> Exception:
    what = f"disk {disk.name!r}: {disk.path}"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return DiskNotFound(f"{what} does not exist; make it, for example by: {_truncate(disk, '64M')}")
    if not disk.read_only and os.access(disk.path, os.R_OK, effective_ids=True):
        return DiskNotWritable(f"{what} may not be written ({error.strerror}); attach it read-only with ,ro")
    return DiskUnreadable(f"{what} cannot be opened: {error.strerror}")


def _truncate(disk: Disk, size: str) -> str:
    from shlex import quote  # only for an error

    return f"truncate -s {size} {quote(str(disk.path))}"


def _lock(fd: int, disk: Disk) -> None:
    wanted = fcntl.LOCK_SH if disk.read_only else fcntl.LOCK_EX
    try:
        fcntl.flock(fd, wanted | fcntl.LOCK_NB)
    except BlockingIOError as error:
        other = "is being written by another machine" if disk.read_only else "is in use by another machine"
        raise DiskBusy(f"disk {disk.name!r}: {disk.path} {other}; stop that one or give it a copy") from error
    except OSError:
        pass  # a file system without locks: who uses such a one looks after it


def _size(fd: int, disk: Disk) -> int:
    size = os.lseek(fd, 0, os.SEEK_END)
    if size == 0:
        raise DiskEmpty(
            f"disk {disk.name!r}: {disk.path} is empty; give it a size, for example by: {_truncate(disk, '64M')}"
        )
    if size % SECTOR_BYTES:
        raise DiskOddSize(
            f"disk {disk.name!r}: {disk.path} has {size} bytes, not a multiple of {SECTOR_BYTES}; "
            f"fill it up by: {_truncate(disk, str(size + -size % SECTOR_BYTES))}"
        )
    return size


class BlockDevice(Device):
    """A disk with `queues` queues.  `poll_ns` bounds how long their threads look for work before they sleep.

    `track` is the disk's track in a trace (``struct pv_trace *``), or None.  `failures` are for tests: which
    ``read``, ``write`` and ``flush``, counted from 1, fails with an I/O error.
    """

    type = lib.PV_DEVICE_TYPE_BLOCK

    def __init__(
        self,
        name: str,
        disk: Disk,
        engine: IoEngine = "auto",
        poll_ns: int = 0,
        track: Any = None,
        *,
        queues: int = 1,
        failures: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__(name)
        self.disk = disk
        self._engine = engine
        self._poll_ns = poll_ns
        self._track = track
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
        options.trace = self._track or ffi.NULL
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
        """Requests, errors, bytes, throttles, batches, interrupts, polls, poll_ns, sleeps: of all queues."""
        if self._native is None:
            return self._last
        counts = ffi.new("struct pv_block_statistics *")
        lib.pv_block_get_statistics(self._native, counts)
        return {name: getattr(counts, name) for name, _ in ffi.typeof("struct pv_block_statistics").fields}


def make(planned: PlannedDevice, machine: Machine) -> BlockDevice:
    """The disk that was attached."""
    config, disk = machine.config, planned.attachment
    assert isinstance(disk, Disk)
    track = machine.track(f"disk {planned.name}")
    queues = min(disk.queues or config.vcpus, int(lib.PV_MAX_QUEUES))
    return BlockDevice(planned.name, disk, config.io_engine, config.budgets.poll_ns, track, queues=queues)
