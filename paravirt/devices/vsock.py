"""virtio-vsock over UNIX sockets: makes the socket that programs of the host connect to, and removes it.

Packets, connections and their sockets are ``native/vsock.c``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import Constants, build
from ..attachments.vsock import Vsock
from ..errors import HostCallFailed
from ..listener import Listener
from .base import QUEUE_SIZE, Device, counted

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine

VSOCK_FEATURE = Constants("VSOCK_F")
EVENT_QUEUE_SIZE = 16
PATIENCE_NS = 8_000_000_000
ERROR_BYTES = 200


def make_listener(vsock: Vsock) -> Listener:
    """The listening socket at the path of `vsock`.  Raises SocketError."""
    return Listener(vsock.path, f"vsock {vsock.name!r}")


class VsockDevice(Device):
    """Sockets of a guest.  `poll_ns` bounds how long its thread looks for work before it sleeps; `patience_ns`,
    how long a guest may take to answer a connection, and to end one that its peer has left.
    """

    type = lib.PV_DEVICE_TYPE_VSOCK
    subject = "host_port"
    queue_sizes = (QUEUE_SIZE, QUEUE_SIZE, EVENT_QUEUE_SIZE)

    def __init__(self, name: str, vsock: Vsock, poll_ns: int = 0, patience_ns: int = PATIENCE_NS) -> None:
        super().__init__(name)
        self.vsock = vsock
        self._poll_ns = poll_ns
        self._patience_ns = patience_ns
        self._listener: Listener | None = None
        self._native: Any = None
        self._last: dict[str, int] = {}

    def features(self) -> int:
        """Streams, which are not implied; a driver that agrees on nothing has them, too (virtio 5.10.3.2)."""
        return int(VSOCK_FEATURE.STREAM | VSOCK_FEATURE.NO_IMPLIED_STREAM)

    def config(self) -> bytes:
        """The guest's address."""
        return bytes(build("vsock_config", guest_cid=self.vsock.cid))

    def request_name(self, queue: int, kind: int) -> str:
        """The packet's operation, as the ABI has it."""
        return Constants("VSOCK_OPERATION").name_of(kind).lower()

    def attach(self, native: Any) -> None:
        """Makes the socket and starts the thread.  Raises SocketError, HostCallFailed."""
        self._listener = make_listener(self.vsock)
        super().attach(native)
        options = ffi.new("struct pv_vsock_options *")
        options.listener_fd = self._listener.socket.fileno()
        options.guest_cid = self.vsock.cid
        options.poll_ns = self._poll_ns
        options.patience_ns = self._patience_ns
        options.path = os.fsencode(self.vsock.path)
        error = ffi.new("char[]", ERROR_BYTES)
        made = lib.pv_vsock_create(native, options, error, ERROR_BYTES)
        if made == ffi.NULL:
            raise HostCallFailed(f"vsock {self.name!r}: {ffi.string(error).decode()}")
        self._native = made

    def detach(self) -> None:
        """Ends the thread and its connections, closes and removes the socket."""
        if self._native is not None:
            self._last = self.statistics()
            lib.pv_vsock_destroy(self._native)
            self._native = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def reset_transport(self) -> None:
        """Ends all connections and tells the guest so: what a machine that goes on elsewhere needs."""
        lib.pv_vsock_reset_transport(self._native)

    def statistics(self) -> dict[str, int]:
        """What ``struct pv_vsock_statistics`` counts."""
        if self._native is None:
            return self._last
        return counted("vsock", self._native)


def make(planned: PlannedDevice, machine: Machine) -> VsockDevice:
    """The sockets that were attached."""
    assert isinstance(planned.attachment, Vsock)
    return VsockDevice(planned.name, planned.attachment, machine.config.budgets.poll_ns)
