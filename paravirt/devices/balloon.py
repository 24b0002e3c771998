"""virtio-balloon: the host's wish, pages that go and come, the guest's own statistics (virtio 5.5).

What is done with pages is ``native/balloon.c``'s.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import Constants, build
from ..config import PAGE_BYTES
from .base import QUEUE_SIZE, PythonDevice
from .queue import Chain, Queue
from .service import ServiceThread

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine

FEATURE = Constants("BALLOON_F")
STAT = Constants("BALLOON_STAT")
INFLATE, DEFLATE, STATISTICS = 0, 1, 2
# Reports have 4 in the specification; drivers that leave FREE_PAGE_HINT's queue out of their count have 3.
PAGES_MOST = (1 << 32) - 1
ONE_STAT = struct.Struct("<HQ")
STATS_BYTES = 64 * ONE_STAT.size  # what of a driver's statistics is looked at


class BalloonDevice(PythonDevice):
    """Wants `target_bytes` of the guest's memory, until `want` says otherwise."""

    type = lib.PV_DEVICE_TYPE_BALLOON
    queue_sizes = (QUEUE_SIZE,) * 5

    def __init__(self, name: str, service: ServiceThread, machine: Any, target_bytes: int = 0) -> None:
        super().__init__(name, service)
        self._machine = machine
        self._target_bytes = target_bytes
        self._held_bytes = 0
        self._told: dict[str, int] = {}
        self._waiting: Chain | None = None  # the driver's room for statistics, until newer ones are wanted
        self._refresh = False

    def features(self) -> int:
        """All but hints and poison."""
        f = FEATURE
        return f.MUST_TELL_HOST | f.STATS_VQ | f.DEFLATE_ON_OOM | f.PAGE_REPORTING

    def config(self) -> bytes:
        """The wish; what is in the balloon is the driver's to say."""
        return build("balloon_config", wanted_pages=self._wanted_pages())

    def config_writable_from(self) -> int:
        """What is in the balloon."""
        return int(ffi.offsetof("struct pv_balloon_config", "actual_pages"))

    def _wanted_pages(self) -> int:
        return min(self._target_bytes // PAGE_BYTES, PAGES_MOST)

    def want(self, target_bytes: int) -> None:
        """Tells the driver of another wish.  Any thread."""
        self._target_bytes = target_bytes
        if self._native is not None:
            pages = struct.pack("<I", self._wanted_pages())
            lib.pv_device_set_config(self._native, ffi.from_buffer(pages), len(pages))

    def reset(self) -> None:
        """A driver that begins anew has nothing in the balloon."""
        super().reset()
        lib.pv_memory_moved(self._machine, 0, self._held_bytes)
        self._held_bytes, self._waiting, self._refresh = 0, None, False

    def serve(self, queue: Queue) -> bool:
        """As the base does, but a chain for statistics stays here until newer ones are wanted."""
        return self._take_statistics(queue) if queue.index == STATISTICS else super().serve(queue)

    def _take_statistics(self, queue: Queue) -> bool:
        queue.disarm()
        if self._waiting is not None and self._refresh:
            self._refresh = False
            queue.stage(self._waiting)
            self._waiting = None
        while self._waiting is None and (chain := queue.pop()) is not None:
            self._waiting = chain  # one at a time (virtio 5.5.6.3)
            self._told = dict(_statistics(chain.read(0, STATS_BYTES)))
        queue.tell()
        return queue.arm() and self._waiting is None

    def handle(self, queue: int, chain: Chain) -> int | None:
        """Pages that go, come, or are reported."""
        if queue not in (INFLATE, DEFLATE):
            lib.pv_balloon_report(self._machine, chain.native)
            return 0
        moved = ffi.new("uint64_t *")
        rule = lib.pv_balloon_move(self._machine, chain.native, queue == INFLATE, moved)
        if rule != ffi.NULL:
            self.fault(rule)
            return None
        self._held_bytes = max(0, self._held_bytes + (moved[0] if queue == INFLATE else -moved[0]))
        return 0

    def statistics(self) -> dict[str, int]:
        """What the guest told last, and its balloon; newer ones are asked for, and there the next time."""
        self._refresh = True
        if self._waiting is not None and self.queues:
            with suppress(OSError):  # a device that is just taken away has no doorbell any more
                os.eventfd_write(self.queues[STATISTICS].doorbell_fd, 1)
        pages = struct.unpack_from("<I", ffi.buffer(self._native.config), 4)[0] if self._native is not None else 0
        return {**super().statistics(), "actual_bytes": pages * PAGE_BYTES, **self._told}


def _statistics(data: bytes) -> list[tuple[str, int]]:
    """Those whose tags are known, by name with its unit."""
    units = ("bytes", "bytes", "count", "count", "bytes", "bytes", "bytes", "bytes", "count", "count")
    whole = data[: len(data) - len(data) % ONE_STAT.size]
    return [
        (f"guest_{STAT.name_of(tag).lower()}" + ("_bytes" if units[tag] == "bytes" else ""), value)
        for tag, value in ONE_STAT.iter_unpack(whole)
        if tag < len(units)
    ]


def make(planned: PlannedDevice, machine: Machine) -> BalloonDevice:
    """One of these for `machine`."""
    device = BalloonDevice(planned.name, machine.devices.service, machine.native, machine.balloon_target_bytes)
    return device
