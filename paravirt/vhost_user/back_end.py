"""A device of ours for other hypervisors: it listens at a socket and serves one front end after the other.

    with BackEnd(BlockDevice("disk", Disk("disk", path)), Path("disk.sock")) as back_end:
        back_end.serve()

The device is what a machine has, with threads and files of its own; of a machine there is guest memory alone, and
that is the front end's.  What a front end says is ``session.py``.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from .._native import ffi, lib
from ..errors import HostCallFailed
from ..interrupts import Held
from ..listener import Listener
from .errors import PeerError, PeerGone
from .given_socket import GivenSocket
from .lines import Lines
from .served_queue import ServedQueue
from .session import Session

if TYPE_CHECKING:
    from ..devices.base import Device

# The front end resets queues by stopping them.
NEVER_OFFERED = int(lib.PV_VIRTIO_F_RING_RESET)
log = logging.getLogger(__name__)


class BackEnd:
    """Serves `device` at a path, or at a socket that is there already, as a context; if that is a connection, for as
    long as that one lasts.  Raises what the device raises, and SocketError.

    `hidden` are features that are between the front end and its driver alone.  A network counts its queues in pairs.
    """

    look_s: ClassVar[float | None] = None
    """How often a front end's device is looked at for what nobody says."""
    changes: ClassVar[bool] = False
    """Whether its configuration may."""

    def __init__(self, device: Device, at: Path | GivenSocket, *, hidden: int = 0, paired: bool = False) -> None:
        self.device, self._at = device, at
        self._hidden, self._paired = hidden | NEVER_OFFERED, paired
        self.title = f"{device.label} at {at}"
        self.machine: Any = ffi.new("struct pv_machine *")
        self.native: Any = ffi.new("struct pv_device *")
        self.core: Any = None  # struct pv_vhost_back_end *
        self.queues: tuple[ServedQueue, ...] = ()
        self.lost_fd = self._news_fd = self._wake_fd = -1
        self.sessions = 0
        """How many there have been."""
        self.session: Session | None = None
        """That of the front end that is there."""
        self._listener: Listener | GivenSocket | None = None
        self._ending = False
        self._told: Any = None  # of which fault
        self._lines = Lines(log)

    def __enter__(self) -> Self:
        with Held():
            self._begin()
        return self

    def _begin(self) -> None:
        lib.pv_machine_init(self.machine)
        lib.pv_device_init(self.native, self.machine)
        try:
            self.lost_fd, self._news_fd, self._wake_fd = (self._eventfd() for _ in range(3))
            self.native.interrupt_fd = self._news_fd
            self.device.attach(self.native)
            self.native.offered[0] &= ~self._hidden
            core = lib.pv_vhost_back_end_create(self.native)
            if core == ffi.NULL:
                raise HostCallFailed(f"{self.title}: there is no memory for it")
            self.core = core
            for number in range(self.native.queue_count):
                queue = ServedQueue(core, ffi.addressof(self.native.queues[number]), number)
                self.queues = (*self.queues, queue)
            self._listener = Listener(self._at, self.device.label) if isinstance(self._at, Path) else self._at
        except BaseException:
            self._release()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with Held():
            self._release()

    @staticmethod
    def _eventfd() -> int:
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def _release(self) -> None:
        if self._listener:
            self._listener.close()
        self.reset()
        self.device.detach()
        lib.pv_device_deinit(self.native)
        for queue in self.queues:
            queue.close()
        if self.core is not None:
            lib.pv_vhost_back_end_destroy(self.core)
        for fd in (self.lost_fd, self._news_fd, self._wake_fd):
            if fd >= 0:
                os.close(fd)

    # ---- what a session needs ----

    @property
    def features(self) -> int:
        """Feature bits that are offered."""
        return int(self.native.offered[0])

    @property
    def queue_number(self) -> int:
        """How many queues there are, as the protocol counts them."""
        return len(self.queues) // 2 if self._paired else len(self.queues)

    @property
    def configured(self) -> bool:
        """Whether the driver sees our configuration; a network's is the front end's."""
        return not self._paired and self.native.config_bytes > 0

    def config(self) -> bytes:
        """The configuration space."""
        return bytes(ffi.buffer(self.native.config, self.native.config_bytes))

    def reset(self) -> None:
        """The device is as no driver had seen it.  No queue is started."""
        lib.pv_device_set_status(self.native, 0, ffi.new("uint64_t *"))
        self._told = None

    def give_back(self, queue: ServedQueue) -> int:
        """The queue is the front end's again, at that position; with the last one a fault is over."""
        self._look_for_fault()
        base = queue.stop()
        if self.native.fault == ffi.NULL:
            self._told = None
        return base

    def warn(self, text: str) -> None:
        """Says what is wrong to whoever runs the program, unless a driver or front end has it said all the time."""
        self._lines.warn(text)

    # ---- serving ----

    def serve(self) -> None:
        """Serves until `stop`."""
        assert self._listener
        if isinstance(self._listener, GivenSocket) and not self._listener.listens:
            self._talk(self._listener.socket)
            return
        while self._ready(self._listener.socket) and not self._ending:
            try:
                connection, _ = self._listener.socket.accept()
            except OSError:  # who knocked has gone
                continue
            self._talk(connection)

    def stop(self) -> None:
        """Has `serve` return.  Any thread."""
        self._ending = True
        os.eventfd_write(self._wake_fd, 1)

    def _ready(self, *sources: socket.socket) -> bool:
        """Waits until there is something to read, or else to do; whether it is the former."""
        poll = select.poll()
        for fd in (self._wake_fd, self._news_fd, self.lost_fd, *(source.fileno() for source in sources)):
            poll.register(fd, select.POLLIN)
        look_ms = self.look_s * 1000 if self.look_s and self.session else None
        while True:
            ready = {fd for fd, _ in poll.poll(look_ms)}
            if not ready:
                self.look()
            if self._wake_fd in ready:
                return False
            if self.lost_fd in ready:
                os.eventfd_read(self.lost_fd)
                raise PeerError(f"{self.title}: the front end cut memory that it had given; its session ends")
            if self._news_fd in ready:
                os.eventfd_read(self._news_fd)
                self._look_for_fault()
            if any(source.fileno() in ready for source in sources):
                return True

    def look(self) -> None:
        """For what nobody says: before each session, and while there is one."""

    def _look_for_fault(self) -> None:
        fault = self.native.fault
        if fault in (ffi.NULL, self._told):
            return
        self._told = fault
        self.warn(f"{self.title}: its driver broke rule {ffi.string(fault).decode()}; it is stopped until it is reset")
        for queue in self.queues:
            queue.tell_error()

    def _talk(self, connection: socket.socket) -> None:
        self.sessions += 1
        self.look()
        self.session = session = Session(self, connection)
        try:
            while self._ready(connection):
                session.hear()
        except PeerGone as error:
            log.info("%s", error)
        except PeerError as error:
            self.warn(str(error))
        finally:
            with Held():
                self.session = None
                session.close()
            with suppress(BlockingIOError):  # what it cut last
                os.eventfd_read(self.lost_fd)
