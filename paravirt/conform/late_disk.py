"""A disk that answers late and in another order than it was asked: what virtio allows and fast hosts rarely do."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from hypercall_abi.devices.virtio_block import BLOCK_REQUEST, BLOCK_STATUS

from .._native import lib
from ..boot.manifest import PlannedDevice
from ..devices.base import Device, PythonDevice
from ..devices.block import BlockDevice
from ..devices.queue import Chain, Queue
from ..devices.service import ServiceThread
from .strict import Injection, StrictMachine

SECTOR_BYTES = 512
HEADER_BYTES = 16
LATE_S = 0.003


class LateDisk(Injection):
    """Every block device."""

    name, rules = "late-disk", ("VQ-12", "DEV-16")
    doc = "disks answer some ms late, several requests at once, the last one first"

    def device(self, device: Device, planned: PlannedDevice, machine: StrictMachine) -> Device:
        """In the place of the C core's."""
        return _LateBlock(device, machine.devices.service) if isinstance(device, BlockDevice) else device


class _LateBlock(PythonDevice):
    """`disk`'s configuration and file, served in Python."""

    type = lib.PV_DEVICE_TYPE_BLOCK

    def __init__(self, disk: BlockDevice, service: ServiceThread) -> None:
        super().__init__(disk.name, service)
        self._disk = disk
        self._fd = -1
        self._waiting: list[tuple[Queue, Chain]] = []
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()  # of what waits: the service thread adds, the timer answers

    def features(self) -> int:
        """Those that are served here."""
        kept = lib.PV_BLOCK_F_RO | lib.PV_BLOCK_F_SEG_MAX | lib.PV_BLOCK_F_BLK_SIZE | lib.PV_BLOCK_F_FLUSH
        return int(self._disk.features() & kept)

    def attach(self, native: object) -> None:
        """Opens the file as the disk would."""
        from ..devices.disk_file import open_disk

        self._fd, size = open_disk(self._disk.disk)
        self._capacity = size // SECTOR_BYTES
        super().attach(native)

    def config(self) -> bytes:
        """The disk's, of the same size."""
        self._disk._capacity_sectors = self._capacity
        return self._disk.config()

    def detach(self) -> None:
        """Closes it."""
        super().detach()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def reset(self) -> None:
        """What waits is forgotten: the driver took it back."""
        super().reset()
        with self._lock:
            timer, self._timer, self._waiting = self._timer, None, []
        if timer:
            timer.cancel()
            if timer is not threading.current_thread():
                timer.join()

    def serve(self, queue: Queue) -> bool:
        """Takes what there is; it is answered later."""
        queue.disarm()
        with self._lock:
            while (chain := queue.pop()) is not None:
                self._waiting.append((queue, chain))
            if self._waiting and self._timer is None:
                self._timer = threading.Timer(LATE_S, self._answer)
                self._timer.daemon = True
                self._timer.start()
        return queue.arm()

    def _answer(self) -> None:
        with self._lock:
            if self._timer is None:
                return
            self._timer = None
            for queue, chain in reversed(self._waiting):
                queue.stage(chain, self.handle(queue.index, chain))
            for queue in {id(queue): queue for queue, _ in self._waiting}.values():
                queue.tell()
            self._waiting = []

    def handle(self, queue: int, chain: Chain) -> int:
        """One request; the bytes written, its status included."""
        head = chain.read(0, HEADER_BYTES)
        kind, sector = int.from_bytes(head[:4], "little"), int.from_bytes(head[8:16], "little")
        status, written = BLOCK_STATUS.IO_ERROR, 0
        with suppress(OSError):
            status, written = self._carry_out(kind, sector * SECTOR_BYTES, chain)
        chain.write(chain.writable_bytes - 1, bytes([status]))
        return chain.writable_bytes if status == BLOCK_STATUS.OK and written else 1

    def _carry_out(self, kind: int, at: int, chain: Chain) -> tuple[int, int]:
        room, sent = chain.writable_bytes - 1, chain.readable_bytes - HEADER_BYTES
        if kind == BLOCK_REQUEST.FLUSH:
            os.fdatasync(self._fd)
            return BLOCK_STATUS.OK, 0
        if kind == BLOCK_REQUEST.GET_ID:
            return BLOCK_STATUS.OK, chain.write(0, self.name.encode()[:20].ljust(20, b"\0"))
        size = room if kind == BLOCK_REQUEST.READ else sent
        if at + size > self._capacity * SECTOR_BYTES or size % SECTOR_BYTES:
            return BLOCK_STATUS.IO_ERROR, 0
        if kind == BLOCK_REQUEST.READ:
            return BLOCK_STATUS.OK, chain.write(0, os.pread(self._fd, room, at))
        if kind == BLOCK_REQUEST.WRITE:
            os.pwrite(self._fd, chain.read(HEADER_BYTES, sent), at)
            return BLOCK_STATUS.OK, 0
        return BLOCK_STATUS.UNSUPPORTED, 0
