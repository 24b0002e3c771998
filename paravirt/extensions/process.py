"""A binary module in a process of its own: whatever it does to itself, this process goes on.

Calls go from the C core straight to the module's process (``native/module_process.c``); here it is
started, told of memory and resets, asked for its state, and ended.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..config import ExtensionConfig
from ..interrupts import signal_name
from .base import Described

if TYPE_CHECKING:
    from ..machine import Machine

BEGIN_S = 10.0  # a machine under load; it takes 50 ms
NAMES = {lib.PV_MODULE_FAILED_TIME: "it did not answer in time", lib.PV_MODULE_FAILED_ANSWER: "its answer was none"}


class IsolatedModule(Described):
    """`config`'s shared object, loaded by a worker.  Raises ExtensionError."""

    def __init__(self, config: ExtensionConfig) -> None:
        super().__init__(config.name)
        self._options, self._timeout_ns = config.options, config.timeout_ns
        self._remote: Any = None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = self._start(theirs.fileno())
            except OSError as error:
                self._socket.close()
                raise self.refuse(f"its process cannot be started: {error.strerror}; see ulimit -u") from error
        self._socket.settimeout(BEGIN_S)
        try:
            self._describe()
        except BaseException:
            self.close()
            raise

    def _start(self, fd: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "paravirt.extensions.worker", self.source, str(fd)],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's interrupt is for the host, which ends its workers
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
                "PYTHONSAFEPATH": "1",
            },
        )

    def _describe(self) -> None:
        description = ffi.new("struct pv_module_description *")
        try:
            got = self._socket.recv(ffi.sizeof(description[0]) + 1)
        except OSError as error:
            raise self.refuse(f"its process does not begin: {error}; try it with ,trusted") from error
        if len(got) != ffi.sizeof(description[0]):
            raise self.refuse(f"its process ended while it was loaded{self._end()}; try it under a debugger")
        ffi.memmove(description, got, len(got))
        self.take(description)
        remote = self._remote = ffi.new("struct pv_module_remote *")
        lib.pv_module_remote_init(remote, self._socket.fileno(), self._timeout_ns)
        self.native.call, self.native.opaque = lib.pv_module_remote_handler, remote

    def _end(self) -> str:
        """How its process ended, to follow `ended`."""
        try:
            status = self._process.wait(BEGIN_S)
        except subprocess.TimeoutExpired:
            return ""
        return f" by {signal_name(-status)}" if status < 0 else f" with status {status}"

    def _ask(self, kind: int, fd: int | None = None, **fields: Any) -> tuple[Any, list[int]]:
        """The answer to a request, and the descriptors that came with it.  Raises ExtensionError."""
        message = ffi.new("struct pv_module_message *", {"kind": kind, **fields})
        size = ffi.sizeof(message[0])
        try:
            socket.send_fds(self._socket, [bytes(ffi.buffer(message))], [] if fd is None else [fd])
            got, fds, _, _ = socket.recv_fds(self._socket, size, 1)
        except OSError as error:
            raise self.refuse(f"it does not answer: {error}; its maker has to mend it") from error
        if len(got) != size:
            for each in fds:
                os.close(each)
            raise self.refuse(f"its process ended{self._end()}; its maker has to mend it")
        ffi.memmove(message, got, size)
        if kind != lib.PV_MODULE_SAVE:
            while fds:  # nobody asked for one
                os.close(fds.pop())
        return message, fds

    def _with_memory(self, kind: int, machine: Machine, text: bytes = b"") -> int:
        ranges = machine.memory.ranges
        places = [number for place in ranges for number in place]
        answer, _ = self._ask(kind, machine.memory.fd, places=places, count=len(ranges), text=text)
        return int(answer.status)

    def _begin(self, machine: Machine) -> None:
        if error := self._with_memory(lib.PV_MODULE_START, machine, self._options.encode()):
            raise self.refuse(f"it does not begin: its init answers {error}; see its maker's words on options")

    def _reset(self, machine: Machine) -> None:
        """One that failed stays so: nobody knows what it has done."""
        if self._remote.failed == lib.PV_MODULE_FAILED_END:
            self._remote.failed = self._late_answer()
        if not self._remote.failed and self._with_memory(lib.PV_MODULE_RESET, machine):
            raise self.refuse("it cannot go on after the reset; its maker has to mend it")

    def _late_answer(self) -> int:
        """Takes the answer to the call that the machine's end cut short: it is not that of the next.  Why it failed."""
        self._socket.settimeout(self._timeout_ns / 1e9)
        try:
            got = self._socket.recv(ffi.sizeof("struct pv_module_message") + 1)
        except TimeoutError:
            return int(lib.PV_MODULE_FAILED_TIME)
        except OSError:
            return int(lib.PV_MODULE_FAILED_GONE)
        finally:
            self._socket.settimeout(BEGIN_S)
        if not got:
            return int(lib.PV_MODULE_FAILED_GONE)
        return 0 if len(got) == ffi.sizeof("struct pv_module_message") else int(lib.PV_MODULE_FAILED_ANSWER)

    def save(self) -> bytes:
        """Its state."""
        answer, fds = self._ask(lib.PV_MODULE_SAVE)
        try:
            if answer.status or not fds:
                raise self.refuse("it gives no state; its maker has to mend it")
            return os.pread(fds[0], lib.PV_MODULE_STATE_MOST, 0)  # not what waits for a writer: that is refused
        except OSError as error:
            raise self.refuse(f"its state cannot be read: {error.strerror}; its maker has to mend it") from error
        finally:
            for fd in fds:
                os.close(fd)

    def load(self, version: int, state: bytes) -> None:
        """Takes a state over."""
        fd = os.memfd_create("module-state", os.MFD_CLOEXEC)
        with open(fd, "w+b") as file:
            file.write(state)
            file.flush()
            answer, _ = self._ask(lib.PV_MODULE_LOAD, fd, number=version, value=len(state))
        if answer.status:
            raise self.refuse(f"it refuses its state of version {version}; use the module that saved it")

    def fault(self) -> str | None:
        """Why its calls answer FAILED."""
        failed = self._remote.failed if self._remote else 0
        if not failed or failed == lib.PV_MODULE_FAILED_END:
            return None
        why = NAMES.get(failed) or f"its process ended{self._end()}"
        return f"the extension {self.name!r} failed and was withdrawn: {why}; its calls answered FAILED (VND-2)"

    def close(self) -> None:
        """Ends its process."""
        if self._process.returncode is None:
            self._socket.shutdown(socket.SHUT_RDWR)  # its watcher ends it, however busy the module is
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._socket.close()
        if self._remote is not None:
            lib.pv_module_remote_deinit(self._remote)
            self._remote = None
