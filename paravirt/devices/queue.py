"""Virtqueues as back ends in Python see them.  The walking, the checks and the memory are the C core's."""

from __future__ import annotations

from typing import Any

from .._native import ffi, lib
from ..errors import HostCallFailed


class Chain:
    """A descriptor chain that was taken from a queue: bytes to read, then room to write.

    ``native`` is the C core's ``struct pv_chain *``.
    """

    def __init__(self, native: Any) -> None:
        self.native = self._native = native

    @property
    def head(self) -> int:
        """What names it to the driver."""
        return int(self._native.head)

    @property
    def readable_bytes(self) -> int:
        """How much the driver sends."""
        return int(self._native.readable_bytes)

    @property
    def writable_bytes(self) -> int:
        """How much room the driver gives."""
        return int(self._native.writable_bytes)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """A copy of up to `size_bytes` of the readable part from `offset` on.

        The length of a chain is the driver's choice: ask for bounded pieces.
        """
        size = max(0, min(size_bytes, self.readable_bytes - offset))
        copy = ffi.new("uint8_t[]", size)
        return bytes(ffi.buffer(copy, lib.pv_chain_read(self._native, offset, copy, size)))

    def write(self, offset: int, data: bytes) -> int:
        """Copies `data` to the writable part from `offset` on; the bytes that there was room for."""
        return int(lib.pv_chain_write(self._native, offset, ffi.from_buffer(data), len(data)))


class Queue:
    """A virtqueue of a device that is active.  One thread at a time uses it."""

    def __init__(self, device: Any, index: int) -> None:
        self.index = index
        self.given_back = 0
        """Chains, so far."""
        self._device = device
        self._native = ffi.addressof(device.queues[index])

    @property
    def doorbell_fd(self) -> int:
        """The eventfd that the driver's doorbell writes."""
        return int(self._native.doorbell_fd)

    @property
    def doorbells(self) -> tuple[int, ...]:
        """The same, and that of another program's that rings for the driver, if there is one."""
        fds = (self.doorbell_fd, int(self._native.kick_fd))
        return tuple(fd for fd in fds if fd >= 0)

    def drain_doorbell(self) -> None:
        """Takes what was rung: the queue is about to be looked at."""
        for fd in self.doorbells:
            lib.pv_vhost_back_end_take(fd)  # nothing: called again, not rung again

    def pop(self) -> Chain | None:
        """The next chain.  None: none is waiting, or the driver broke a rule and has been told (DEV-7)."""
        chain = ffi.new("struct pv_chain *")
        return Chain(chain) if lib.pv_device_pop(self._device, self.index, chain) == 1 else None

    def stage(self, chain: Chain, written_bytes: int = 0) -> None:
        """Gives `chain` back, with the number of bytes written to it, once the driver is told of its batch."""
        lib.pv_queue_stage(self._native, chain.head, written_bytes)
        self.given_back += 1

    def tell(self) -> None:
        """The driver sees what was given back since, and is interrupted if it wants to know.  Once per batch."""
        if lib.pv_queue_wants_interrupt(self._native):
            self._interrupt()

    def _interrupt(self) -> None:
        if self._native.call_fd < 0:
            lib.pv_device_interrupt(self._device, self.index)
        elif not lib.pv_vhost_back_end_interrupt(self._device, self.index):
            raise HostCallFailed("there is no timer that ends a wait for a front end; see ulimit -i")

    def arm(self) -> bool:
        """Asks for doorbells; true if chains came meanwhile, so look again."""
        return bool(lib.pv_queue_arm(self._native))

    def disarm(self) -> None:
        """No doorbells, please: the queue is being looked at."""
        lib.pv_queue_disarm(self._native)
