"""A guest without KVM: memory, and a driver of split virtqueues in plain Python (packed: `packed_driver.py`).

It talks to devices as a transport does (``pv_device_*``) and to queues through memory alone, so whatever a
real driver may put there can be put there by hand.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from hypercall_abi import STATUS
from hypercall_abi.virtqueue import DESC_FLAG, RING_FLAG, USED_FLAG, VIRTIO_FEATURE, VIRTIO_STATUS
from paravirt._native import ffi, lib
from paravirt.devices.base import Device
from paravirt.devices.service import ServiceThread
from paravirt.vhost_user.messages import Region

from .waiting import wait_for

if TYPE_CHECKING:
    from .ways import Traced

DESC = struct.Struct("<QIHH")
STARTED = VIRTIO_STATUS.ACKNOWLEDGE | VIRTIO_STATUS.DRIVER | VIRTIO_STATUS.FEATURES_OK
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Segment:
    """One buffer of a chain."""

    gpa: int
    size_bytes: int
    write: bool = False


class FakeGuest:
    """Guest memory at `base_gpa` and the devices plugged in; a context manager that unplugs them."""

    def __init__(self, memory_bytes: int = 8 << 20, base_gpa: int = 0x10_0000) -> None:
        self.base_gpa = base_gpa
        self.native: Any = ffi.new("struct pv_machine *")
        lib.pv_machine_init(self.native)
        self.fd = os.memfd_create("fake-guest", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, memory_bytes)
        self.memory = mmap.mmap(self.fd, memory_bytes)
        self._view = ffi.from_buffer(self.memory)
        assert lib.pv_memory_add(ffi.addressof(self.native, "memory"), base_gpa, memory_bytes, self._view) == 0
        self.service = ServiceThread()
        self._next_gpa = base_gpa
        self._plugged: list[PluggedDevice] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for device in self._plugged:
            device.unplug()
        self.service.close()
        ffi.release(self._view)
        self.memory.close()
        os.close(self.fd)

    def regions(self) -> tuple[Region, ...]:
        """What a vhost-user peer maps."""
        return (Region(self.base_gpa, len(self.memory), int(ffi.cast("uintptr_t", self._view + 0)), self.fd, 0),)

    def take(self, size_bytes: int, align: int = 16) -> int:
        """GPA of memory that no one else uses."""
        gpa = self._next_gpa + -self._next_gpa % align
        self._next_gpa = gpa + size_bytes
        assert self._next_gpa <= self.base_gpa + len(self.memory), "the fake guest is out of memory"
        return gpa

    def read(self, gpa: int, size_bytes: int) -> bytes:
        return self.memory[gpa - self.base_gpa : gpa - self.base_gpa + size_bytes]

    def write(self, gpa: int, data: bytes) -> None:
        self.memory[gpa - self.base_gpa : gpa - self.base_gpa + len(data)] = data

    def place(self, data: bytes, align: int = 16) -> int:
        """GPA of a copy of `data`."""
        gpa = self.take(len(data), align)
        self.write(gpa, data)
        return gpa

    def plug(self, device: Device) -> PluggedDevice:
        """Attaches `device` to virtio-mmio's kind of interrupt, an eventfd."""
        plugged = PluggedDevice(self, device)
        self._plugged.append(plugged)
        plugged.attach()
        return plugged


