"""virtio-console, one port: the guest's text out, and input in as the driver has room for it (virtio 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .._native import ffi, lib
from ..abi import build
from .base import IN_ORDER, QUEUE_SIZE, TURN_CHAINS, PythonDevice
from .queue import Chain, Queue
from .service import ServiceThread

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine

INPUT, OUTPUT = 0, 1
PIECE_BYTES = 16 << 10


class ConsoleDevice(PythonDevice):
    """Hands output to `write` and takes input from `read`, both shared with the service console.

    `write` answers false for output that is beyond the machine's budget, which is thrown away.  `read`
    gives up to so many bytes without waiting; with an `input_fd`, nothing although that is readable
    means its end.
    """

    type = lib.PV_DEVICE_TYPE_CONSOLE
    queue_sizes = (QUEUE_SIZE, QUEUE_SIZE)

    def __init__(
        self,
        name: str,
        service: ServiceThread,
        write: Callable[[bytes], bool],
        read: Callable[[int], bytes],
        *,
        input_fd: int | None = None,
    ) -> None:
        super().__init__(name, service)
        self._write = write
        self._read = read
        self._input_fd = input_fd
        self._room: Chain | None = None  # taken from the queue and waiting for input
        self._listening = False

    def features(self) -> int:
        """A character can be written without a queue; what has a queue comes back in order."""
        return int(lib.PV_CONSOLE_F_EMERGENCY_WRITE) | IN_ORDER

    def config(self) -> bytes:
        """No size is known."""
        return bytes(build("console_config", max_ports=1))

    def config_writable_from(self) -> int:
        """The emergency character."""
        return int(ffi.offsetof("struct pv_console_config", "emergency"))

    def config_written(self, offset: int, data: bytes) -> None:
        """Prints the emergency character; its low byte is the character (virtio 5.3.5)."""
        if offset == self.config_writable_from() and data:
            self._write(data[:1])

    def reset(self) -> None:
        """Also forgets the room for input, which is the driver's again."""
        super().reset()
        if self._input_fd is not None:
            self.service.unwatch(self._input_fd)  # whatever _listening says: it may be changing right now
        self._listening, self._room = False, None

    def handle(self, queue: int, chain: Chain) -> int:
        """Prints `chain`, in pieces; the driver chooses how long it is."""
        for at in range(0, chain.readable_bytes, PIECE_BYTES):
            if not self._write(chain.read(at, PIECE_BYTES)):
                break
        return 0

    def serve(self, queue: Queue) -> bool:
        """Output as the base does; a doorbell of the other queue is room for input."""
        return super().serve(queue) if queue.index == OUTPUT else self._feed(readable=False)

    def _feed(self, *, readable: bool) -> bool:
        """Gives input that waits to chains that wait, a bounded number; true if there may be more of both."""
        queue = self.queues[INPUT]
        queue.disarm()
        more = True
        for _ in range(TURN_CHAINS):
            self._room = self._room or queue.pop()
            if self._room is None:
                more = queue.arm()
                self._listen(False)
                break
            data = self._read(min(self._room.writable_bytes, PIECE_BYTES))
            if not data and self._room.writable_bytes:
                self._listen(not readable)
                more = False
                break
            queue.stage(self._room, self._room.write(0, data))
            self._room, readable = None, False
        queue.tell()
        return more

    def _listen(self, wanted: bool) -> None:
        if self._input_fd is None or wanted == self._listening:
            return
        self._listening = wanted
        if wanted:
            self.service.watch(self._input_fd, self._input_came)
        else:
            self.service.unwatch(self._input_fd)

    def _input_came(self) -> bool:
        return bool(self.guard(lambda: self._feed(readable=True)))


def make(planned: PlannedDevice, machine: Machine) -> ConsoleDevice:
    """The machine's console once more."""
    source = machine.config.console_input
    fd = source if isinstance(source, int) else None
    device = ConsoleDevice(
        planned.name, machine.devices.service, machine.console_write, machine.console.read, input_fd=fd
    )
    return device
