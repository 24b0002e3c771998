"""The virtio devices of a machine: back ends from ``devices/``, wired to one transport.

The status machine and the queues are C (``native/status.c``, ``native/ring.c``); a back end knows
queues; the transport is chosen here, once: doorbells and interrupts of calls or of virtio-mmio.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, cast

from ._native import ffi, lib
from .attachments import Attachment, word_of
from .attachments.pmem import Pmem
from .boot.layout import FIRST_MMIO_LINE, mmio_window_gpa
from .boot.manifest import PlannedDevice, plan_one
from .devices.service import ServiceThread
from .errors import ConfigError, HostLimit, ParavirtError
from .outcome import DeviceStatistics, QueueStatistics
from .platform import Platform

if TYPE_CHECKING:
    from .boot.image import Image
    from .config import MachineConfig
    from .devices.balloon import BalloonDevice
    from .devices.base import Device
    from .machine import Machine

LEAVE_STEP_S = 0.002
ABANDON_S = 0.1  # until it is said once more: who begins to wait just now did not hear it
MMIO_QUEUE_NOTIFY = int(lib.PV_MMIO_QUEUE_NOTIFY)


def over_mmio(config: MachineConfig, image: Image) -> bool:
    """Whether the guest reaches its devices by virtio-mmio; by calls otherwise."""
    return config.transport == "mmio" or (config.transport == "auto" and image.is_plain)


def _look_at(queue: Any) -> QueueStatistics:
    """At a ``struct pv_queue``, while its thread may walk it: nothing here is followed."""
    if not queue.state.enabled:
        return QueueStatistics(0, 0)
    size = queue.state.size
    return QueueStatistics(size, sum(1 for head in range(size) if queue.taken[head].places))


def _count(device: Device, native: Any) -> DeviceStatistics:
    fault = ffi.string(native.last_fault).decode() if native.last_fault != ffi.NULL else None
    queues = tuple(_look_at(native.queues[number]) for number in range(native.queue_count))
    return DeviceStatistics(
        device.name, native.type, native.interrupts, native.doorbells, fault, device.statistics(), queues
    )


class VirtioDevices:
    """All devices of `machine`; `mmio` chooses the transport."""

    def __init__(self, machine: Machine, mmio: bool) -> None:
        self._machine = machine
        self._mmio = mmio
        self._fds: list[int] = []
        self._ways: list[Any] = []  # where the trace follows chains, for as long as there are queues
        self.service = ServiceThread()
        """Serves the slow devices; it runs from the first one's activation on."""
        self.devices: list[tuple[Device, Any]] = []
        self._arriving = threading.Condition(threading.Lock())  # an index is one device's; taken for moments
        self._coming: dict[str, Device | None] = {}  # by name, under it: what is being attached by a thread without it
        self._ending = threading.Lock()  # of back ends of devices that have gone; nothing is waited for under _present
        self._present = threading.Lock()  # of the list; who holds it finds back ends that stay
        self._last: dict[int, DeviceStatistics] = {}  # of devices that have gone, by index
        self._open = False  # under _arriving: others may come, and a life of the guest neither begins nor ends
        plain = machine.image.is_plain and machine.accelerator.name == "kvm"
        self.platform = Platform(machine) if plain else None

    def add(self, plan: Sequence[PlannedDevice]) -> None:
        """Makes the devices of `plan`; from then on others may arrive.  Raises DiskError and HostError."""
        most = int(lib.PV_KVM_LINES) - FIRST_MMIO_LINE if self._mmio else int(lib.PV_MAX_DEVICES)
        if len(plan) > most:
            way = "virtio-mmio" if self._mmio else "calls"
            raise HostLimit(f"{len(plan)} devices: over {way} a machine has {most} at most; attach fewer disks")
        for planned in plan:
            device = self._machine.make_device(planned)
            with self._attached(device) as native:
                self._wire(device, native)
        with self._arriving:
            self._open = True

    def _eventfd(self) -> int:
        self._fds.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        return self._fds[-1]

    def _untie(self, native: Any, number: int) -> None:
        fd, native.queues[number].doorbell_fd = native.queues[number].doorbell_fd, -1  # its thread is woken by it
        self._fds.remove(fd)
        os.close(fd)

    @contextmanager
    def _attached(self, device: Device) -> Iterator[Any]:
        """Its ``struct pv_device *``, of no index yet; both end if what is done with it fails."""
        native: Any = ffi.new("struct pv_device *")
        lib.pv_device_init(native, self._machine.native)
        native.interrupt_fd = -1
        try:
            device.attach(native)
            yield native
        except BaseException:
            device.detach()
            lib.pv_device_deinit(native)
            raise

    def _wire(self, device: Device, native: Any) -> None:
        machine, accelerator = self._machine, self._machine.accelerator
        index = native.index = machine.native.device_count
        if self._mmio:
            native.mmio, native.mmio_gpa = 1, mmio_window_gpa(index)
            native.interrupt_fd = self._eventfd()
            accelerator.add_line(native.interrupt_fd, FIRST_MMIO_LINE + index)
        self._tie(native)
        if tracer := machine.tracer:  # read once: who closes the machine takes it away, and then waits for us
            self._ways += tracer.follow(device, native)
        with self._present:
            self.devices.append((device, native))
        lib.pv_device_arrive(native)

    def _tie(self, native: Any) -> None:
        """Has its queues' doorbells signal eventfds: all of them, or none."""
        accelerator = self._machine.accelerator
        with ExitStack() as tied:
            for number in range(native.queue_count):
                fd = native.queues[number].doorbell_fd = self._eventfd()
                tied.callback(self._untie, native, number)
                if self._mmio:
                    accelerator.add_mmio_doorbell(fd, native.mmio_gpa + MMIO_QUEUE_NOTIFY, number)
                else:
                    accelerator.add_doorbell(fd, native.index, number)
                    tied.callback(accelerator.remove_doorbell, fd, native.index, number)
            tied.pop_all()

    def arrive(self, attachment: Attachment) -> None:
        """Attaches a device that the manifest names, if there is one, while the guest runs (DEV-22).

        Any thread but the machine's own.  Raises ConfigError, DeviceNotInManifest, and what its kind raises.
        """
        name, what = attachment.name, f"{word_of(attachment.kind)} {attachment.name!r}"
        if self._mmio:
            raise ConfigError("over virtio-mmio devices do not arrive; attach it from the start")
        if isinstance(attachment, Pmem):
            raise ConfigError(f"the {what} is memory, which does not arrive; attach it from the start")
        self._end_gone()
        with self._arriving:
            self._check_open(what)
            if name in self._coming or any(device.name == name for device, native in self.devices if not native.gone):
                raise ConfigError(f"the machine has a {what}; let it leave first")
            planned = plan_one(self._machine.image, attachment)
            self._coming[name] = None
        try:
            self._bring(planned, what)
        finally:
            with self._arriving:
                del self._coming[name]
                self._arriving.notify_all()

    def _check_open(self, what: str) -> None:
        if not self._open:
            raise ConfigError(
                f"the machine has ended, or its guest begins anew; attach the {what} to another, or once more"
            )
        if self._machine.native.device_count + len(self._coming) > lib.PV_MAX_DEVICES:
            raise HostLimit(f"a machine has had {lib.PV_MAX_DEVICES} devices at most; start it anew")

    def _bring(self, planned: PlannedDevice, what: str) -> None:
        """Attaches the device without any lock, since another program may be waited for (`abandon` ends that)."""
        device = self._machine.make_device(planned)
        with self._arriving:
            self._check_open(what)
            self._coming[planned.name] = device
        try:
            with self._attached(device) as native, self._arriving:
                self._check_open(what)
                self._wire(device, native)
                self._machine.plan = (*self._machine.plan, planned)
        except ParavirtError as error:
            if device.abandoned:
                raise ConfigError(
                    f"the machine ended before the {what} was there; attach it to another, or once more if it was reset"
                ) from error
            raise

    def abandon(self) -> None:
        """Devices that are arriving and wait for another program are given up."""
        with self._arriving:
            self._abandon()

    def _abandon(self) -> None:
        for device in self._coming.values():
            if device:
                device.abandon()

    def leave(self, name: str, timeout_s: float) -> bool:
        """Takes the device `name` from the guest (DEV-23).

        False if its driver has not given it back in that time; it is asked to then, and goes when it does.
        Any thread but the machine's own.  Raises ConfigError if there is none.
        """
        self._end_gone()
        with self._arriving:
            found = [native for device, native in self.devices if device.name == name and not native.gone]
            if not self._open or not found or self._mmio or found[0].region_bytes:
                raise ConfigError(f"the machine has no device {name!r} that could leave; see its manifest")
            native = found[0]
            lib.pv_device_leave(native)
            # A guest that is reset has given it back, too.
            machine, key = self._machine, (native.type, name)
            machine.plan = tuple(planned for planned in machine.plan if (planned.type, planned.name) != key)
            machine.unplugged.discard(name)
        until = time.monotonic() + timeout_s
        while not lib.pv_device_gone(native):
            if time.monotonic() >= until:
                return False
            time.sleep(LEAVE_STEP_S)
        self._end_gone()
        return True

    def _end_gone(self) -> None:
        """Ends the back ends of devices that left, some of them after whoever asked had waited long enough."""
        with self._ending:
            with self._present:
                new = [each for each in self.devices if lib.pv_device_gone(each[1]) and each[1].index not in self._last]
                self._last |= {native.index: _count(device, native) for device, native in new}
            for device, _ in new:
                device.detach()

    def want(self, target_bytes: int) -> None:
        """Has balloon devices ask for so much memory."""
        with self._present:
            for device, native in self.devices:
                if native.type == lib.PV_DEVICE_TYPE_BALLOON:
                    cast("BalloonDevice", device).want(target_bytes)

    def present(self) -> tuple[tuple[Device, Any], ...]:
        """Those that have not gone, with their ``struct pv_device *``."""
        self._end_gone()
        with self._arriving:
            return tuple((device, native) for device, native in self.devices if not native.gone)

    def grow(self, name: str, size_bytes: int | None = None) -> int:
        """The disk `name` becomes so large while the guest runs, or as large as its file is; its size in bytes.

        Raises ConfigError, DiskNotWritable.
        """
        from .devices.block import BlockDevice

        with self._present:
            for device, native in self.devices:
                if isinstance(device, BlockDevice) and device.name == name and not native.gone:
                    return device.grow(size_bytes)
        raise ConfigError(f"the machine has no disk {name!r} whose file this host serves; see its manifest")

    def set_link(self, name: str, up: bool) -> None:
        """Plugs the cable of the network `name` in or out while the guest runs; its driver is told.  A reset keeps it.

        Raises ConfigError if there is no such network, or its frames are another program's.
        """
        from .devices.net import NetDevice

        with self._present:
            for device, native in self.devices:
                if isinstance(device, NetDevice) and device.name == name and not native.gone:
                    (self._machine.unplugged.discard if up else self._machine.unplugged.add)(name)
                    return device.set_up(up)
        raise ConfigError(f"the machine has no network {name!r} whose frames this host carries; see its manifest")

    def stop(self) -> None:
        """No device works on guest memory afterwards.  The vCPUs have stopped."""
        after = ffi.new("uint64_t *")
        for _, native in self.devices:
            lib.pv_device_set_status(native, 0, after)

    def close(self) -> None:
        """Gives everything back."""
        with self._arriving:
            self._open = False
            while self._coming:
                self._abandon()
                self._arriving.wait(ABANDON_S)
        self.stop()
        with self._ending:
            with self._present:
                ended, self.devices = self.devices, []
            for device, native in ended:
                device.detach()
                lib.pv_device_deinit(native)
        self.service.close()
        if self.platform:
            self.platform.close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def statistics(self) -> tuple[DeviceStatistics, ...]:
        """Counts so far."""
        with self._present:
            return tuple(self._last.get(native.index) or _count(device, native) for device, native in self.devices)