class PluggedDevice:
    """A device as its driver finds it."""

    def __init__(self, guest: FakeGuest, device: Device) -> None:
        self.guest = guest
        self.device = device
        self.native: Any = ffi.new("struct pv_device *")
        lib.pv_device_init(self.native, guest.native)
        self._fds: list[int] = []

    def attach(self) -> None:
        self.native.mmio = 1
        self.native.interrupt_fd = self._eventfd()
        self.device.attach(self.native)
        for index in range(self.native.queue_count):
            self.native.queues[index].doorbell_fd = self._eventfd()
        if self.traced:
            self.traced.follow(self)

    def _eventfd(self) -> int:
        self._fds.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        return self._fds[-1]

    def unplug(self) -> None:
        """As a machine does it.  More than once is fine."""
        if not self._fds:
            return
        self.set_status(0)
        self.device.detach()
        lib.pv_device_deinit(self.native)
        while self._fds:
            os.close(self._fds.pop())

    @property
    def interrupt_fd(self) -> int:
        return int(self.native.interrupt_fd)

    def set_status(self, status: int) -> int:
        after = ffi.new("uint64_t *")
        assert lib.pv_device_set_status(self.native, status, after) == STATUS.OK
        return int(after[0])

    @property
    def needs_reset(self) -> bool:
        return bool(self.native.state.status & VIRTIO_STATUS.NEEDS_RESET)

    @property
    def fault(self) -> str | None:
        """Id of the rule that the driver broke."""
        return None if self.native.fault == ffi.NULL else ffi.string(self.native.fault).decode()

    def wait_fault(self) -> str | None:
        """The same, once there is one."""
        wait_for(lambda: self.needs_reset, "the device did not fault")
        return self.fault

    def config(self) -> bytes:
        return bytes(ffi.buffer(self.native.config, self.native.config_bytes))

    traced: ClassVar[Traced | None] = None
    """Follows the chains of devices that are plugged in."""
    packed: ClassVar[bool] = False
    """Whether drivers that are not told otherwise want packed queues."""

    def start(self, *, without: int = 0, size: int = 64, packed: bool | None = None) -> list[Driver]:
        """The whole way to DRIVER_OK with every feature but `without`; a driver per queue."""
        from .packed_driver import PackedDriver

        packed = self.packed if packed is None else packed
        features = self.native.offered[0] & ~(without if packed else without | VIRTIO_FEATURE.RING_PACKED)
        self.set_status(0)
        assert lib.pv_device_accept(self.native, 0, features) == STATUS.OK
        assert self.set_status(STARTED) == STARTED
        kind = PackedDriver if packed else Driver
        maxima = [int(self.native.queues[index].maximum) for index in range(self.native.queue_count)]
        drivers = [kind(self, index, min(size, most), features) for index, most in enumerate(maxima)]
        for driver in drivers:
            driver.set_up()
        assert self.set_status(STARTED | VIRTIO_STATUS.DRIVER_OK) & VIRTIO_STATUS.DRIVER_OK
        return drivers


