"""Service console: the guest's text to whoever listens, and what waits for it."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import STATUS
from ..devices.service import ServiceThread

if TYPE_CHECKING:
    from ..machine import Machine


def _waits(fd: int) -> bool:
    """Whether `fd` has input, its end or an error; poll, for select takes no descriptor from 1024 on."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


class Console:
    """Where console output goes and input comes from; also for the virtio console.

    `source` is all the input there is, or a file descriptor that is read without waiting.
    """

    def __init__(self, sink: object, source: bytes | int) -> None:
        self.sink = sink
        """Called with what the guest writes, if it can be."""
        self._source = source if isinstance(source, int) else None
        self._waiting = b"" if isinstance(source, int) else source
        self._lock = threading.Lock()  # vCPUs and the virtio console read; who looks first also takes
        self._watch = ServiceThread("console input")

    def write(self, data: bytes) -> None:
        """Hands `data` on."""
        if callable(self.sink):
            self.sink(data)

    @property
    def ended(self) -> bool:
        """Whether there will be no more input."""
        return self._source is None and not self._waiting

    def read(self, size_bytes: int) -> bytes:
        """Up to `size_bytes` of waiting input (CON-3)."""
        with self._lock:
            return self._take(size_bytes) if size_bytes else b""

    def expect(self, came: Callable[[], None]) -> None:
        """Calls `came` from another thread once there is input, or its end; in place of what it was to call before."""
        fd = self._source
        if fd is None:
            return

        def look() -> bool:
            self._watch.unwatch(fd)  # first: who is called reads, and expects more
            came()
            return False

        self._watch.watch(fd, look)

    def forget(self) -> None:
        """Calls nobody any more: a life of the machine is over."""
        self._watch.close()

    def _take(self, size_bytes: int) -> bytes:
        if self._source is not None and _waits(self._source):
            try:
                data = os.read(self._source, size_bytes)
            except OSError:  # a directory, a terminal that is gone: no input
                data = b""
            if not data:
                self._source = None  # the end of the input
            return data
        data, self._waiting = self._waiting[:size_bytes], self._waiting[size_bytes:]
        return data


@ffi.def_extern(error=STATUS.FAILED)  # type: ignore[untyped-decorator]
def pv_py_console_write(native: Any, text: Any, size_bytes: int) -> int:
    """Output within the budget (CON-2)."""
    machine: Machine = ffi.from_handle(native.opaque)
    try:
        machine.console.write(bytes(ffi.buffer(text, size_bytes)))
    except BaseException as error:
        machine.fail(error)
        return STATUS.FAILED
    return STATUS.OK


@ffi.def_extern(error=0)  # type: ignore[untyped-decorator]
def pv_py_console_read(native: Any, text: Any, size_bytes: int) -> int:
    """Input that waits (CON-3); if it is less than wanted, the guest is told of more."""
    machine: Machine = ffi.from_handle(native.opaque)
    try:
        data = machine.console.read(size_bytes)
        if len(data) < size_bytes and native.state.accepted[lib.PV_SERVICE_CONSOLE] & lib.PV_CONSOLE_FEATURE_INPUT:
            machine.console.expect(lambda: lib.pv_event_raise(native, 0, lib.PV_CHANNEL_CONSOLE))  # CON-4
    except BaseException as error:
        machine.fail(error)
        return 0
    ffi.memmove(text, data, len(data))
    return len(data)
