"""What a virtio device is to the machine, and the back ends that are written in Python.

`Device` is filled into a ``struct pv_device`` and attached; from there on the C core calls.  Status,
features, configuration and transports are not a back end's business.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from .._native import ffi, lib
from ..abi import Constants
from ..attachments import KINDS, word_of
from .queue import Chain, Queue
from .service import ServiceThread

VIRTIO_FEATURE = Constants("VIRTIO_F")
RING_FEATURES = (
    VIRTIO_FEATURE.VERSION_1 | VIRTIO_FEATURE.INDIRECT_DESC | VIRTIO_FEATURE.EVENT_IDX | VIRTIO_FEATURE.RING_PACKED
)
IN_ORDER = VIRTIO_FEATURE.IN_ORDER
"""Of a device that gives every chain back before the next one of its queue."""
QUEUE_SIZE = 256
TURN_CHAINS = 64  # of a queue, before other devices have their turn
HOST_FAILED = ffi.new("char[]", b"HOST")  # in place of a rule's id: the mistake was the host's


def counted(kind: str, native: Any) -> dict[str, int]:
    """What the C core counts of a back end: the fields of ``struct pv_KIND_statistics``."""
    record = f"struct pv_{kind}_statistics"
    counts = ffi.new(f"{record} *")
    getattr(lib, f"pv_{kind}_get_statistics")(native, counts)
    return {name: getattr(counts, name) for name, _ in ffi.typeof(record).fields}


def take_turn(queue: Queue, carry_out: Callable[[Chain], int | None]) -> bool:
    """Gives chains that wait, a bounded number, to `carry_out`, and back to the driver; true if there are more.

    `carry_out` returns how many bytes it wrote to a chain; None: the device stops, and the chain stays.
    """
    queue.disarm()
    more = True
    for _ in range(TURN_CHAINS):
        chain = queue.pop()
        if chain is None:
            more = queue.arm()
            break
        written_bytes = carry_out(chain)
        if written_bytes is not None:
            queue.stage(chain, written_bytes)
    queue.tell()
    return more


class Device(ABC):
    """A virtio device: its identity, its features and what the driver reads of it."""

    type: ClassVar[int]
    """Virtio device id."""
    queue_sizes: tuple[int, ...] = (QUEUE_SIZE,)
    """Largest size of each queue."""
    read_only: bool = False
    """Attached so, which the guest is told (PMEM-3)."""
    subject: ClassVar[str] = ""
    """What a request is about besides its kind, if there is such a number: its name in traces."""
    traced_together: ClassVar[bool] = False
    """Chains that are given back together are one request of a trace."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Logical name, at most 32 bytes."""
        self.abandoned = False
        """Nobody wants it any more, though it is being attached."""

    def features(self) -> int:
        """Feature bits offered beside those of the ring."""
        return 0

    def config(self) -> bytes:
        """The configuration space."""
        return b""

    def config_writable_from(self) -> int:
        """The first byte of it that the driver may write."""
        return len(self.config())

    def config_writable_bytes(self) -> int:
        """How many from there on; 0: all that follow."""
        return 0

    def attach(self, native: Any) -> None:
        """Becomes the back end of an initialised ``struct pv_device *``; doorbells are set afterwards.

        Raises ParavirtError if it cannot; `detach` is called then too.
        """
        config = self.config()
        native.type = self.type
        native.name = self.name.encode()
        native.offered[0] = RING_FEATURES | self.features()
        native.config_bytes = len(config)
        native.config_writable_from = self.config_writable_from()
        native.config_writable_bytes = self.config_writable_bytes()
        ffi.memmove(native.config, config, len(config))
        native.read_only = self.read_only
        native.queue_count = len(self.queue_sizes)
        for index, size in enumerate(self.queue_sizes):
            native.queues[index].maximum = size

    def abandon(self) -> None:
        """Has an `attach` that waits for another program, or begins to, fail soon.  From another thread."""
        self.abandoned = True

    @abstractmethod
    def detach(self) -> None:
        """Gives everything back.  The device was reset; more than once is fine."""

    def statistics(self) -> dict[str, int]:
        """Counts of the back end."""
        return {}

    @property
    def label(self) -> str:
        """What people call it: its kind and its name."""
        kind = Constants("DEVICE_TYPE").name_of(self.type)
        word = word_of(kind) if kind in KINDS else kind.lower()
        return word if word == self.name else f"{word} {self.name}"

    def request_name(self, queue: int, kind: int) -> str:
        """What traces call a request of that kind, as the back end named it, on a queue."""
        del queue, kind
        return "chain"


