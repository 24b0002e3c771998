"""virtio-vsock over UNIX sockets: makes the socket that programs of the host connect to, and removes it.

Packets, connections and their sockets are ``native/vsock.c``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import Constants, build
from ..attachments.vsock import Vsock
from ..errors import HostCallFailed, SocketError
from .base import QUEUE_SIZE, Device, counted

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine

VSOCK_FEATURE = Constants("VSOCK_F")
EVENT_QUEUE_SIZE = 16
BACKLOG = 128  # programs that connect before the guest is ready
PATIENCE_NS = 8_000_000_000
TURN_S = 2.0  # for a directory's lock: anybody may hold that, such as /tmp's
TURN_STEP_S = 0.005
ERROR_BYTES = 200


def make_socket(vsock: Vsock) -> socket.socket:
    """The listening socket at the path of `vsock`, in place of one that nobody listens at.  Raises SocketError."""
    with _turn(vsock.path.parent):
        _remove_stale(vsock)
        return _listen(vsock)


@contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """One at a time: who finds a stale socket would remove the one that another has just put in its place."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # bind says what is wrong, if that is
        yield
        return
    try:
        until = time.monotonic() + TURN_S
        while not _locked(fd) and time.monotonic() < until:
            time.sleep(TURN_STEP_S)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _listen(vsock: Vsock) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(os.fsencode(vsock.path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(
            vsock, f"cannot be made: {error.strerror}; give a path in a directory that you may write"
        ) from error
    return listener


def _refused(vsock: Vsock, why: str) -> SocketError:
    return SocketError(f"vsock {vsock.name!r}: {vsock.path} {why}")


def _remove_stale(vsock: Vsock) -> None:
    try:
        mode = os.lstat(vsock.path).st_mode
    except OSError:
        return  # nothing is there, or bind says what is wrong
    if not stat.S_ISSOCK(mode):
        raise _refused(vsock, "exists and is no socket; give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        answer = probe.connect_ex(os.fsencode(vsock.path))
    if answer != errno.ECONNREFUSED:  # EAGAIN: somebody listens who has much to do
        raise _refused(vsock, "is in use by another program; stop that one or give another path")
    with suppress(FileNotFoundError):
        os.unlink(vsock.path)


def _identity(path: Path) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


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
        self._listener: socket.socket | None = None
        self._made = (0, 0)
        self._native: Any = None
        self._last: dict[str, int] = {}

    def features(self) -> int:
        """Streams."""
        return int(VSOCK_FEATURE.STREAM)

    def config(self) -> bytes:
        """The guest's address."""
        return bytes(build("vsock_config", guest_cid=self.vsock.cid))

    def request_name(self, queue: int, kind: int) -> str:
        """The packet's operation, as the ABI has it."""
        return Constants("VSOCK_OPERATION").name_of(kind).lower()

    def attach(self, native: Any) -> None:
        """Makes the socket and starts the thread.  Raises SocketError, HostCallFailed."""
        self._listener = make_socket(self.vsock)
        self._made = _identity(self.vsock.path)
        super().attach(native)
        options = ffi.new("struct pv_vsock_options *")
        options.listener_fd = self._listener.fileno()
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
            with suppress(OSError):  # somebody has put another in its place, or removed it
                if _identity(self.vsock.path) == self._made:
                    os.unlink(self.vsock.path)
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
