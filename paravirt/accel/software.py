"""The software vCPU: the host's side of a CPU that is emulated by Unicorn, in a process of its own.

The engine is GPL-2.0 and may crash; neither reaches this process.  It is given guest memory and a
socket per vCPU, on which traps and accesses to devices come to ``native/software.c``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..boot.layout import Layout
from ..config import MachineConfig
from ..errors import HostCallFailed, HostLimit, SoftwareMissing, SoftwareUnsupported, one_line
from ..interrupts import signal_name
from ..memory import GuestMemory
from .engine.records import SETUP_MOST_BYTES

if TYPE_CHECKING:
    from ..mapped import MappedDisk

PATIENCE_S = 2.0
LOADING_S = 20.0
WORDS_BYTES = 65536
PACKAGES = Path(__file__).resolve().parents[2]


class Software:
    """One virtual machine.  ``native`` is the C core's ``struct pv_software *``."""

    name = "software"
    cpu_level = 2
    """The psABI level of what the engine executes."""
    instead_of = ""
    """Why it is not KVM, where nobody asked for it."""

    def __init__(self, config: MachineConfig, machine: Any, memory: GuestMemory) -> None:
        if importlib.util.find_spec("unicorn") is None:  # looked for, not loaded
            raise SoftwareMissing("the software vCPU needs its engine: pip install 'paravirt[software]'")
        if not lib.pv_memory_can_fence():
            raise HostCallFailed(
                "the kernel refuses membarrier(2), which the software vCPU needs; allow it in the container's seccomp"
            )
        if config.pin:
            raise HostLimit("vCPUs are pinned on KVM alone, and this is the software vCPU; leave --pin out")
        self._machine = machine
        self._setup: dict[str, Any] = {"ranges": memory.ranges}
        self.native = ffi.new("struct pv_software *")
        lib.pv_software_init(self.native, machine)
        self._sockets: list[socket.socket] = []
        self._mapped: list[MappedDisk] = []
        self._words = b""
        self._ears = -1
        self._engine: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        try:
            self._spawn(config.vcpus, memory.fd)
        except BaseException:
            self.close()
            raise

    def _spawn(self, vcpus: int, memory_fd: int) -> None:
        """Starts the engine, which loads while the machine is made."""
        theirs: list[socket.socket] = []
        # A pipe that is full takes nothing more: the engine does not wait for anybody to hear it.
        self._ears, mouth = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            for _ in range(2 + vcpus):
                ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._sockets.append(ours)
                theirs.append(its)
            control, debug, *rest = (sock.fileno() for sock in theirs)
            numbers = (control, debug, memory_fd, *rest)
            path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH", ""))))
            self._engine = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{__package__}.engine", *map(str, numbers)],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=mouth,
                stderr=mouth,
                pass_fds=numbers,
                start_new_session=True,  # a terminal's interrupt is for us
            )
        finally:
            os.close(mouth)
            for sock in theirs:
                sock.close()
        self.native.control_fd = self._sockets[0].fileno()

    def add_memory(self, gpa: int, size_bytes: int, hva: Any) -> None:
        """The engine has all memory as a file."""

    def add_mapped(self, mapped: MappedDisk) -> None:
        """The engine maps the file itself."""
        self._mapped.append(mapped)

    def set_entry(self, layout: Layout) -> None:
        """How vCPUs are entered; before the first is created.  Raises SoftwareUnsupported."""
        if layout.mode == lib.PV_MODE_LINUX:
            raise SoftwareUnsupported(
                "the software vCPU does not enter kernels by Linux's boot protocol; use --accel kvm"
            )
        self._setup |= {
            "mode": layout.mode,
            "page_table_gpa": layout.page_table_gpa,
            "gdt_gpa": layout.gdt_gpa,
            "gdt_bytes": layout.gdt_bytes,
            "idt_gpa": layout.idt_gpa,
            "tss_gpa": layout.tss_gpa,
            "tss_bytes": layout.tss_bytes,
        }
        self._boot_info_gpa = layout.boot_info_gpa

    def add_vcpu(self, vcpu: Any) -> None:
        """Gives a ``struct pv_vcpu *`` its socket."""
        lib.pv_software_add_vcpu(self.native, vcpu, self._sockets[2 + vcpu.index].fileno())

    def remove_vcpu(self, vcpu: Any) -> None:
        """Its socket is closed with the others."""

    def add_doorbell(self, fd: int, device: int, queue: int) -> None:
        """Doorbells come as exits."""

    def remove_doorbell(self, fd: int, device: int, queue: int) -> None:
        """The same."""

    def add_mmio_doorbell(self, fd: int, gpa: int, queue: int) -> None:
        """The same."""

    def add_line(self, fd: int, line: int) -> None:
        """There is no I/O APIC: drivers look at the window's registers."""

    def counter_hz(self, vcpu: Any) -> int:
        """Frequency of the guest's counter, which is the host's."""
        self._counter_hz = int(lib.pv_software_counter_hz(self.native))
        return self._counter_hz

    def in_service(self, vcpu: Any, vector: int) -> bool:
        """Not known here: the engine's local APIC ends with it."""
        return False

    @property
    def debug_socket(self) -> socket.socket:
        """By which a debugger asks the engine (``engine/debug.py``)."""
        return self._sockets[1]

    def begin(self, lost: Callable[[], None]) -> None:
        """Tells the engine what there is; `lost` is called if it ends before the machine.  Raises HostCallFailed."""
        version = lib.PV_ABI_MAJOR << 16 | lib.PV_ABI_MINOR
        gpa = self._boot_info_gpa
        self._setup |= {
            "trap_port": lib.PV_TRAP_PORT,
            "doorbell_port": lib.PV_DOORBELL_PORT,
            "cpuid_base": lib.PV_CPUID_BASE,
            "cpuid": (
                (version, lib.PV_TRAP_KIND_PORT, lib.PV_TRAP_PORT, lib.PV_DOORBELL_PORT),
                (gpa & 0xFFFF_FFFF, gpa >> 32, self._machine.vcpu_count, 0),
            ),
            "counter_khz": self._counter_hz // 1000,
        }
        self._setup["mapped"] = [(m.gpa, m.size_bytes, m.disk.read_only) for m in self._mapped]
        setup = json.dumps(self._setup).encode()
        assert len(setup) <= SETUP_MOST_BYTES
        try:
            socket.send_fds(self._sockets[0], [setup], [m.fd for m in self._mapped])
        except OSError as error:
            raise HostCallFailed(f"the software vCPU's engine did not start: {self.last_words}") from error
        thread = threading.Thread(target=self._serve, args=(lost,), name="software", daemon=True)
        thread.start()
        self._thread = thread

    def _serve(self, lost: Callable[[], None]) -> None:
        lib.pv_software_serve(self.native)
        if not self._machine.ending:
            lost()

    @property
    def run(self) -> Any:
        """The C function (struct pv_vcpu *, struct pv_exit *) that serves a vCPU in its thread."""
        return lib.pv_software_run

    def end(self) -> None:
        """The engine goes, as its sockets say; one that does not is killed."""
        for sock in self._sockets:
            sock.close() if self._thread is None else self._shut(sock)
        if self._thread:
            self._thread.join()
            self._thread = None
        if self._engine:
            try:
                self._engine.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._engine.kill()
                self._engine.wait()

    def loads(self) -> bool:
        """Whether the engine starts at all, for who only wants to know: it ends by that.  `last_words` say why not."""
        for sock in self._sockets:
            sock.close()
        try:
            return self._engine is not None and self._engine.wait(LOADING_S) == 0
        except subprocess.TimeoutExpired:
            return False

    @staticmethod
    def _shut(sock: socket.socket) -> None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # shut already
            return

    @property
    def ended_by(self) -> int:
        """The signal that ended the engine; 0: none did, or it runs."""
        with suppress(subprocess.TimeoutExpired):
            return max(-self._engine.wait(PATIENCE_S), 0) if self._engine else 0
        return 0

    @property
    def last_words(self) -> str:
        """How the engine ended and what it said last."""
        status = 0
        with suppress(subprocess.TimeoutExpired):
            status = self._engine.wait(PATIENCE_S) if self._engine else 0
        with suppress(BlockingIOError):
            self._words += os.read(self._ears, WORDS_BYTES)
        lines = self._words.decode("utf-8", "replace").split("\n")
        last = one_line(next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing"))
        if status < 0:
            return f"it was killed by {signal_name(-status)}; {last}"
        return last

    def close(self) -> None:
        """Gives everything back; after the last vCPU's thread has ended."""
        self.end()
        for sock in self._sockets:
            sock.close()
        self._sockets = []
        if self._ears >= 0:
            os.close(self._ears)
        self._ears = -1
