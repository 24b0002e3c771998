"""What every kind of extension has in common: a name, a declared service, state, and a place in the machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import Call, Service
from ..errors import ExtensionError

if TYPE_CHECKING:
    from ..machine import Machine


class Extension(ABC):
    """One extension.  ``native`` is the C core's ``struct pv_extension *``, filled in by the subclass."""

    name: str
    vendor: str
    version: str
    service: Service
    features: int
    state_version: int = 1

    def __init__(self, source: str) -> None:
        self.source = source
        self.native: Any = ffi.new("struct pv_extension *")
        self._begun = False

    def refuse(self, why: str) -> ExtensionError:
        """The error that says what is wrong with it."""
        return ExtensionError(f"the extension {self.source}: {why}")

    def attach(self, machine: Machine, denied: int) -> None:
        """Offers it to a new life of `machine`, but for the functions in the mask `denied`.

        The first time it begins, afterwards it is told of the reset.  Raises ExtensionError.
        """
        if self._begun:
            self._reset(machine)
        else:
            self._begin(machine)
            self._begun = True
        self.native.denied = denied
        wrong = lib.pv_extension_add(machine.native, self.native)
        if wrong != ffi.NULL:
            raise self.refuse(f"{ffi.string(wrong).decode()}; see docs/abi/vendors")

    @abstractmethod
    def _begin(self, machine: Machine) -> None: ...

    @abstractmethod
    def _reset(self, machine: Machine) -> None: ...

    @abstractmethod
    def save(self) -> bytes:
        """Its state; the machine does not run.  Raises ExtensionError."""

    @abstractmethod
    def load(self, version: int, state: bytes) -> None:
        """Takes over a state that was saved.  Raises ExtensionError."""

    def fault(self) -> str | None:
        """What went wrong since it began, in one line."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Gives everything back.  The machine does not run."""


class Described(Extension):
    """A binary module, by what it says of itself (``struct pv_module_description``)."""

    def take(self, description: Any) -> None:
        """Raises ExtensionError if it says that there is none."""
        self.description = description
        if wrong := ffi.string(description.wrong).decode(errors="replace"):
            raise self.refuse(f"{wrong}; see docs/howto/ship-an-extension")
        lib.pv_module_name_calls(description)
        self.name, self.vendor, self.version = (
            ffi.string(text).decode(errors="replace")
            for text in (description.name, description.vendor, description.version)
        )
        self.features, self.state_version = description.features, description.state_version
        calls = {}
        for number in range(description.call_count):
            if text := ffi.string(description.names[number]).decode():
                arguments = [description.calls[number].arguments[i] for i in range(description.calls[number].count)]
                registers = sum(1 if a.kind == lib.PV_ARGUMENT_VALUE or a.fixed else 2 for a in arguments)
                calls[text.removeprefix(f"{self.name}_")] = Call(number, registers)
        self.service = Service(description.service, calls)
        self.native.service, self.native.offered = description.service, description.features
        self.native.calls, self.native.call_count = description.calls, description.call_count
