"""The thread of a machine that serves its slow devices: it waits on descriptors and calls who watches them.

What is to be done when a descriptor is readable is the watcher's.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

Watcher = Callable[[], bool]
"""Called when the descriptor is readable; true: call again soon, there is more to do."""


class ServiceThread:
    """Calls watchers, one at a time, from a thread that starts with the first of them.

    `watch` and `unwatch` may be called from any thread, a watcher's included.
    """

    def __init__(self, name: str = "devices") -> None:
        self._name = name
        self._lock = threading.Lock()  # of what follows; taken for moments
        self._returned = threading.Condition(self._lock)
        self._calling = -1  # the descriptor whose watcher runs
        self._watchers: dict[int, Watcher] = {}  # replaced, never changed
        self._thread: threading.Thread | None = None
        self._wake_fd = -1
        self._closing = False

    def watch(self, fd: int, watcher: Watcher) -> None:
        """Calls `watcher` from now on when `fd` is readable.  Raises RuntimeError or OSError if no thread starts."""
        with self._lock:
            if self._closing:  # by a watcher that still runs: nothing is watched after this
                return
            if self._thread is None:
                self._start()
            self._watchers = {**self._watchers, fd: watcher}
            os.eventfd_write(self._wake_fd, 1)

    def unwatch(self, fd: int) -> None:
        """`fd`'s watcher is not called any more, nor does a call of it still run (but for the caller's own)."""
        with self._lock:
            if fd in self._watchers:
                self._watchers = {key: watcher for key, watcher in self._watchers.items() if key != fd}
                os.eventfd_write(self._wake_fd, 1)
            while self._calling == fd and threading.current_thread() is not self._thread:
                self._returned.wait()

    def close(self) -> None:
        """Ends the thread.  Not from a watcher."""
        with self._lock:
            thread = self._thread  # until it has ended: its last watcher may still unwatch itself
            if thread is None:
                return
            self._closing = True
            os.eventfd_write(self._wake_fd, 1)
        thread.join()
        os.close(self._wake_fd)
        self._thread, self._watchers, self._closing = None, {}, False

    def _start(self) -> None:
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            os.close(self._wake_fd)
            raise
        self._thread = thread

    def _run(self) -> None:
        known: dict[int, Watcher] = {}
        poll = select.poll()  # unlike epoll it takes files and /dev/null for input too
        again: set[int] = set()
        while not self._closing:
            watchers = self._watchers
            if watchers is not known or not known:
                poll = select.poll()
                for fd in (self._wake_fd, *watchers):
                    poll.register(fd, select.POLLIN)
                known = watchers
            ready = {fd for fd, _ in poll.poll(0 if again else None)}
            if self._wake_fd in ready:
                os.eventfd_read(self._wake_fd)
                ready.remove(self._wake_fd)
            # Each has its turn: one that always has more to do does not keep the others waiting.
            again = {fd for fd in ready | again if self._call(fd)}

    def _call(self, fd: int) -> bool:
        with self._lock:
            watcher = self._watchers.get(fd)  # again: it may just have been taken away
            if watcher is None:
                return False
            self._calling = fd
        try:
            return watcher()
        finally:
            with self._lock:
                self._calling = -1
                self._returned.notify_all()
