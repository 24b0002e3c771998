"""What every kind of extension has in common: a name, a declared service, state, and a place in the machine."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import Call, Service
from ..errors import ExtensionError, one_line

if TYPE_CHECKING:
    from ..machine import Machine

NAME = re.compile(r"[a-z0-9_]+")


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
        """Raises ExtensionError if it says that there is none, or comes from a process that is not itself any more."""
        self.description = description
        if wrong := self._text(description.wrong):
            raise self.refuse(f"{wrong}; see docs/howto/ship-an-extension")
        calls, names = description.calls, description.names
        listed = range(min(description.call_count, len(calls)))
        texts = {number: self._text(names[number]) for number in listed}
        if description.call_count > len(calls) or any(calls[n].count > len(calls[n].arguments) for n in listed):
            raise self.refuse("what it says of its calls is damaged; its maker has to mend it")
        lib.pv_module_name_calls(description)
        self.name, self.vendor, self.version = (
            self._text(text) for text in (description.name, description.vendor, description.version)
        )
        if not all(NAME.fullmatch(text) for text in (self.name, *filter(None, texts.values()))):
            raise self.refuse("a name is not of a-z, 0-9 and _; its maker has to mend it")
        self.features, self.state_version = description.features, description.state_version
        declared = {}
        for number, text in texts.items():
            if text:
                arguments = [calls[number].arguments[i] for i in range(calls[number].count)]
                registers = sum(1 if a.kind == lib.PV_ARGUMENT_VALUE or a.fixed else 2 for a in arguments)
                declared[text.removeprefix(f"{self.name}_")] = Call(number, registers)
        self.service = Service(description.service, declared)
        self.native.service, self.native.offered = description.service, description.features
        self.native.calls, self.native.call_count = description.calls, description.call_count

    def _text(self, field: Any) -> str:
        """A text of the description, in one line; it has an end, which C looks for."""
        text, end, _ = bytes(ffi.buffer(field)).partition(b"\0")
        if not end:
            raise self.refuse("a text of its description has no end; its maker has to mend it")
        return one_line(text.decode(errors="replace"))
