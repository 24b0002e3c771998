"""What the rules DEV-1 to DEV-11 say of a device, in plain Python: the status of each step and its effect."""

from __future__ import annotations

from typing import Any

from hypercall_abi import STATUS
from hypercall_abi.virtqueue import VIRTIO_FEATURE, VIRTIO_STATUS
from tests.paravirt.virtio.bare_device import CONFIG, MAXIMA, OFFERED, WRITABLE_FROM, Areas
from tests.support.fake_machine import RAM_BYTES, RAM_GPA

ACKNOWLEDGE, DRIVER = VIRTIO_STATUS.ACKNOWLEDGE, VIRTIO_STATUS.DRIVER
FEATURES_OK, DRIVER_OK = VIRTIO_STATUS.FEATURES_OK, VIRTIO_STATUS.DRIVER_OK
NEEDS_RESET, FAILED = VIRTIO_STATUS.NEEDS_RESET, VIRTIO_STATUS.FAILED
LADDER = (ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK)
ALL_BITS = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | NEEDS_RESET | FAILED


def _in_ram(gpa: int, size_bytes: int) -> bool:
    return gpa >= RAM_GPA and gpa + size_bytes <= RAM_GPA + RAM_BYTES


class StatusModel:
    """A device after reset."""

    def __init__(self) -> None:
        self.generation = 0
        self.config = bytearray(CONFIG)
        self.events: list[tuple[object, ...]] = []
        self._start()

    def _start(self) -> None:
        self.bits = 0
        self.accepted = [0, 0]
        self.queues: dict[int, tuple[int, Areas]] = {}
        self.next_avail: dict[int, int] = {}

    @property
    def running(self) -> bool:
        return bool(self.bits & DRIVER_OK) and not self.bits & NEEDS_RESET

    def next_step(self) -> int:
        """The status that a driver that does everything right writes next."""
        missing = [bit for bit in LADDER if not self.bits & bit]
        return self.bits | missing[0] if missing else 0

    def accept(self, block: int, features: int) -> int:
        if block > 1:
            return STATUS.INVALID
        if self.bits & FEATURES_OK:  # DEV-4
            return STATUS.BAD_STATE
        self.accepted[block] = features
        return STATUS.OK

    def _features_agree(self) -> bool:  # DEV-3
        wanted, offered = (b[0] | b[1] << 64 for b in (self.accepted, OFFERED))
        return wanted & ~offered == 0 and bool(wanted & VIRTIO_FEATURE.VERSION_1)

    def set_status(self, status: int) -> int:
        if status == 0:
            if self.bits & DRIVER_OK:
                self.events.append(("reset",))
            self._start()
            return STATUS.OK
        added = status & ~self.bits
        if self.bits & ~status & ~NEEDS_RESET or status & ~ALL_BITS or added & NEEDS_RESET:  # DEV-2
            return STATUS.INVALID
        if added & ~FAILED and self.bits & (NEEDS_RESET | FAILED):  # DEV-9
            return STATUS.BAD_STATE
        for bit, needs, seen in ((DRIVER, ACKNOWLEDGE, status), (FEATURES_OK, DRIVER, status)):
            if status & bit and not seen & needs:
                return STATUS.BAD_STATE
        if added & DRIVER_OK and not self.bits & FEATURES_OK:
            return STATUS.BAD_STATE
        if added & FEATURES_OK and not self._features_agree():
            status &= ~FEATURES_OK
        self.bits |= status  # NEEDS_RESET stays, whether the driver writes it or not
        if added & DRIVER_OK:
            self.events.append(("activate",))
        return STATUS.OK

    def queue_setup(self, queue: int, size: int, areas: Areas) -> int:
        if queue >= len(MAXIMA) or not MAXIMA[queue]:  # DEV-10
            return STATUS.NOT_FOUND
        if size not in [1 << n for n in range(9)] or size > MAXIMA[queue]:
            return STATUS.INVALID
        if areas.descriptors_gpa % 16 or areas.driver_gpa % 2 or areas.device_gpa % 4:  # VQ-8
            return STATUS.UNALIGNED
        lengths = (16 * size, 6 + 2 * size, 6 + 8 * size)
        if not all(_in_ram(gpa, length) for gpa, length in zip(vars(areas).values(), lengths, strict=True)):
            return STATUS.BAD_ADDRESS
        if not self.bits & FEATURES_OK or self.bits & (DRIVER_OK | FAILED | NEEDS_RESET) or queue in self.queues:
            return STATUS.BAD_STATE  # DEV-5, last (CALL-6)
        self.queues[queue] = (size, areas)
        self.next_avail[queue] = 0
        return STATUS.OK

    def config_read(self, offset: int, size_bytes: int) -> bytes | None:
        return bytes(self.config[offset : offset + size_bytes]) if offset + size_bytes <= len(CONFIG) else None

    def config_write(self, offset: int, data: bytes) -> int:
        if offset + len(data) > len(CONFIG) or (data and offset < WRITABLE_FROM):  # DEV-6
            return STATUS.INVALID
        self.config[offset : offset + len(data)] = data
        if data:
            self.events.append(("config", offset, len(data)))
        return STATUS.OK

    def notify(self, queue: int) -> int:
        if queue >= len(MAXIMA) or not MAXIMA[queue]:
            return STATUS.NOT_FOUND
        if not self.running or queue not in self.queues:  # DEV-11
            return STATUS.BAD_STATE
        self.events.append(("notify", queue))
        return STATUS.OK

    def snapshot(self) -> dict[str, Any]:
        """As `BareDevice.snapshot`."""
        return {
            "status": self.bits,
            "accepted": self.accepted,
            "generation": self.generation,
            "config": bytes(self.config),
            "queues": self.queues,
        }