class CalledDevice(Device):
    """A device whose ops are methods here; they are called from a vCPU's thread, with the device locked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._native: Any = None
        self._handle: Any = None

    def attach(self, native: Any) -> None:
        """As `Device.attach`; the C core's calls come to this object from now on."""
        super().attach(native)
        self._native = native
        self._handle = native.opaque = ffi.new_handle(self)
        native.ops.activate = lib.pv_py_device_activate
        native.ops.reset = lib.pv_py_device_reset
        native.ops.notify = lib.pv_py_device_notify
        native.ops.config_written = lib.pv_py_device_config_written

    def detach(self) -> None:
        """As `Device.detach`."""
        self.reset()
        if self._native is not None:
            self._native.ops = ffi.new("struct pv_device_ops *")[0]
            self._native = None

    @abstractmethod
    def activate(self) -> None:
        """The driver is ready."""

    @abstractmethod
    def reset(self) -> None:
        """The driver takes the device back: when this returns its queues are not touched any more."""

    def notify(self, queue: int) -> None:
        """A doorbell that did not come as a write of the eventfd."""
        os.eventfd_write(int(self._native.queues[queue].doorbell_fd), 1)

    def config_written(self, offset: int, data: bytes) -> None:
        """The driver wrote to the configuration space."""

    def guard(self, act: Callable[..., Any], *args: Any) -> Any:
        """`act(*args)`; an exception stops the device instead of the thread it happened in."""
        try:
            return act(*args)
        except Exception:
            import logging  # costs the start of every machine otherwise

            logging.getLogger(__name__).exception("device %r failed and is stopped", self.name)
            lib.pv_device_fault(self._native, HOST_FAILED)
            return None


class PythonDevice(CalledDevice):
    """A slow device: its queues are served by the machine's service thread while the driver is active.

    A back end overrides `handle`, or `serve` if chains are to wait for something.
    """

    def __init__(self, name: str, service: ServiceThread) -> None:
        super().__init__(name)
        self.service = service
        self.queues: tuple[Queue, ...] = ()
        self._watched: list[int] = []

    def attach(self, native: Any) -> None:
        """As `Device.attach`."""
        super().attach(native)
        self.queues = tuple(Queue(native, index) for index in range(len(self.queue_sizes)))

    # ---- called by the C core, from a vCPU's thread, with the device locked ----

    def activate(self) -> None:
        """The driver is ready."""
        for queue in self.queues:
            for fd in queue.doorbells:
                self._watched.append(fd)
                self.service.watch(fd, partial(self._rung, queue))
            os.eventfd_write(queue.doorbell_fd, 1)  # chains may have been waiting since before

    def reset(self) -> None:
        """The driver takes the device back: when this returns its queues are not touched any more."""
        while self._watched:
            self.service.unwatch(self._watched.pop())

    # ---- in the service thread ----

    def serve(self, queue: Queue) -> bool:
        """Handles chains that wait, a bounded number; true if there are more."""
        return take_turn(queue, partial(self.handle, queue.index))

    @abstractmethod
    def handle(self, queue: int, chain: Chain) -> int | None:
        """Does what `chain` asks for; the number of bytes written to it.  None: `fault` was called, and it stays."""

    def fault(self, rule: Any) -> None:
        """The driver broke `rule`, text that stays (``const char *``): the device stops (DEV-7)."""
        lib.pv_device_fault(self._native, rule)

    def statistics(self) -> dict[str, int]:
        """Chains handled."""
        return {"chains": sum(queue.given_back for queue in self.queues)}

    def _rung(self, queue: Queue) -> bool:
        queue.drain_doorbell()
        return bool(self.guard(self.serve, queue))


def _back_end(native: Any) -> CalledDevice:
    device: CalledDevice = ffi.from_handle(native.opaque)
    return device


@ffi.def_extern()  # type: ignore[untyped-decorator]
def pv_py_device_activate(native: Any) -> None:
    """The op `activate` of back ends in Python."""
    device = _back_end(native)
    device.guard(device.activate)


@ffi.def_extern()  # type: ignore[untyped-decorator]
def pv_py_device_reset(native: Any) -> None:
    """The op `reset`."""
    device = _back_end(native)
    device.guard(device.reset)


@ffi.def_extern()  # type: ignore[untyped-decorator]
def pv_py_device_notify(native: Any, queue: int) -> None:
    """The op `notify`."""
    device = _back_end(native)
    device.guard(device.notify, queue)


@ffi.def_extern()  # type: ignore[untyped-decorator]
def pv_py_device_config_written(native: Any, offset: int, size_bytes: int) -> None:
    """The op `config_written`; the bytes are those that the C core has just taken over."""
    device = _back_end(native)
    device.guard(device.config_written, offset, bytes(ffi.buffer(native.config))[offset : offset + size_bytes])
