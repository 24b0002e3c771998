"""What a plain guest has beside virtio devices: a serial port, registers that end or reset the machine, and word of a
new VM generation id.

The ports are served in C (``native/platform.c``, ``native/serial.c``); here is the life of it, and the wait for input
that nobody but the serial port's interrupt tells the guest of.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ._native import ffi, lib
from .devices.service import ServiceThread
from .errors import HostLimit

if TYPE_CHECKING:
    from .machine import Machine


class Platform:
    """That of `machine`, whose vCPUs are made and do not run yet."""

    def __init__(self, machine: Machine) -> None:
        source = machine.config.console_input
        self._input_fd = source if isinstance(source, int) else None
        self._console = machine.console
        self.native: Any = ffi.new("struct pv_platform *", {"machine": machine.native})
        self._serial = ffi.addressof(self.native, "serial")
        if error := lib.pv_serial_init(self._serial, machine.native):
            raise HostLimit(f"no descriptors for a serial port: {os.strerror(-error)}; see ulimit -n")
        self._service = ServiceThread("serial")
        self._generation_fd = -1
        try:
            self._generation_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            machine.accelerator.add_line(self._generation_fd, lib.PV_GENERATION_LINE)
            machine.accelerator.add_line(self._serial.interrupt_fd, lib.PV_SERIAL_LINE)
            self._service.watch(self._serial.wanted_fd, self._wanted)
            self._service.watch(self._serial.flush_fd, self._due)
        except BaseException:
            self.close()
            raise
        machine.accelerator.native.platform = self.native

    def generation_changed(self) -> None:
        """ACPI's generation id is another, and the guest is to hear of it."""
        os.eventfd_write(self._generation_fd, 1)

    def _wanted(self) -> bool:
        """The guest waits for input, for the first time since it got some."""
        os.eventfd_read(self._serial.wanted_fd)
        if self._input_fd is None:
            lib.pv_serial_receive(self._serial)
        else:
            self._service.watch(self._input_fd, self._came)
        return False

    def _came(self) -> bool:
        """There is input, unless another console was quicker, or its end."""
        if self._input_fd is not None and (lib.pv_serial_receive(self._serial) or self._console.ended):
            self._service.unwatch(self._input_fd)
        return False

    def _due(self) -> bool:
        """The guest began a line a while ago."""
        with suppress(BlockingIOError):  # it was armed anew since it was due
            os.read(self._serial.flush_fd, 8)
        lib.pv_serial_flush(self._serial)
        return False

    def close(self) -> None:
        """Gives everything back.  The vCPUs do not run."""
        self._service.close()
        if self._generation_fd >= 0:
            os.close(self._generation_fd)
        lib.pv_serial_flush(self._serial)
        lib.pv_serial_deinit(self._serial)
