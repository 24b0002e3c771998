"""Plug-ins: services in Python, declared in the ABI's own vocabulary and found by entry points."""

from __future__ import annotations

import traceback
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar

from hypercall_abi import schema
from hypercall_abi.schema import Arg

from .. import abi
from .._native import ffi, lib
from ..abi import STATUS
from ..config import ExtensionConfig
from ..errors import ExtensionError
from . import GROUP
from .base import Extension

if TYPE_CHECKING:
    from ..machine import Machine

Answer = int | tuple[int, int]
KINDS = {"read": lib.PV_ARGUMENT_READ, "write": lib.PV_ARGUMENT_WRITE}


class PluginHost:
    """What the host does for a plug-in: copies of guest memory, events, time."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def read(self, gpa: int, size_bytes: int) -> bytes:
        """A copy of guest memory.  Raises ValueError outside of it."""
        return self._machine.memory.read(gpa, size_bytes) if size_bytes else b""

    def write(self, gpa: int, data: bytes) -> None:
        """Copies to guest memory.  Raises ValueError outside of it."""
        if data:
            self._machine.memory.write(gpa, data)

    def raise_event(self, vcpu: int, channel: int) -> None:
        """Raises an event channel; one that does not exist is ignored."""
        lib.pv_event_raise(self._machine.native, vcpu, channel)

    def time_ns(self) -> int:
        """The guest's monotonic time."""
        return int(lib.pv_time_now(self._machine.native))


class Plugin:
    """Base of a plug-in: `service` declares it; a method with the name of each call serves it.

    ``method(vcpu, *arguments)`` gets the 64-bit arguments that the call declares, already checked, and answers
    with a status, or with status and value.  Several vCPUs may call at once.  What it raises is FAILED to the guest.
    """

    service: ClassVar[schema.Service]
    vendor: ClassVar[str] = ""
    version: ClassVar[str] = ""
    state_version: ClassVar[int] = 1

    def __init__(self, options: str) -> None:
        self.options = options
        self.host: PluginHost
        """There from the machine's start on, and a new one after each reset."""

    def reset(self) -> None:
        """The machine was reset."""

    def save(self) -> bytes:
        """Its state, for a snapshot."""
        return b""

    def load(self, version: int, state: bytes) -> None:
        """Takes a state over.  Raises ValueError if it cannot."""
        if state:
            raise ValueError(f"a state of version {version}, but this plug-in has none")


def _declaration(call: schema.Call, service: schema.Service, name: Any) -> dict[str, Any]:
    feature = -1
    if call.feature and service.features:
        feature = next(v.number for v in service.features if v.name == call.feature)
    arguments = [
        {}
        if isinstance(arg, Arg)
        else {
            "kind": KINDS[arg.access],
            "fixed": arg.fixed,
            "align": arg.align,
            "unit": arg.entry_bytes,
            "limit": arg.limit.number if arg.limit else 1,
        }
        for arg in call.args
    ]
    return {"name": name, "roads": call.roads, "feature": feature, "count": len(arguments), "arguments": arguments}


