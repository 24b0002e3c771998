"""A virtio device: its status machine (DEV-1 to DEV-17), and what its back end does to the driver.

A driver's step answers with a status of the ABI.  What the device's back end is asked is listed in `events`;
when it takes chains, gives them back and changes its configuration is for the judge to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..conventions import STATUS
from ..services.event import CHANNELS
from ..virtqueue import VIRTIO_FEATURE, VIRTIO_STATUS
from .packed import PackedVirtqueue
from .virtqueue import Areas, Broken, Buffers, Virtqueue

if TYPE_CHECKING:
    from .machine import Machine

ACKNOWLEDGE, DRIVER = VIRTIO_STATUS.ACKNOWLEDGE, VIRTIO_STATUS.DRIVER
FEATURES_OK, DRIVER_OK = VIRTIO_STATUS.FEATURES_OK, VIRTIO_STATUS.DRIVER_OK
NEEDS_RESET, FAILED = VIRTIO_STATUS.NEEDS_RESET, VIRTIO_STATUS.FAILED
LADDER = (ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK)
ALL_BITS = sum(LADDER) | NEEDS_RESET | FAILED
NO_CHANNEL = 0xFFFF_FFFF
Binding = tuple[int, int]
"""vCPU and channel."""
UNBOUND: Binding = (0, NO_CHANNEL)


@dataclass(eq=False)
class VirtioDevice:
    """A device after reset; `maxima` are the largest sizes of its queues, 0 for one that does not exist."""

    machine: Machine
    name: str
    type: int
    offered: tuple[int, int]
    maxima: tuple[int, ...]
    config: bytearray
    writable_from: int
    """First byte of the configuration that the driver may write, up to its end."""
    mmio: bool = False
    """Reached by registers: there is no such device for the calls (DEV-13)."""
    flags: int = 0
    """Of its device_info."""
    generation: int = 0
    events: list[tuple[object, ...]] = field(default_factory=list)
    bits: int = 0
    accepted: list[int] = field(default_factory=lambda: [0, 0])
    queues: dict[int, Virtqueue] = field(default_factory=dict)
    bindings: dict[int, Binding] = field(default_factory=dict)
    """Of queues."""
    config_binding: Binding = UNBOUND

    # ---- what it is ----

    @property
    def running(self) -> bool:
        """Whether its back end is at work."""
        return bool(self.bits & DRIVER_OK) and not self.bits & NEEDS_RESET

    def maximum(self, queue: int) -> int:
        """Descriptors that a queue can have; 0: no such queue."""
        return self.maxima[queue] if queue < len(self.maxima) else 0

    def agreed(self, feature: int) -> bool:
        """Whether a feature of the first 64 was agreed."""
        return bool(self.bits & FEATURES_OK and self.accepted[0] & feature)

    def next_step(self) -> int:
        """The status that a driver that does everything right writes next; 0 at the end."""
        missing = [bit for bit in LADDER if not self.bits & bit]
        return self.bits | missing[0] if missing else 0

    # ---- the driver's steps ----

    def accept(self, block: int, features: int) -> int:
        """device.accept."""
        if block > 1:
            return STATUS.INVALID
        if self.bits & FEATURES_OK:  # DEV-4
            return STATUS.BAD_STATE
        self.accepted[block] = features
        return STATUS.OK

    def _features_agree(self) -> bool:  # DEV-3
        wanted, offered = (b[0] | b[1] << 64 for b in (self.accepted, self.offered))
        return wanted & ~offered == 0 and bool(wanted & VIRTIO_FEATURE.VERSION_1)

    def reset(self) -> None:
        """DEV-15: queues, bindings and accepted features are forgotten."""
        if self.bits & DRIVER_OK:
            self.events.append(("reset",))
        self.bits, self.accepted, self.config_binding = 0, [0, 0], UNBOUND
        self.queues.clear()
        self.bindings.clear()

    def set_status(self, status: int) -> int:
        """device.set_status; the status afterwards is in `bits` (DEV-1)."""
        if status == 0:
            self.reset()
            return STATUS.OK
        added = status & ~self.bits
        if self.bits & ~status & ~NEEDS_RESET or status & ~ALL_BITS or added & NEEDS_RESET:  # DEV-2
            return STATUS.INVALID
        if added & ~FAILED and self.bits & (NEEDS_RESET | FAILED):  # DEV-9
            return STATUS.BAD_STATE
        for bit, needs in ((DRIVER, ACKNOWLEDGE), (FEATURES_OK, DRIVER)):
            if status & bit and not status & needs:
                return STATUS.BAD_STATE
        if added & DRIVER_OK and not self.bits & FEATURES_OK:
            return STATUS.BAD_STATE
        if added & FEATURES_OK and not self._features_agree():
            status &= ~FEATURES_OK
        self.bits |= status  # NEEDS_RESET stays, whether the driver writes it or not
        if added & DRIVER_OK:
            self.events.append(("activate",))
        return STATUS.OK

    def _binding_exists(self, vcpu: int, channel: int) -> bool:
        return vcpu < len(self.machine.vcpus) and (channel < self.machine.limit(CHANNELS) or channel == NO_CHANNEL)

    def queue_setup(
        self, queue: int, size: int, areas: Areas, vcpu: int = 0, channel: int = NO_CHANNEL, reserved: bytes = b""
    ) -> int:
        """device.queue_setup: DEV-5, DEV-10, in the order of CALL-6."""
        if not self.maximum(queue) or not self._binding_exists(vcpu, channel):
            return STATUS.NOT_FOUND
        if any(reserved):  # CALL-14
            return STATUS.INVALID
        packed = self.agreed(VIRTIO_FEATURE.RING_PACKED)
        status = areas.status(self.machine.memory, size, self.maximum(queue), packed=packed)
        if status != STATUS.OK:
            return status
        ready = self.bits & FEATURES_OK and not self.bits & (FAILED | NEEDS_RESET)
        late = self.bits & DRIVER_OK and not self.agreed(VIRTIO_FEATURE.RING_RESET)
        if not ready or late or queue in self.queues:  # DEV-5
            return STATUS.BAD_STATE
        self.queues[queue] = (PackedVirtqueue if packed else Virtqueue)(
            self.machine.memory, areas, size, self.accepted[0]
        )
        self.bindings[queue] = (vcpu, channel)
        if self.bits & DRIVER_OK:
            self.events.append(("queue", queue, True))
        return STATUS.OK

    def queue_reset(self, queue: int) -> int:
        """device.queue_reset: DEV-17."""
        if not self.maximum(queue):
            return STATUS.NOT_FOUND
        if queue not in self.queues or not self.agreed(VIRTIO_FEATURE.RING_RESET):
            return STATUS.BAD_STATE
        if self.bits & DRIVER_OK:
            self.events.append(("queue", queue, False))
        del self.queues[queue]
        self.bindings.pop(queue, None)
        return STATUS.OK

    def bind(self, queue: int | None, vcpu: int, channel: int) -> int:
        """device.bind of a queue, or with None of the configuration (DEV-16)."""
        if (queue is not None and not self.maximum(queue)) or not self._binding_exists(vcpu, channel):
            return STATUS.NOT_FOUND
        if queue is None:
            self.config_binding = (vcpu, channel)
        else:
            self.bindings[queue] = (vcpu, channel)
        return STATUS.OK

    def config_read(self, offset: int, size_bytes: int) -> bytes | None:
        """device.config_read; None is INVALID (DEV-6)."""
        return bytes(self.config[offset : offset + size_bytes]) if offset + size_bytes <= len(self.config) else None

    def config_write(self, offset: int, data: bytes) -> int:
        """device.config_write."""
        if offset + len(data) > len(self.config) or (data and offset < self.writable_from):  # DEV-6
            return STATUS.INVALID
        self.config[offset : offset + len(data)] = data
        if data:
            self.events.append(("config", offset, len(data)))
        return STATUS.OK

    def notify(self, queue: int) -> int:
        """device.notify, and the doorbell, which tells nobody the status (DEV-8)."""
        if not self.maximum(queue):
            return STATUS.NOT_FOUND
        if not self.running or queue not in self.queues:  # DEV-11
            return STATUS.BAD_STATE
        self.events.append(("notify", queue))
        return STATUS.OK

    # ---- what the device does ----

    def pop(self, queue: int) -> tuple[int, Buffers, Buffers] | None:
        """The next chain of a queue, if the device is running; a fault of the driver's stops it (DEV-7)."""
        if not self.running or queue not in self.queues:
            return None
        try:
            return self.queues[queue].pop()
        except Broken:
            self.needs_reset()
            raise

    def tell(self, queue: int) -> None:
        """The channel of a queue, if the driver wants to know of what was used."""
        if queue in self.queues and self.queues[queue].wants_interrupt():
            self._raise(self.bindings.get(queue, UNBOUND))

    def needs_reset(self) -> None:
        """The device gives up: told once, by the configuration's channel."""
        if self.running:
            self.bits |= NEEDS_RESET
            self._raise(self.config_binding)

    def set_config(self, config: bytes) -> None:
        """The host changes the configuration; a driver that is not running yet is not told."""
        self.config[:] = config
        self.generation += 1
        if self.bits & DRIVER_OK:
            self._raise(self.config_binding)

    def _raise(self, binding: Binding) -> None:
        if binding[1] != NO_CHANNEL:
            self.machine.raise_channel(*binding)
