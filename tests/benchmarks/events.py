"""events / running vCPU: from the host's signal to the guest's answer, seen by the host; beside it, two more.

    running vCPU   a vCPU that computes is interrupted; floor: the irqfd signalled by hand, a handler of one instruction
    wake           a vCPU that waits in vcpu.block; floor: a thread that sleeps in the kernel and is woken
    ipi            from vCPU to vCPU by its page and a doorbell, until the sender sees the answer; floor: APIC to APIC
    ipi by call    the same by event.send
    ipi looking    as ipi, to a vCPU that holds upcalls back and looks at its page

The guest is bench_events, the host's half events.c.  No peer: QEMU has no signal for a program in its guest.
"""

from __future__ import annotations

import ctypes
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from paravirt import Machine, MachineConfig
from paravirt._native import ffi, lib

from .common import address, compile_c, guest
from .report import Row, make_row

SPIN, BARE, BLOCK, IPI, END = range(5)  # modes of the guest
TURNS = 5_000
WAKES = 500
FIRST_WORD_S = 30.0


class _Guest:
    """A running bench_events and its control block."""

    def __init__(self, machine: Machine, console: bytearray, said: threading.Event) -> None:
        self.machine, self.console = machine, console
        machine.start()
        if not said.wait(FIRST_WORD_S):
            raise RuntimeError("bench_events said nothing")
        gpa = json.loads(bytes(console).split(b"\n")[0])["control_gpa"]
        self.control: Any = ffi.cast("volatile uint64_t *", machine.memory.hva(gpa, 24))

    def enter(self, mode: int) -> None:
        """Has the guest be in `mode` when this returns."""
        before, self.control[0] = self.control[0], mode
        if before == BLOCK:
            lib.pv_event_raise(self.machine.native, 0, lib.PV_CHANNEL_FIRST_FREE)
        while self.control[1] != mode + 1 and not self.machine.ending:
            time.sleep(0.001)

    def turns(self, library: ctypes.CDLL, count: int, bare: bool = False) -> Any:
        """Sorted ticks of `count` turns."""
        ticks = (ctypes.c_uint64 * count)()
        raiser = None if bare else address(ffi.addressof(lib, "pv_event_raise"))
        vcpu = self.machine.vcpus[0].native
        library.events_turns(address(vcpu), address(self.control), raiser, ticks, count)
        return ticks

    def figures(self) -> dict[str, dict[str, float]]:
        """What the guest timed itself, in ns."""
        found = {}
        for line in bytes(self.console).decode().splitlines()[1:]:
            f = json.loads(line)
            found[f["figure"]] = {name: f[f"{name}_ticks"] * 1e9 / f["hz"] for name in ("median", "p99")}
        return found


def _hz(machine: Machine) -> float:
    return float(machine.accelerator.counter_hz(machine.vcpus[0].native))


def _load(to: Path) -> ctypes.CDLL:
    library = compile_c("events.c", to)
    library.events_turns.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_uint32]
    library.events_turns.restype = None
    library.events_wake_floor.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    return library


def _value(ticks: Any, floor: Any, hz: float) -> dict[str, float]:
    ns = 1e9 / hz
    return {
        "value": ticks[len(ticks) // 2] * ns,
        "p99": ticks[len(ticks) - len(ticks) // 100 - 1] * ns,
        "floor": floor[len(floor) // 2] * ns,
    }


def measure(library: ctypes.CDLL) -> dict[str, dict[str, float]]:
    """One round: ours and the floor in turn, in one guest."""
    console, said = bytearray(), threading.Event()

    def hear(data: bytes) -> None:
        console.extend(data)
        if b"\n" in console:
            said.set()

    vcpus = 2 if (os.cpu_count() or 1) > 1 else 1
    with Machine(MachineConfig(guest("bench_events"), console=hear, vcpus=vcpus, timeout_s=300)) as machine:
        hz = _hz(machine)  # before the vCPU runs: KVM is asked for it through a lock that a running vCPU holds
        running = _Guest(machine, console, said)
        taken = {}
        running.enter(SPIN)
        ours = running.turns(library, TURNS)
        running.enter(BARE)
        taken["running vCPU"] = _value(ours, running.turns(library, TURNS, bare=True), hz)
        running.enter(BLOCK)
        ours, floor = running.turns(library, WAKES), (ctypes.c_uint64 * WAKES)()
        if error := library.events_wake_floor(floor, WAKES):
            raise OSError(error, os.strerror(error))
        taken["wake"] = _value(ours, floor, hz)
        if vcpus > 1:
            running.enter(IPI)
        running.control[0] = END
        machine.wait()
        if vcpus > 1:
            own = running.figures()
            floor_ns = own.pop("ipi floor")["median"]
            taken |= {name: {"value": f["median"], "p99": f["p99"], "floor": floor_ns} for name, f in own.items()}
    return taken


def run(rounds: int) -> list[Row]:
    """Ours and the floors in turn."""
    taken: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as work:
        library = _load(Path(work))
        for _ in range(rounds):
            for figure, value in measure(library).items():
                taken.setdefault(figure, []).append(value)
    goals = {"running vCPU": "<= 1.2 x floor"}
    return [make_row("events", name, "ns", values, goal=goals.get(name, "")) for name, values in taken.items()]