class PluginExtension(Extension):
    """The plug-in of class `kind`.  Raises ExtensionError."""

    def __init__(self, source: str, kind: type[Plugin], options: str) -> None:
        super().__init__(source)
        declared = getattr(kind, "service", None)
        if not isinstance(declared, schema.Service):
            raise self.refuse("its `service` is no hypercall_abi.schema.Service; its maker has to mend it")
        try:
            self._plugin = kind(options)
        except Exception as error:
            raise self.refuse(
                f"it does not begin: {type(error).__name__}: {error}; see its maker's words on options"
            ) from error
        if missing := [call.name for call in declared.calls if not callable(getattr(self._plugin, call.name, None))]:
            raise self.refuse(f"it declares {', '.join(missing)} and has no such method; its maker has to mend it")
        self.declared = declared
        self.name, self.vendor, self.version = declared.name, kind.vendor, kind.version
        self.state_version = kind.state_version
        self.features = sum(1 << v.number for v in declared.features) if declared.features else 0
        self.service = abi.Service(
            declared.number, {call.name: abi.Call(call.number, len(call.registers)) for call in declared.calls}
        )
        self._methods = {c.number: (getattr(self._plugin, c.name), len(c.registers)) for c in declared.calls}
        self._error: BaseException | None = None
        self._declare()

    def _declare(self) -> None:
        count = max((call.number for call in self.declared.calls), default=-1) + 1
        self._names = {c.number: ffi.new("char[]", f"{self.name}_{c.name}".encode()) for c in self.declared.calls}
        self._calls = ffi.new("struct pv_declaration[]", max(count, 1))
        for call in self.declared.calls:
            self._calls[call.number] = _declaration(call, self.declared, self._names[call.number])
        self._handle = ffi.new_handle(self)
        native = self.native
        native.service, native.offered = self.declared.number, self.features
        native.calls, native.call_count = self._calls, count
        native.call, native.opaque = lib.pv_py_extension_call, self._handle

    def call(self, vcpu: int, function: int, args: Any) -> tuple[int, int]:
        """Status and value; FAILED if the plug-in raises."""
        method, count = self._methods[function]
        try:
            answer: Answer = method(vcpu, *(args[i] for i in range(count)))
            status, value = answer if isinstance(answer, tuple) else (answer, 0)
            if not -1 << 63 <= status < 1 << 63:
                raise ValueError(f"the status {status} is not one of 64 bits")
            return int(status), int(value) & (1 << 64) - 1
        except Exception as error:
            if self._error is None:  # one is told; a guest could make thousands
                self._error = error
            return STATUS.FAILED, 0

    def _begin(self, machine: Machine) -> None:
        self._plugin.host = PluginHost(machine)

    def _reset(self, machine: Machine) -> None:
        self._plugin.host = PluginHost(machine)
        self._guard(self._plugin.reset)

    def _guard(self, act: Any, *args: Any) -> Any:
        try:
            return act(*args)
        except Exception as error:
            raise self.refuse(f"{act.__name__}: {type(error).__name__}: {error}; its maker has to mend it") from error

    def save(self) -> bytes:
        """Its state."""
        return bytes(self._guard(self._plugin.save))

    def load(self, version: int, state: bytes) -> None:
        """Takes a state over."""
        self._guard(self._plugin.load, version, state)

    def fault(self) -> str | None:
        """The first exception that it raised."""
        if self._error is None:
            return None
        at = traceback.extract_tb(self._error.__traceback__)[-1]
        what = f"{type(self._error).__name__}: {self._error} ({at.filename}:{at.lineno})"
        return f"a call of the extension {self.name!r} raised {what}; it answered FAILED"

    def close(self) -> None:
        """Nothing is held."""


def plugins() -> dict[str, Any]:
    """The entry points of the group, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def open_plugin(config: ExtensionConfig) -> PluginExtension:
    """The plug-in of that name.  Raises ExtensionError."""
    known = plugins()
    if config.name not in known:
        there = f"there are {', '.join(sorted(known))}" if known else "none is installed"
        raise ExtensionError(
            f"no extension {config.name!r}: {there}; name an entry point of {GROUP}, or write the path of a module"
        )
    if config.trusted:
        raise ExtensionError(
            f"the extension {config.name}: trusted is for binary modules, a plug-in always is; drop it"
        )
    try:
        kind = known[config.name].load()
    except Exception as error:
        raise ExtensionError(
            f"the extension {config.name} cannot be loaded: {type(error).__name__}: {error}; install it again"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Plugin)):
        raise ExtensionError(f"the extension {config.name} is no class made from paravirt.extensions.plugin.Plugin")
    return PluginExtension(config.name, kind, config.options)


@ffi.def_extern(error=STATUS.FAILED)  # type: ignore[untyped-decorator]
def pv_py_extension_call(vcpu: Any, opaque: Any, function: int, args: Any, value: Any) -> int:
    """A call to a plug-in, from the thread that makes it."""
    extension: PluginExtension = ffi.from_handle(opaque)
    status, value[0] = extension.call(vcpu.index, function, args)
    return status