class Driver:
    """The driver's side of a split virtqueue (virtio 2.7)."""

    def __init__(self, device: PluggedDevice, index: int, size: int, features: int) -> None:
        self.guest, self.device, self.index, self.size = device.guest, device, index, size
        self.event_index = bool(features & VIRTIO_FEATURE.EVENT_IDX)
        self.in_order = bool(features & VIRTIO_FEATURE.IN_ORDER)
        self.descriptors = self.guest.place(bytes(16 * size))
        self.available = self.guest.place(bytes(6 + 2 * size))
        self.used = self.guest.place(bytes(6 + 8 * size))
        self._free = list(range(size))
        self._chains: dict[int, list[int]] = {}
        self._rooms: dict[int, int] = {}
        """Of chains that the device has, oldest first: bytes to write."""
        self.doorbells = 0
        self._published = 0
        self._added = 0
        self._seen = 0
        self._fence = threading.Lock()

    def set_up(self) -> None:
        setup = ffi.new("struct pv_queue_setup *")
        setup.queue, setup.size, setup.channel = self.index, self.size, 0xFFFF_FFFF
        setup.descriptors_gpa, setup.driver_gpa, setup.device_gpa = self.descriptors, self.available, self.used
        self.device.guest.native.vcpu_count = max(1, self.device.guest.native.vcpu_count)
        assert lib.pv_device_queue_setup(self.device.native, setup) == STATUS.OK

    # ---- adding chains ----

    def add(self, segments: Sequence[Segment], *, indirect: bool = False) -> int:
        """Puts a chain into the ring, not published yet; its head."""
        where = [self._free.pop(0) for _ in range(1 if indirect else len(segments))]
        if indirect:
            table = self.guest.place(self._table(segments, list(range(len(segments)))))
            self._describe(where[0], table, 16 * len(segments), DESC_FLAG.INDIRECT, 0)
        else:
            packed = self._table(segments, where)
            for number, index in enumerate(where):
                self.guest.write(self.descriptors + 16 * index, packed[16 * number : 16 * number + 16])
        self._chains[where[0]] = where
        self._rooms[where[0]] = sum(s.size_bytes for s in segments if s.write)
        self.offer(where[0])
        return where[0]

    def _table(self, segments: Sequence[Segment], where: list[int]) -> bytes:
        packed = b""
        for number, s in enumerate(segments):
            last = number == len(segments) - 1
            flags = (DESC_FLAG.WRITE if s.write else 0) | (0 if last else DESC_FLAG.NEXT)
            packed += DESC.pack(s.gpa, s.size_bytes, flags, 0 if last else where[number + 1])
        return packed

    def _describe(self, index: int, gpa: int, size_bytes: int, flags: int, following: int) -> None:
        self.guest.write(self.descriptors + 16 * index, DESC.pack(gpa, size_bytes, flags, following))

    def offer(self, head: int) -> None:
        """Puts `head` into the available ring, whatever it is."""
        self._put16(self.available + 4 + 2 * (self._added % self.size), head)
        self._added += 1

    def show(self) -> None:
        """Makes what was added visible, and does not ring."""
        self._published = self._added
        self._put16(self.available + 2, self._added & 0xFFFF)

    def publish(self) -> None:
        """Makes what was added visible and rings if the device asked for it."""
        before = self._published
        self.show()
        with self._fence:  # a full barrier: the index is written before the wish is read
            pass
        if self._wants_doorbell(before):
            self.doorbells += 1
            os.eventfd_write(int(self.device.native.queues[self.index].doorbell_fd), 1)

    def _wants_doorbell(self, before: int) -> bool:
        if not self.event_index:
            return not self._get16(self.used) & USED_FLAG.NO_NOTIFY
        event = self._get16(self.used + 4 + 8 * self.size)
        return (self._added - event - 1) & 0xFFFF < self._added - before

    # ---- getting them back ----

    def collect(self) -> dict[int, int]:
        """Chains used since the last look: head → length."""
        found: dict[int, int] = {}
        while self._get16(self.used + 2) != self._seen & 0xFFFF:
            at = self.used + 4 + 8 * (self._seen % self.size)
            head, length = struct.unpack("<II", self.guest.read(at, 8))
            for one, written in self.returned(head, length):
                assert one not in found
                self._free += self._chains.pop(one)
                found[one] = written
                self._seen += 1
        return found

    def returned(self, head: int, written_bytes: int) -> list[tuple[int, int]]:
        """The chains that an entry stands for, oldest first, and what was written to each."""
        assert head in self._rooms, f"{head} was not given"
        before = list(self._rooms)[: list(self._rooms).index(head)] if self.in_order else []
        chains = [(one, self._rooms.pop(one)) for one in before]
        assert self._rooms.pop(head) >= written_bytes
        return [*chains, (head, written_bytes)]

    def wait(self, count: int = 1, *, interrupts: bool = True) -> dict[int, int]:
        """Waits for `count` chains, asleep until the device interrupts (or looking all the time)."""
        found = self.collect()
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count:
            assert not self.device.needs_reset, f"the device faulted: {self.device.fault}"
            assert time.monotonic() < deadline, f"{len(found)} of {count} chains came back"
            if interrupts:
                self._sleep()
            found |= self.collect()
        return found

    def _sleep(self) -> None:
        if self.event_index:
            self._put16(self.available + 4 + 2 * self.size, self._seen & 0xFFFF)
        with self._fence:  # the wish is written before the index is read
            pass
        if self._get16(self.used + 2) == self._seen & 0xFFFF:
            ready = select.select([self.device.interrupt_fd], [], [], PATIENCE_S / 2)[0]
            assert ready, "no interrupt came"
            os.eventfd_read(self.device.interrupt_fd)

    def mute(self) -> None:
        """Asks for no interrupts (without the event index)."""
        self._put16(self.available, RING_FLAG.AVAIL_NO_INTERRUPT)

    def _get16(self, gpa: int) -> int:
        at = gpa - self.guest.base_gpa
        return int.from_bytes(self.guest.memory[at : at + 2], "little")

    def _put16(self, gpa: int, value: int) -> None:
        self.guest.write(gpa, (value & 0xFFFF).to_bytes(2, "little"))
