"""A virtio device without a back end, and its driver's steps over each of the two transports."""

from __future__ import annotations

import os
from typing import Any

from hypercall_abi import STATUS
from hypercall_abi.mmio import MMIO
from hypercall_abi.model.virtqueue import Areas
from hypercall_abi.services.device import QUEUE_SETUP
from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt._native import ffi, lib
from tests.support.fake_machine import RAM_GPA, FakeMachine

NO_CHANNEL = 0xFFFF_FFFF
OFFERED = (
    VIRTIO_FEATURE.VERSION_1 | VIRTIO_FEATURE.INDIRECT_DESC | VIRTIO_FEATURE.EVENT_IDX | 1 << 5,
    1 << 3 | 1 << 63,  # bits 67 and 127: the second block is negotiated as the first
)
MAXIMA = (256, 8, 0)  # the third queue does not exist
CONFIG = bytes(range(1, 25))
WRITABLE_FROM = 16
SCRATCH_GPA = RAM_GPA + 0x8_0000


def areas_of(queue: int) -> Areas:
    """A good place for `queue`."""
    base = RAM_GPA + 0x1_0000 * (1 + queue)
    return Areas(base, base + 0x4000, base + 0x8000)


class BareDevice:
    """Plugged into `machine`; ``events`` lists what its back end would have been asked."""

    def __init__(self, machine: FakeMachine, *, mmio: bool = False, ring_reset: bool = False) -> None:
        self.machine = machine
        self.events: list[tuple[object, ...]] = []
        self.native = ffi.new("struct pv_device *")
        lib.pv_device_init(self.native, machine.native)
        self.native.index = machine.native.device_count
        self.native.type = 2
        self.native.name = b"disk"
        self.native.offered = [OFFERED[0] | (VIRTIO_FEATURE.RING_RESET if ring_reset else 0), OFFERED[1]]
        self.native.config_bytes, self.native.config_writable_from = len(CONFIG), WRITABLE_FROM
        ffi.memmove(self.native.config, CONFIG, len(CONFIG))
        self.native.queue_count = len(MAXIMA)
        for queue, maximum in enumerate(MAXIMA):
            self.native.queues[queue].maximum = maximum
        self.interrupt_fd = os.eventfd(0, os.EFD_NONBLOCK)
        if mmio:
            self.native.mmio, self.native.interrupt_fd = 1, self.interrupt_fd
        self._ops(ring_reset)
        machine.native.devices[self.native.index] = self.native
        machine.native.device_count += 1

    def _ops(self, ring_reset: bool) -> None:
        log, ops = self.events.append, self.native.ops
        self._callbacks = [
            ffi.callback("void(struct pv_device *)", lambda _d: log(("activate",))),
            ffi.callback("void(struct pv_device *)", lambda _d: log(("reset",))),
            ffi.callback("void(struct pv_device *, uint32_t)", lambda _d, q: log(("notify", q))),
            ffi.callback("void(struct pv_device *, uint32_t, uint32_t)", lambda _d, o, n: log(("config", o, n))),
            ffi.callback("void(struct pv_device *, uint32_t, bool)", lambda _d, q, e: log(("queue", q, e))),
        ]
        ops.activate, ops.reset, ops.notify, ops.config_written = self._callbacks[:4]
        if ring_reset:
            ops.queue_changed = self._callbacks[4]

    def close(self) -> None:
        """As a machine unplugs it."""
        if self.native is not None:
            lib.pv_device_deinit(self.native)
            os.close(self.interrupt_fd)
            self.native = None

    @property
    def fault(self) -> str | None:
        return None if self.native.fault == ffi.NULL else ffi.string(self.native.fault).decode()

    def pop(self, queue: int) -> int:
        return int(lib.pv_device_pop(self.native, queue, ffi.new("struct pv_chain *")))

    def interrupts(self) -> int:
        """How often the interrupt line was signalled since the last look."""
        try:
            return os.eventfd_read(self.interrupt_fd)
        except BlockingIOError:
            return 0

    def snapshot(self) -> dict[str, Any]:
        """What a driver can tell of the state, whatever the transport."""
        state = self.native.state
        return {
            "status": state.status,
            "accepted": list(state.accepted),
            "generation": state.generation,
            "config": bytes(ffi.buffer(self.native.config, len(CONFIG))),
            "queues": {
                index: (queue.size, Areas(queue.descriptors_gpa, queue.driver_gpa, queue.device_gpa))
                for index, queue in enumerate(state.queues)
                if queue.enabled
            },
        }


