"""The queues of a device as a front end sets them up: described piece by piece, started by their kick, enabled or not.

The front end's eventfds are given numbers that stay, so that a thread which uses them need not be told: what comes
takes the place of what was.  Our own doorbell of the queue, which nobody else has, is what wakes that thread.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .._native import ffi, lib
from .errors import Refused
from .memory_table import MemoryTable

EVENTFD = "anon_inode:[eventfd]"
KICK_TRIES = 8  # others that had it may take from it for a moment


def check_eventfd(fd: int) -> None:
    """Raises Refused if `fd` is something else, on which our threads could be made to wait."""
    try:
        kind = str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError as error:
        raise Refused(f"a descriptor for a queue cannot be looked at: {error.strerror}") from error
    if kind != EVENTFD:
        raise Refused(f"a descriptor for a queue is no eventfd ({kind})")


def check_kick(fd: int) -> None:
    """Raises Refused if `fd` is not an eventfd that is empty once it was taken.

    A semaphore gives one back of what may be 2^64, so that a thread of ours would go on taking for years.
    """
    check_eventfd(fd)
    for _ in range(KICK_TRIES):
        lib.pv_vhost_back_end_signal(fd)
        lib.pv_vhost_back_end_signal(fd)
        if lib.pv_vhost_back_end_take(fd) > 1:
            return
    raise Refused("a kick is a semaphore, or is taken by somebody else")


def _blank(fd: int) -> None:
    """An eventfd of our own in the place of `fd`."""
    fresh = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    os.dup2(fresh, fd, inheritable=False)
    os.close(fresh)


class ServedQueue:
    """Queue `number` of a device; `core` is its ``struct pv_vhost_back_end *``, `native` its ``struct pv_queue *``."""

    def __init__(self, core: Any, native: Any, number: int) -> None:
        self._core, self._native, self.number = core, native, number
        native.doorbell_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        native.kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        native.call_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.running = self.kicked = self.enabled = False
        self.error_fd = -1
        self.size = self.base = 0
        self.addresses: tuple[int, int, int] | None = None  # descriptors, available, used: the front end's

    def close(self) -> None:
        """Gives its eventfds back.  It does not run."""
        for fd in (self._native.doorbell_fd, self._native.kick_fd, self._native.call_fd, self.error_fd):
            if fd >= 0:
                os.close(fd)
        self._native.doorbell_fd = self._native.kick_fd = self._native.call_fd = self.error_fd = -1

    # ---- what the front end gives ----

    def kick(self, fd: int) -> None:
        """Doorbells come by that eventfd from now on."""
        check_kick(fd)
        os.dup2(fd, self._native.kick_fd, inheritable=False)
        self._wake()
        self.kicked = True

    def _wake(self) -> None:
        """Who sleeps on what was a kick looks for what is one now."""
        os.eventfd_write(self._native.doorbell_fd, 1)

    def call(self, fd: int) -> None:
        """Interrupts go to that eventfd, from one to the next; -1: to nobody."""
        if fd < 0:
            _blank(self._native.call_fd)
        else:
            check_eventfd(fd)
            os.dup2(fd, self._native.call_fd, inheritable=False)
            self.tell()

    def tell(self) -> None:
        """The driver looks for what came back.

        What does while a queue is stopped, or its call is another, has no interrupt, and a predecessor that was killed
        may not have come as far as that: a driver that waits for one request alone would do so for ever.
        """
        if self.running:
            lib.pv_vhost_back_end_signal(self._native.call_fd)

    def errors(self, fd: int) -> None:
        """That eventfd is told when the driver broke a rule; -1: none."""
        if fd >= 0:
            check_eventfd(fd)
            fd = os.dup(fd)
        if self.error_fd >= 0:
            os.close(self.error_fd)
        self.error_fd = fd

    def tell_error(self) -> None:
        """The driver broke a rule."""
        if self.error_fd >= 0:
            lib.pv_vhost_back_end_signal(self.error_fd)  # or else there are the line and the status

    # ---- its life ----

    def start(self, memory: MemoryTable, inflight: Any, inflight_bytes: int) -> None:
        """The device works on it, with that region for its requests in flight, or NULL.  Raises Refused."""
        what = f"queue {self.number}"
        if not self.addresses:
            raise Refused(f"{what} is kicked before it is described")
        ring = ffi.new("struct pv_vhost_ring *")
        ring.size, ring.base, ring.inflight, ring.inflight_bytes = self.size, self.base, inflight, inflight_bytes
        ring.descriptors_gpa, ring.driver_gpa, ring.device_gpa = (memory.gpa(hva) for hva in self.addresses)
        status = lib.pv_vhost_back_end_start(self._core, self.number, ring)
        if status == lib.PV_STATUS_INVALID:
            most = self._native.maximum
            raise Refused(f"{what} has {self.size} places; give it a power of two, {most} at most (queue-size={most})")
        if status == lib.PV_STATUS_BAD_STATE:
            raise Refused(f"{what} cannot go on where its region for requests in flight says")
        if status != lib.PV_STATUS_OK:
            raise Refused(f"{what} does not lie in guest memory, or is not aligned")
        self.running = True
        self.tell()

    def halt(self) -> None:
        """The device leaves it alone, and what it had taken is given back, or left to be taken again."""
        if not self.running:
            return
        lib.pv_vhost_back_end_stop(self._core, self.number)
        self.look()

    def look(self) -> None:
        """Whether it still runs; it does not if guest memory changed, and it is not in it any more."""
        if self.running and not self._native.state.enabled:
            self.running = False
            self.base = int(lib.pv_vhost_back_end_base(self._core, self.number))

    def stop(self) -> int:
        """It is the front end's again; the position that it came to, which is known until it gets another one.

        Whether it is enabled stays too: front ends say so before they begin, and not always again.
        """
        self.halt()
        self.kicked, self.addresses = False, None
        _blank(self._native.kick_fd)
        self._wake()
        return self.base

    def end(self) -> None:
        """The front end is gone: nothing of its is kept."""
        self.stop()
        self.size, self.base, self.enabled = 0, 0, False
        self.call(-1)
        self.errors(-1)
