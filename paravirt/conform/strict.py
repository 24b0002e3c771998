"""The strict host: a machine that watches its guest and does what is legal and rare.

What is rare is an :class:`Injection` (``injections.py``); what is wrong is judged from the recording and from
what the machine is left with (``findings.py``).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._native import ffi, lib
from ..abi import call_name
from ..boot.manifest import PlannedDevice
from ..config import MachineConfig
from ..devices.base import Device
from ..machine import Machine

CallKey = tuple[int, int, tuple[int, ...]]
"""vCPU, call id, arguments."""


class Answer(NamedTuple):
    """What an injection makes of a call: it answers, or has it carried out with `args` and `status` for OK."""

    status: int = 0
    value: int = 0
    args: tuple[int, ...] | None = None


class Injection:
    """Something legal that hosts rarely do.  `rules` are those that a guest breaks that cannot bear it."""

    name: str
    rules: tuple[str, ...]
    doc: str

    def configure(self, config: MachineConfig) -> MachineConfig:
        """Before the machine is made."""
        return config

    def built(self, machine: StrictMachine) -> None:
        """Before the guest begins."""

    def device(self, device: Device, planned: PlannedDevice, machine: StrictMachine) -> Device:
        """A device that is about to be attached, or another in its place."""
        return device

    def call(self, vcpu: int, name: str, args: tuple[int, ...]) -> Answer | None:
        """A call that passed all checks, from any of the machine's threads; None leaves it alone."""
        return None

    def disturb(self, machine: StrictMachine) -> None:
        """Called again and again while the guest runs, a few hundred times a second."""


class StrictMachine(Machine):
    """A machine with `injections`.  ``injected`` counts the calls that they had a hand in."""

    PERIOD_S = 0.002

    def __init__(self, config: MachineConfig, injections: Sequence[Injection]) -> None:
        for injection in injections:
            config = injection.configure(config)
        self.injections = tuple(injections)
        self.injected: Counter[CallKey] = Counter()
        self.answered = 0
        super().__init__(config)

    def _build(self) -> None:
        super()._build()
        self.native.ops.intercept = lib.pv_py_intercept
        for injection in self.injections:
            injection.built(self)

    def make_device(self, planned: PlannedDevice) -> Device:
        """With the injections' say."""
        device = super().make_device(planned)
        for injection in self.injections:
            device = injection.device(device, planned, self)
        return device

    def _begin(self) -> None:
        super()._begin()
        thread = threading.Thread(target=self._disturb, name="disturbance", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _disturb(self) -> None:
        while not self.ending:
            time.sleep(self.PERIOD_S)
            for injection in self.injections:
                injection.disturb(self)

    def replace_boot_info(self, boot_info: bytes) -> None:
        """Other boot information of the same size, before the guest begins."""
        self.layout = self.layout._replace(boot_info=boot_info)
        self.memory.write(self.layout.boot_info_gpa, boot_info)
        self._boot_info = ffi.from_buffer(boot_info)
        self.native.boot_info = ffi.cast("const uint8_t *", self._boot_info)

    def intercept(self, vcpu: Any, call: Any, result: Any) -> bool:
        """True: answered."""
        args = tuple(call.args)
        for injection in self.injections:
            answer = injection.call(vcpu.index, call_name(call.id), args)
            if answer is None:
                continue
            self.injected[vcpu.index, call.id, args] += 1
            result.status, result.value = answer.status, answer.value
            if answer.args is None:
                return True
            call.args = list(answer.args)
            return False
        self.answered += 1
        return False


@ffi.def_extern(error=False)  # type: ignore[untyped-decorator]
def pv_py_intercept(vcpu: Any, call: Any, result: Any) -> bool:
    """A call that is about to be carried out."""
    machine: StrictMachine = ffi.from_handle(vcpu.machine.opaque)
    return machine.intercept(vcpu, call, result)