class Calls:
    """The driver's steps by service device.  Each answers with the status, or (status, value)."""

    def __init__(self, device: BareDevice) -> None:
        self.device = device
        self.machine = device.machine
        self.index = device.native.index

    def call(self, name: str, *args: int) -> tuple[int, int]:
        return self.machine.call(f"device.{name}", self.index, *args)

    def offered(self, block: int) -> int:
        return self.call("features", block)[1]

    def accept(self, block: int, features: int) -> int:
        return self.call("accept", block, features)[0]

    def set_status(self, status: int) -> int:
        return self.call("set_status", status)[0]

    def status(self) -> int:
        return self.call("status")[1]

    def queue_size(self, queue: int) -> int:
        return self.call("queue_size", queue)[1]

    def queue_setup(
        self, queue: int, size: int, areas: Areas, *, vcpu: int = 0, channel: int = NO_CHANNEL, reserved: int = 0
    ) -> int:
        fields = {"queue": queue, "size": size, "vcpu": vcpu, "channel": channel, **vars(areas)}
        record = bytearray(QUEUE_SETUP.build(fields))
        record[QUEUE_SETUP.offset("reserved0")] = reserved
        self.machine.write(SCRATCH_GPA, bytes(record))
        return self.call("queue_setup", SCRATCH_GPA)[0]

    def config_read(self, offset: int, size_bytes: int) -> bytes | None:
        status, value = self.call("config_read", offset, SCRATCH_GPA, size_bytes)
        assert status in (STATUS.OK, STATUS.INVALID)
        return self.machine.read(SCRATCH_GPA, value) if status == STATUS.OK else None

    def config_write(self, offset: int, data: bytes) -> int:
        self.machine.write(SCRATCH_GPA, data)
        return self.call("config_write", offset, SCRATCH_GPA, len(data))[0]

    def generation(self) -> int:
        return self.call("generation")[1]

    def notify(self, queue: int) -> int:
        return self.call("notify", queue)[0]


class Mmio:
    """The same steps by registers, which answer no status."""

    def __init__(self, device: BareDevice) -> None:
        self.native = device.native

    def read(self, offset: int, size_bytes: int = 4) -> int:
        return int(lib.pv_mmio_read(self.native, offset, size_bytes))

    def write(self, offset: int, value: int, size_bytes: int = 4) -> None:
        lib.pv_mmio_write(self.native, offset, size_bytes, value)

    def offered(self, block: int) -> int:
        halves = []
        for half in (0, 1):
            self.write(MMIO.DEVICE_FEATURES_SEL, 2 * block + half)
            halves.append(self.read(MMIO.DEVICE_FEATURES))
        return halves[0] | halves[1] << 32

    def accept(self, block: int, features: int) -> None:
        for half in (0, 1):
            self.write(MMIO.DRIVER_FEATURES_SEL, 2 * block + half)
            self.write(MMIO.DRIVER_FEATURES, features >> 32 * half & 0xFFFF_FFFF)

    def set_status(self, status: int) -> None:
        self.write(MMIO.STATUS, status)

    def status(self) -> int:
        return self.read(MMIO.STATUS)

    def queue_size(self, queue: int) -> int:
        self.write(MMIO.QUEUE_SEL, queue)
        return self.read(MMIO.QUEUE_SIZE_MAX)

    def queue_setup(self, queue: int, size: int, areas: Areas) -> None:
        self.write(MMIO.QUEUE_SEL, queue)
        self.write(MMIO.QUEUE_SIZE, size)
        registers = (MMIO.QUEUE_DESC_LOW, MMIO.QUEUE_DRIVER_LOW, MMIO.QUEUE_DEVICE_LOW)
        for register, gpa in zip(registers, vars(areas).values(), strict=True):
            self.write(register, gpa & 0xFFFF_FFFF)
            self.write(register + 4, gpa >> 32)
        self.write(MMIO.QUEUE_READY, 1)

    def config_read(self, offset: int, size_bytes: int) -> bytes:
        return self.read(MMIO.CONFIG + offset, size_bytes).to_bytes(size_bytes, "little")

    def config_write(self, offset: int, data: bytes) -> None:
        self.write(MMIO.CONFIG + offset, int.from_bytes(data, "little"), len(data))

    def generation(self) -> int:
        return self.read(MMIO.CONFIG_GENERATION)

    def notify(self, queue: int) -> None:
        self.write(MMIO.QUEUE_NOTIFY, queue)
