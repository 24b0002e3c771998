"""A fake machine in a world that stands still: it has two ranges of memory, and time passes when the test says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from hypercall_abi.model import GuestMemory
from paravirt._native import ffi, lib

from .fake_machine import RAM_BYTES, RAM_GPA, FakeMachine

HIGH_GPA, HIGH_BYTES = RAM_GPA + RAM_BYTES, 0x1_0000
PATIENCE_S = 20.0
UNKNOWN_NS = (1 << 64) - 1


class ServedMachine(FakeMachine):
    """As `FakeMachine`; `services` maps numbers of services to features offered, `denied` holds call ids."""

    def __init__(
        self,
        vcpus: int = 2,
        *,
        poison: bool = False,
        services: Mapping[int, int],
        denied: frozenset[int] = frozenset(),
        console_input: bytes = b"",
        console_budget: int = 1 << 20,
        trace_budget: int = 1000,
    ) -> None:
        super().__init__(vcpus, poison=poison, more_ram=(HIGH_BYTES,))
        native = self.native
        native.services = sum(1 << number for number in services)
        for number, features in services.items():
            native.offered[number] = features
        for number in denied:
            native.denied[number >> 16] |= 1 << (number & 0xFFFF)
        native.console_budget, native.trace_mark_budget = console_budget, trace_budget
        native.zero_ns = lib.pv_clock_ns()  # real time is behind what the test says, so that nobody looks at it
        self.input = console_input
        for index, vcpu in enumerate(self.vcpus):
            vcpu.page.index, vcpu.page.deadline_ns = index, vcpu.state.deadline_ns
        self.vcpus[0].state.state = self.vcpus[0].page.state = lib.PV_VCPU_STATE_RUNNING
        native.running = 1

    def copy(self) -> GuestMemory:
        """What is in its memory now."""
        sizes = ((RAM_GPA, RAM_BYTES), (HIGH_GPA, HIGH_BYTES))
        return GuestMemory({gpa: bytearray(ffi.buffer(self.at(gpa), size)) for gpa, size in sizes})

    def pass_time(self, now_ns: int) -> None:
        """It is `now_ns`: one turn of the timer thread."""
        self.native.time.base_ns = now_ns
        self.native.timer_due_ns = UNKNOWN_NS  # until the turn is over
        self.native.ending = 0
        timer = threading.Thread(target=lib.pv_timer_run, args=(self.native,))
        timer.start()
        until = time.monotonic() + PATIENCE_S
        while self.native.timer_due_ns == UNKNOWN_NS:
            assert time.monotonic() < until, "the timer thread made no turn"
            time.sleep(0)
        ended = self.native.ended
        self.native.ending = 1
        lib.pv_timer_poke(self.native)
        timer.join()
        self.native.ending = ended

    def block(self, vcpu: int, deadline_ns: int) -> threading.Thread:
        """Has a vCPU wait in a thread of its own; returns once it does."""
        thread = threading.Thread(target=self.call, args=("vcpu.block", deadline_ns), kwargs={"vcpu": vcpu})
        thread.start()
        until = time.monotonic() + PATIENCE_S
        while self.vcpus[vcpu].state.state != lib.PV_VCPU_STATE_BLOCKED:
            assert time.monotonic() < until, "the vCPU did not block"
            time.sleep(0)
        return thread
