"""A virtual machine: what owns memory, vCPUs and devices, from an image to its end.

    with Machine(MachineConfig(Path("guest.elf"))) as machine:
        outcome = machine.run()

Threads: one per vCPU and one for timers, in C with the GIL released; slow devices have one in Python.
The thread that calls :meth:`Machine.run` only waits, so that signals find it.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from itertools import zip_longest
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from ._native import ffi, lib
from .abi import SERVICES
from .accel import make_accelerator
from .boot.image import check_against_host, load_image
from .boot.layout import lay_out
from .boot.manifest import PlannedDevice, plan_devices
from .callring import CallRings
from .config import PAGE_BYTES, MachineConfig, check_host
from .errors import GuestCrashed, GuestReset, GuestTimeout, HostCallFailed
from .extensions import Extensions
from .interrupts import Held
from .mapped import MappedDisks
from .memory import GuestMemory
from .observers import observe
from .outcome import Outcome, Statistics
from .pausing import Pausing
from .services import features, serve
from .services.console import Console
from .services.continuity import Continuity
from .services.system import CrashReport
from .vcpu import Vcpu, add_vcpus, pinned
from .virtio import VirtioDevices, over_mmio

if TYPE_CHECKING:
    from .debug.debugger import Debugger
    from .debug.server import GdbServer
    from .devices.base import Device
    from .recording.recorder import Recorder
    from .trace import Tracer

RESETS_MOST = 100
LONGEST_WAIT_S = 3600.0


class Machine:
    """One virtual machine, made as `config` says.  Raises ParavirtError when it cannot be made.

    A context manager: leaving it stops the guest and gives everything back.
    """

    def __init__(self, config: MachineConfig) -> None:
        self.config = config
        check_host(config)
        self.image = load_image(config.image, config.initrd)
        self.extensions = Extensions(config.extensions)
        try:
            self.denied = config.denied(self.extensions.services)
            self.plan = plan_devices(self.image, config.attached)
        except BaseException:
            self.extensions.close()
            raise
        self.console = Console(config.console, config.console_input)
        self.life = threading.RLock()  # held while a life of the machine begins or ends
        self._stopped = False  # by stop(), and for good: a reset does not start it again
        self._changed = threading.Condition()
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._started_ns = self._ended_ns = 0  # of this life; 0: not yet
        self._last: Statistics | None = Statistics()  # where there is nothing to count: before it is made, and after
        self._lent = threading.RLock()  # of that: who holds it, and finds it None, finds guest memory
        self.resets = 0
        """How often the guest began anew."""
        self.balloon_target_bytes = config.balloon_bytes
        self.unplugged: set[str] = set()  # networks whose cable is out
        self.continuity = Continuity(self)
        self.pausing = Pausing(self)
        self._prepared, self._resources = False, ExitStack()
        self.tracer: Tracer | None = None
        self.recorder: Recorder | None = None
        self.gdb: GdbServer | None = None
        self.debugger: Debugger | None = None
        self._threads: list[threading.Thread] = []
        self.vcpus: list[Vcpu] = []

    def offered(self) -> dict[int, int]:
        """Services offered to this guest: number → features."""
        here = (s.number for s in SERVICES.values() if s.number not in self.denied.services)
        return {number: features(number, self.config) for number in here}

    def extended(self) -> dict[int, int]:
        """The same of extensions' services."""
        return {n: features for n, features in self.extensions.features.items() if n not in self.denied.services}

    def __enter__(self) -> Self:
        self.prepare()
        return self

    def prepare(self) -> None:
        """Makes all of it if that was not done, as entering the context does; give it back by :meth:`close`."""
        if self._prepared:
            return
        self._prepared = True
        try:
            with Held():
                observe(self)
                self._build()
        except BaseException as error:
            with Held():
                if self.recorder:
                    self.recorder.discard()
                    self.recorder = None
                self._give_back()
            if isinstance(error, OSError):
                raise HostCallFailed(f"cannot make the machine: {error.strerror}; see ulimit -a") from error
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stops the guest and gives everything back."""
        with Held(), self.life:
            self.stop()
            self._give_back()

    def _give_back(self) -> None:
        with self._lent:
            self._last = self.statistics()
        self._prepared = False
        with ExitStack() as closing:  # all of them, whichever fails
            for observer in (self.debugger, self.gdb, self.recorder, self.tracer):  # the last one first
                if observer:
                    closing.callback(observer.close)
            self.debugger = self.gdb = self.recorder = self.tracer = None  # another close() is none of theirs
            closing.callback(self.extensions.close)
            self._resources.close()

    # ---- making it ----

    def _build(self) -> None:
        """Everything of one life of the machine; what it takes is given back by ``_resources``."""
        config, give_back = self.config, self._resources.callback
        self.native: Any = ffi.new("struct pv_machine *")
        lib.pv_machine_init(self.native)
        self.native.opaque = self._handle = ffi.new_handle(self)
        memory = ffi.addressof(self.native, "memory")
        self.memory = GuestMemory(config.memory_bytes, memory, huge_pages=config.huge_pages)
        give_back(self.memory.close)
        if config.populate:
            self.memory.populate(config.progress)
        self.mapped = MappedDisks(self.plan, self.memory.ranges)
        give_back(self.mapped.close)
        self.accelerator = make_accelerator(config, self.native, self.memory)
        give_back(self.accelerator.close)
        check_against_host(self.image, self.offered() | self.extended(), self.accelerator.cpu_level)
        for gpa, size in self.memory.ranges:
            self.accelerator.add_memory(gpa, size, self.memory.hva(gpa, size))
        for mapped in self.mapped:
            self.accelerator.add_mapped(mapped)
        mmio = over_mmio(config, self.image)
        windows, generation = len(self.plan) if mmio else 0, self.continuity.generation
        self.layout = lay_out(config, self.image, self.memory, windows, self.mapped, generation)
        self._offer()
        self.accelerator.set_entry(self.layout)
        self.vcpus = add_vcpus(self, self._resources)
        self.callrings = CallRings(self)
        give_back(self.callrings.close)
        self.devices = VirtioDevices(self, mmio)
        give_back(self.devices.close)
        self.devices.add(self.plan)
        if self.recorder:
            self.recorder.record(self)
        with self._lent:
            self._last = None
        if self.native.state.balloon_target_bytes != self.balloon_target_bytes:  # asked for since it was looked at
            self.balloon(self.balloon_target_bytes)

    def _offer(self) -> None:
        native = self.native
        native.poison, native.poison_seed = self.config.poison, int.from_bytes(os.urandom(8), "little") | 1
        native.state.balloon_target_bytes = self.balloon_target_bytes
        serve(native, self.offered(), self.denied.calls, self.config.budgets, self.image.is_plain)
        self.extensions.attach(self)
        self._resources.callback(self.console.forget)
        self._boot_info = ffi.from_buffer(self.layout.boot_info)
        native.boot_info, native.boot_info_bytes = ffi.cast("const uint8_t *", self._boot_info), len(self._boot_info)
        native.time_page = ffi.cast("struct pv_time_page *", self.memory.hva(self.layout.time_page_gpa, PAGE_BYTES))
        self.continuity.begin()

    def make_device(self, planned: PlannedDevice) -> Device:
        """The back end of a device of the plan."""
        from .devices import make_device  # a machine without devices starts without them

        return make_device(planned, self)

    # ---- running it ----

    @property
    def ending(self) -> bool:
        """Whether the guest's life is over, or about to be: its threads may still be at work."""
        return bool(self.native.ending)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended; it may be paused."""
        return bool(self._threads) and not self.ending

    def start(self) -> None:
        """Lets the guest run; returns at once.  Raises HostCallFailed; then :meth:`stop`."""
        with Held(), self.life:
            if not self._prepared:
                raise RuntimeError("the machine is not made, or closed; run it in `with Machine(config) as machine:`")
            self.finish("stopped") if self._stopped else self._begin()

    def _begin(self) -> None:
        if self._threads:
            raise RuntimeError("the machine was started already")
        argument = self.layout.start_info_gpa if self.image.is_plain else self.layout.boot_info_gpa
        self.vcpus[0].set_start(self.image.entry_gpa, argument)
        self.native.running = 1
        self._started_ns = time.monotonic_ns()
        lib.pv_time_start(self.native, self.accelerator.counter_hz(self.vcpus[0].native), 0)
        timers = threading.Thread(target=lib.pv_timer_run, args=(self.native,), name="timers", daemon=True)
        try:
            timers.start()
            self._threads = [timers]
            self.accelerator.begin(self._accelerator_lost)
            if self.debugger:
                self.debugger.begin()
            for vcpu, cpu in zip_longest(self.vcpus, self.config.pin):
                with pinned(cpu):
                    vcpu.begin(self.accelerator.run, self._vcpu_ended)
        except OSError as error:  # the CPU went away since it was looked at
            raise HostCallFailed(f"cannot pin the vCPUs: {error.strerror}; give other CPUs with --pin") from error
        except RuntimeError as error:  # what Python makes of EAGAIN
            raise HostCallFailed(f"cannot start the machine's threads: {error}; see ulimit -u") from error

    def _vcpu_ended(self, vcpu: Vcpu, result: Any) -> None:
        if result.kind == lib.PV_EXIT_STOPPED:
            return
        try:
            from .exits import meaning  # only when something went wrong

            self.fail(meaning(self, vcpu.index, result))
        except Exception as ours:  # a bug of ours: it ends the machine, too
            self.fail(ours)

    def _accelerator_lost(self) -> None:
        self._vcpu_ended(self.vcpus[0], ffi.new("struct pv_exit *", {"kind": lib.PV_EXIT_ENGINE}))

    def place(self, gpa: int) -> str:
        """An address as people read it: with the name of what is there."""
        from .boot.symbols import place  # only when something went wrong

        return place(self.image, gpa)

    def run(self) -> Outcome:
        """Starts the guest and waits for its end; a reset starts it again.

        Raises GuestCrashed, TripleFault, GuestTimeout, … and lets KeyboardInterrupt through; the guest
        is stopped in every case.
        """
        until = time.monotonic() + self.config.timeout_s if self.config.timeout_s else float("inf")
        for _ in range(RESETS_MOST + 1):
            try:
                self.start()
                outcome = self.wait(until - time.monotonic())
            finally:
                self._end()
            if outcome.kind != "reset":
                return outcome._replace(statistics=self.statistics())  # of a guest that is at rest
            self._rebuild()
        raise GuestReset(f"the guest was reset {RESETS_MOST} times; look at why it does not come up")

    def _rebuild(self) -> None:
        """The next life, after a reset.  Budgets are the machine's: what was used up stays so."""
        with Held(), self.life:
            used = self.native.state.console_bytes, self.native.state.trace_marks
            with self._lent:
                self._last = self.statistics()
            self._resources.close()
            self._outcome = None
            self._started_ns = self._ended_ns = 0
            self.resets += 1
            self._build()
            self.native.state.console_bytes, self.native.state.trace_marks = used

    def wait(self, timeout_s: float = float("inf")) -> Outcome:
        """Waits for the end of this life of the guest.  Raises as :meth:`run` does; after it, :meth:`stop`."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while self._outcome is None and self._error is None:
                left_s = until - time.monotonic()
                if left_s <= 0:
                    given_s = self.config.timeout_s or timeout_s
                    raise GuestTimeout(f"the guest did not end within {given_s:g} s; it was stopped")
                self._changed.wait(min(left_s, LONGEST_WAIT_S))
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        if self._outcome.report:
            from .debug.backtrace import places  # only when something went wrong

            raise GuestCrashed(self._outcome.report, self.place, places(self, self._outcome.report))
        return self._outcome._replace(statistics=self.statistics())

    def stop(self) -> None:
        """Stops the guest for good and waits for its threads.  Any thread but the machine's own.

        Those, in which ``MachineConfig.console`` is called, end it by ``finish("stopped")``, which does not wait.
        """
        self._stopped = True
        self._end()

    def _end(self) -> None:
        """Ends this life of the guest."""
        with Held(), self.life:
            if not self._threads:
                return
            lib.pv_machine_end(self.native)
            if self.debugger:
                self.debugger.ended()
            self.pausing.ended()
            for vcpu in self.vcpus:
                vcpu.join()
            self.callrings.join()
            self.accelerator.end()
            self.devices.stop()
            for thread in self._threads:
                thread.join()
            self._threads = []
            self._ended_ns = time.monotonic_ns()
            self.finish("stopped")

    # ---- what services and devices report ----

    def finish(
        self,
        kind: Literal["shutdown", "reset", "crash", "stopped"],
        reason: str = "",
        status: int = 0,
        report: CrashReport | None = None,
    ) -> None:
        """The guest's life ends thus; the first one counts.  Any thread; of a crash, that of the vCPU."""
        if report and self.debugger:
            self.debugger.crashed(report.vcpu)
        self._over(Outcome(kind, reason, status, report), None)

    def fail(self, error: BaseException) -> None:
        """The guest's life ends with `error`, raised where it is waited for.  Any thread."""
        self._over(None, error)

    def _over(self, outcome: Outcome | None, error: BaseException | None) -> None:
        with self._changed:
            if self._outcome is None and self._error is None:
                self._outcome, self._error = outcome, error
            self._changed.notify_all()
        lib.pv_machine_end(self.native)
        if self.debugger:
            self.debugger.over(self._outcome)

    def console_write(self, data: bytes) -> bool:
        """Output by another console than the service's; False if it is beyond the budget (CON-2)."""
        within = bool(lib.pv_console_spend(self.native, len(data)))
        if within:
            self.console.write(data)
        return within

    def balloon(self, target_bytes: int) -> None:
        """Asks the guest for so much of its memory, in place of what was asked for before; it may take its time.

        What it gives is the host's again at once, as `statistics` shows.  Any thread.  Raises ConfigError.
        """
        self.config.check_balloon(target_bytes)
        with self._lent:
            self.balloon_target_bytes = target_bytes
            if self._last is None:  # else the next life begins with it
                lib.pv_machine_balloon(self.native, target_bytes)
                self.devices.want(target_bytes)

    def statistics(self) -> Statistics:
        """Counts so far; once the machine is given back, its last ones."""
        with self._lent:
            return self._last or self._count()

    def _count(self) -> Statistics:
        state, vcpus = self.native.state, tuple(v.statistics for v in self.vcpus)
        run_ns = (self._ended_ns or time.monotonic_ns()) - self._started_ns if self._started_ns else 0
        more = state.console_bytes, state.trace_marks, run_ns, self.memory.statistics(self.native)
        return Statistics(vcpus, self.devices.statistics(), *more, self.continuity.statistics())
