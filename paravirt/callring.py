"""The thread that serves a machine's call rings (``native/callring.c``), and the doorbell that wakes it.

Both are made when a guest sets up its first ring: one that has none starts and runs without them.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from ._native import ffi, lib
from .abi import STATUS
from .errors import HostCallFailed, HostError

if TYPE_CHECKING:
    from .machine import Machine


class CallRings:
    """The rings of `machine`; one thread and one eventfd for all of them."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = threading.Lock()  # two vCPUs may set up the first ring
        self._thread: threading.Thread | None = None
        self._fd = -1
        machine.native.ops.serve_callrings = lib.pv_py_serve_callrings

    def begin(self) -> None:
        """Wires the doorbells and starts the thread, once.  From a vCPU's thread.  Raises HostError, OSError."""
        with self._lock:
            if self._thread:
                return
            native = self._machine.native
            if native.callrings.doorbell_fd < 0:
                self._wire(native)
            thread = threading.Thread(target=lib.pv_callring_serve, args=(native,), name="callrings", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # what Python makes of EAGAIN
                raise HostCallFailed(f"cannot start the thread of call rings: {error}; see ulimit -u") from error
            self._thread = thread

    def _wire(self, native: Any) -> None:
        tracer = self._machine.tracer
        self._fd = os.eventfd(0, os.EFD_CLOEXEC) if self._fd < 0 else self._fd
        for index in range(native.vcpu_count):
            self._machine.accelerator.add_doorbell(self._fd, int(lib.PV_RING_DOORBELL), index)
        native.callrings.trace = tracer.track("call rings") if tracer else ffi.NULL
        native.callrings.doorbell_fd = self._fd

    def join(self) -> None:
        """Waits for the thread of a machine that is ending, whose vCPUs have stopped; until then it makes calls."""
        if self._thread:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Gives the doorbell back.  The thread has ended."""
        if self._fd >= 0:
            self._machine.native.callrings.doorbell_fd = -1
            os.close(self._fd)
            self._fd = -1


@ffi.def_extern(error=STATUS.FAILED)  # type: ignore[untyped-decorator]
def pv_py_serve_callrings(vcpu: Any) -> int:
    """A vCPU sets up its ring; refused, the guest goes on by trap."""
    machine: Machine = ffi.from_handle(vcpu.machine.opaque)
    try:
        machine.callrings.begin()
    except (HostError, OSError):
        return STATUS.NO_MEMORY
    except BaseException as error:  # a bug of ours: it ends the machine, not the process
        machine.fail(error)
        return STATUS.FAILED
    return STATUS.OK
