"""What a vendor's module says of itself: its process may say anything, and gets a service, or ExtensionError."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paravirt._native import ffi, lib
from paravirt.errors import ExtensionError
from paravirt.extensions.base import Described
from tests.support.fake_machine import FakeMachine

if TYPE_CHECKING:
    from paravirt.machine import Machine

INSTRUMENT = ("paravirt.extensions",)
MACHINE = FakeMachine()
HANDLER = ffi.callback(
    "int64_t(struct pv_vcpu *, void *, uint32_t, const uint64_t *, uint64_t *)", lambda _v, _o, _f, _a, _value: 0
)


class Said(Described):
    """A module of which there is nothing but its description."""

    def __init__(self, data: bytes) -> None:
        super().__init__("module")
        description = ffi.new("struct pv_module_description *")
        ffi.memmove(description, data, min(len(data), ffi.sizeof(description[0])))
        self.take(description)
        self.native.call = HANDLER

    def _begin(self, machine: Machine) -> None:
        """Nothing to begin."""

    def _reset(self, machine: Machine) -> None:
        """Nothing to reset."""

    def save(self) -> bytes:
        """Nothing."""
        return b""

    def load(self, version: int, state: bytes) -> None:
        """Takes nothing over."""

    def close(self) -> None:
        """Nothing to give back."""


def one(data: bytes) -> None:
    """Offers what `data` describes to a machine, and makes each call of it once."""
    MACHINE.native.extension_count = 0
    try:
        module = Said(data)
        module.attach(MACHINE, 0)  # type: ignore[arg-type]
    except ExtensionError as error:
        assert "\n" not in str(error), "a mistake is one line"
        return
    for name, call in module.service.calls.items():
        assert name.isascii() and name.isprintable()
        status, _ = MACHINE.raw(module.service.number << 16 | call.number)
        assert status <= lib.PV_STATUS_CONTINUE
