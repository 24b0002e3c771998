"""Software vCPUs for a debugger: their engine holds and steps them, and knows breakpoints by their addresses alone."""

from __future__ import annotations

import errno
import json
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..accel.engine.debug import MESSAGE_MOST_BYTES
from .registers import GENERAL
from .stops import SIGABRT, SIGSEGV, Cpus, Plan, Stop, Tell, Watch

if TYPE_CHECKING:
    import socket

    from ..machine import Machine

PATIENCE_S = 2.0
ANSWER_S = 30.0  # of an engine that is just being loaded, too
_SEGMENTS = "CS SS DS ES FS GS".split()
_CONTROL = "CR0 CR2 CR3 CR4 CR8".split()
_FPU = "FPCW FPSW FPTAG".split()


class SoftwareCpus(Cpus):
    """Those of `machine`."""

    watches_most = 1000

    def __init__(self, machine: Machine, engine: socket.socket, tell: Tell) -> None:
        self._machine, self._socket, self._tell = machine, engine, tell
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._asking = threading.Lock()
        self._changed = threading.Condition()
        self._holding = self._over = False
        self._addresses: set[int] = set()
        self.written = False
        threading.Thread(target=self._listen, name="debug", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                message = self._socket.recv(MESSAGE_MOST_BYTES)
            except OSError:
                message = b""
            if not message:
                self._answers.put(OSError(errno.EIO, "the engine has ended"))
                return
            what, *rest = json.loads(message)
            if what == "answer":
                self._answers.put(rest[0])
            else:
                self._tell(self._meaning(*rest))

    def _meaning(self, index: int, kind: Any, rip: int) -> Stop:
        return Stop(index, "address" if kind == "code" and rip in self._addresses else kind)

    def _ask(self, *request: Any) -> Any:
        with self._asking:
            self._socket.sendall(json.dumps(request).encode())
            try:
                answer = self._answers.get(timeout=ANSWER_S)
            except queue.Empty as error:
                raise OSError(errno.ETIMEDOUT, "the engine does not answer") from error
        if isinstance(answer, OSError):
            self._answers.put(answer)
            raise answer
        return answer

    # ---- in vCPUs' threads ----

    def held(self, index: int, why: int, detail: int) -> bool:
        """Only of an exit that is the vCPU's last: the engine holds it anyway."""
        self._last_look(Stop(index, "fault", SIGSEGV))
        return False

    def crashed(self, index: int) -> None:
        """As Cpus says."""
        self._last_look(Stop(index, "crash", SIGABRT))

    def _last_look(self, stop: Stop) -> None:
        with self._changed:
            self._holding = self._tell(stop)
            while self._holding and not self._over:
                self._changed.wait()

    # ---- for the debugger ----

    def hold(self) -> None:
        """As Cpus says."""
        with self._changed:
            self._holding = True
        for vcpu in self._machine.vcpus:
            vcpu.native.hold = 1
            lib.pv_vcpu_wake(vcpu.native)
        until = time.monotonic() + PATIENCE_S
        while any(map(self._in_call, self._ask("hold"))) and time.monotonic() < until:
            time.sleep(0.001)

    def _in_call(self, index: int) -> bool:
        """Whether a vCPU that waits for its host's answer will get one."""
        state = self._machine.vcpus[index].native.state.state
        return not self._over and state not in (lib.PV_VCPU_STATE_STOPPED, lib.PV_VCPU_STATE_BLOCKED)

    def go(self, plan: Plan) -> None:
        """As Cpus says."""
        self._addresses = {watch.address for watch in plan.watches}
        breakpoints = sorted(plan.breakpoints | self._addresses)
        for vcpu in self._machine.vcpus:
            vcpu.native.hold = 0
        self._ask("go", sorted(plan.running), sorted(plan.stepping), breakpoints, self.written, plan.watched)
        self.written = False
        with self._changed:
            self._holding = False
            self._changed.notify_all()

    def registers(self, index: int) -> Any:
        """As Cpus says."""
        found = self._ask("get", index)
        registers = ffi.new("struct pv_registers *")
        registers.general = [found[name.upper()] for name in GENERAL]
        registers.rip, registers.rflags = found["RIP"], found["EFLAGS"]
        registers.segments = [found[name] for name in _SEGMENTS]
        registers.fs_base, registers.gs_base, registers.efer = found["FS_BASE"], found["GS_BASE"], found["EFER"]
        registers.tables = [found["GDT"], found["IDT"]]
        registers.control = [found[name] for name in _CONTROL]
        registers.fpu[0:3] = [found[name] for name in _FPU]
        registers.mxcsr = found["MXCSR"]
        for number in range(8):
            ffi.memmove(registers.st[number], found[f"ST{number}"].to_bytes(16, "little"), 10)
        for number in range(16):
            ffi.memmove(registers.xmm[number], found[f"XMM{number}"].to_bytes(16, "little"), 16)
        return registers

    def set_registers(self, index: int, registers: Any) -> None:
        """As Cpus says."""
        values = {name.upper(): value for name, value in zip(GENERAL, registers.general, strict=True)}
        values |= {"RIP": registers.rip, "EFLAGS": registers.rflags, "MXCSR": registers.mxcsr}
        values |= {"FS_BASE": registers.fs_base, "GS_BASE": registers.gs_base}
        values |= dict(zip(_CONTROL, registers.control, strict=True))
        values |= dict(zip(_FPU, registers.fpu[0:3], strict=True))
        for name, vectors, count in (("ST", registers.st, 8), ("XMM", registers.xmm, 16)):
            values |= {f"{name}{n}": int.from_bytes(ffi.buffer(vectors[n]), "little") for n in range(count)}
        self._ask("set", index, values)

    def ways(self) -> str:
        """As Cpus says."""
        return "software vCPU: breakpoints and steps by the engine, no watchpoints\n"

    def can_watch(self, index: int, watch: Watch) -> bool:
        """As Cpus says."""
        return watch.kind == "code"

    def ended(self) -> None:
        """As Cpus says."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
