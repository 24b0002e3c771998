"""A machine under a debugger: whether it runs, where it stops, its breakpoints, from one life to the next.

It stops as a whole and goes on as told.  How vCPUs are stopped is their accelerator's (``kvm.py``, ``software.py``),
what a debugger asks for and is told is ``stub.py``'s.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from .._native import lib
from ..abi import Constants
from ..accel.kvm import Kvm
from ..errors import OutputError
from . import held as held  # for the C core to find
from .space import Space
from .stops import Cpus, Plan, Stop, Watch

if TYPE_CHECKING:
    from pathlib import Path

    from ..machine import Machine
    from ..outcome import Outcome

NEVER = (1 << 64) - 1
BREAKPOINTS_MOST = 1000
_STATES = Constants("VCPU_STATE").names()


class End(NamedTuple):
    """How the machine ended: its exit status, or None if it did not end well."""

    status: int | None


class Debugger:
    """Of `machine`, for all its lives; it holds nobody until somebody looks (:meth:`stop`, or ``attached``)."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.attached = False
        """Somebody is there who is told of stops."""
        self.stopped = False
        self.waits = False
        """The guest's first instruction is not run before somebody says so."""
        self.private = False
        """Who is told is this user, and may have files written."""
        self.lock = threading.RLock()
        """Of those who stop the machine, look at it and let it go."""
        self.began = threading.Event()
        self.breakpoints: set[int] = set()
        """Virtual addresses."""
        self.watches: list[Watch] = []
        self.told: queue.SimpleQueue[Stop | End] = queue.SimpleQueue()
        """What happened: `wake_fd` can be read then."""
        self.wake_fd, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._cpus: Cpus | None = None
        self._later: list[Stop] = []
        self._stopped_ns = 0  # of the guest's time, which may stand still as well
        self._frozen = False
        self._stood = False  # by a debugger's will, which is done once the machine is not frozen
        self._go: tuple[frozenset[int], frozenset[int] | None] = frozenset(), None
        self._watchdog_ns = NEVER

    def close(self) -> None:
        """After the machine's last life."""
        os.close(self.wake_fd)
        os.close(self._wake)

    # ---- the machine's side ----

    def begin(self) -> None:
        """A life begins, whose vCPUs are made and do not run."""
        self._attach()
        if self.waits and not self.began.is_set():
            self.stop()
        elif self.stopped or self.breakpoints or self.watches:
            self.stopped = True
            self.resume()
        self.began.set()

    def join(self) -> None:
        """The machine runs already."""
        self._attach()
        self.began.set()

    def _attach(self) -> None:
        machine = self.machine
        if isinstance(machine.accelerator, Kvm):
            from .kvm import KvmCpus

            self._cpus = KvmCpus(machine, self._tell)
        else:
            from .software import SoftwareCpus

            self._cpus = SoftwareCpus(machine, machine.accelerator.debug_socket, self._tell)
        machine.native.held = lib.pv_py_held

    def held(self, index: int, why: int, detail: int) -> bool:
        """From the C core, in a vCPU's thread; false: the vCPU ends."""
        return self._cpus is None or self._cpus.held(index, why, detail)

    def _tell(self, stop: Stop) -> bool:
        """Whether somebody is there for it; otherwise the guest goes on as if nobody could be."""
        if self.attached:
            self._say(stop)
        return self.attached

    def _say(self, what: Stop | End) -> None:
        self.told.put(what)
        try:
            os.write(self._wake, b"\0")
        except (BlockingIOError, OSError):  # enough of them are in the pipe; or it is closed
            return

    def news(self) -> list[Stop | End]:
        """What was told since this was asked last."""
        with suppress(BlockingIOError):
            os.read(self.wake_fd, 4096)
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self.told.get_nowait())
        return found

    def keep(self, stop: Stop) -> None:
        """It came while another was being told; who goes on is told of it first.

        Not of a breakpoint or a step: the vCPU has been put before the one, and the other is no news any more.
        """
        if stop.kind not in ("code", "step"):
            self._later.append(stop)

    def crashed(self, index: int) -> None:
        """The guest reported its crash, in that vCPU's thread; returns when it may end."""
        if self._cpus and index < len(self.machine.vcpus):
            self._cpus.crashed(index)

    def over(self, outcome: Outcome | None) -> None:
        """The machine has come to its end: with an outcome, or without one if something failed."""
        if outcome is None or outcome.kind != "reset":
            good = outcome is not None and outcome.kind == "shutdown"
            self.say_end(outcome.status & 0xFF if good and outcome else None)

    def say_end(self, status: int | None) -> None:
        """There is nothing more to debug."""
        self._say(End(status))

    def ended(self) -> None:
        """This life is over: no thread is held any more, and nobody looks at its vCPUs."""
        if self._cpus:
            self._cpus.ended()
        with self.lock:  # who looks at them just now is heard out
            self._cpus = None
            self.stopped = self._frozen = False

    # ---- the debugger's side ----

    @property
    def cpus(self) -> Cpus:
        """The vCPUs of this life.  Raises OSError between two of them."""
        if self._cpus is None:
            raise OSError(errno.ESRCH, "the machine has ended")
        return self._cpus

    @property
    def threads(self) -> list[int]:
        """vCPUs that run, or would if they were not held; vCPU 0 if there are none."""
        states = [_STATES[vcpu.native.state.state] for vcpu in self.machine.vcpus]
        return [n for n, state in enumerate(states) if state != "STOPPED"] or [0]

    def state(self, index: int) -> str:
        """What a vCPU is doing, in the words of the service vcpu."""
        return _STATES[self.machine.vcpus[index].native.state.state].lower()

    def stop(self) -> None:
        """No vCPU runs guest code when this returns.  The watchdog's time stands still."""
        self.cpus.hold()
        self._stood = True
        if self.stopped:
            return
        self.stopped = True
        self._stopped_ns = lib.pv_time_now(self.machine.native)
        state = self.machine.native.state
        self._watchdog_ns, state.watchdog_ns = state.watchdog_ns, NEVER

    def resume(self, stepping: frozenset[int] = frozenset(), running: frozenset[int] | None = None) -> None:
        """Those in `stepping` do one instruction, those in `running` (all, if it is None) go on, others stay."""
        if self._frozen:
            self._stood, self._go = False, (stepping, running)
            return
        if self.stopped and self._watchdog_ns != NEVER:
            stood_ns = lib.pv_time_now(self.machine.native) - self._stopped_ns
            self.machine.native.state.watchdog_ns = self._watchdog_ns + stood_ns
            lib.pv_timer_poke(self.machine.native)
        self.stopped = False
        if self._later:
            self._say(self._later.pop(0))
            return
        everyone = frozenset(range(len(self.machine.vcpus)))
        running = everyone if running is None else running
        breakpoints, watches = frozenset(self.breakpoints), tuple(self.watches)
        self.cpus.go(Plan(running | stepping, stepping, breakpoints, watches, self.attached))

    def freeze(self) -> None:
        """As `stop`; whoever debugs the machine, it does not go on before `thaw`."""
        with self.lock:
            stood = self.stopped
            self.stop()
            self._frozen, self._stood, self._go = True, stood, (frozenset(), None)

    def thaw(self) -> None:
        """It goes on, unless a debugger had it stopped and has not said so."""
        with self.lock:
            self._frozen = False
            if not self._stood:
                self.resume(*self._go)

    def detach(self) -> None:
        """Nothing is left of what was asked for, and the guest goes on."""
        if self._cpus and (self.breakpoints or self.watches):
            self.stop()  # they are taken away while nobody runs into them
        self.breakpoints.clear()
        self.watches.clear()
        self._later.clear()
        self.attached = False
        if self.stopped and self._cpus:
            self.resume()

    def registers(self, index: int) -> Any:
        """A ``struct pv_registers *``, a copy.  Raises OSError."""
        return self.cpus.registers(index)

    def space(self, index: int) -> Space:
        """Memory as that vCPU sees it.  Raises OSError."""
        return Space(self.machine.memory, self.registers(index))

    def break_at(self, index: int, address: int) -> bool:
        """Whether vCPUs will stop at the instruction there."""
        known = address in self.breakpoints
        if not known and (len(self.breakpoints) >= BREAKPOINTS_MOST or self.space(index).gpa(address) is None):
            return False
        self.breakpoints.add(address)
        return True

    def watch(self, index: int, watch: Watch) -> bool:
        """Whether they will stop at that."""
        if watch in self.watches:
            return True
        if len(self.watches) >= self.cpus.watches_most or not self.cpus.can_watch(index, watch):
            return False
        self.watches.append(watch)
        return True

    def write_core(self, path: Path) -> int:
        """Writes an ELF core of the machine, which stands still meanwhile; bytes of memory in it.

        Raises OutputError.
        """
        from .core import write_core

        with self.lock:
            stood = self.stopped
            try:
                if not stood:
                    self.stop()
            except OSError as error:
                raise OutputError(f"no core is written: {error.strerror}") from error
            try:
                return write_core(self, path)
            finally:
                if not stood:
                    self.resume()


def debugger_of(machine: Machine) -> Debugger:
    """The debugger of a machine that runs, made if it has none."""
    if machine.debugger is None:
        machine.debugger = Debugger(machine)
        machine.debugger.join()
    return machine.debugger
