"""Service console: the guest's text to whoever listens, within the machine's budget."""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

from ..abi import STATUS

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
        self._sink = sink
        self._source = source if isinstance(source, int) else None
        self._waiting = b"" if isinstance(source, int) else source
        self._lock = threading.Lock()  # vCPUs and the virtio console read; who looks first also takes

    def write(self, data: bytes) -> None:
        """Hands `data` on."""
        if callable(self._sink):
            self._sink(data)

    def read(self, size_bytes: int) -> bytes:
        """Up to `size_bytes` of waiting input (CON-3)."""
        with self._lock:
            return self._take(size_bytes) if size_bytes else b""

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


def write(machine: Machine, _vcpu: int, gpa: int, size_bytes: int) -> tuple[int, int]:
    """All bytes or none (CON-1); beyond the budget none (CON-2)."""
    if not machine.console_write(machine.memory.read(gpa, size_bytes) if size_bytes else b""):
        return STATUS.QUOTA, 0
    return STATUS.OK, size_bytes


def read(machine: Machine, _vcpu: int, gpa: int, size_bytes: int) -> tuple[int, int]:
    """What is waiting."""
    data = machine.console.read(size_bytes)
    if data:
        machine.memory.write(gpa, data)
    return STATUS.OK, len(data)
