"""The ABI at run time: constants, records and calls as the built C core has them.

The declaration itself, ``hypercall_abi``, is for tools: loading it takes longer than starting a
guest.  Both come from one source, and a test holds the extension's digest against the declaration's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from ._native import ffi, lib

_HEADER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "hypercall_abi", "include", "paravirt_abi.h")


def _check_digest() -> None:
    """Raises ImportError if the C core was built from another declaration than the header that lies here."""
    built = f'#define PV_ABI_DIGEST "{ffi.string(lib.pv_abi_digest()).decode()}"\n'
    with open(_HEADER, encoding="utf-8") as header:
        if not any(line == built for line in header):
            raise ImportError("the C core is of another version of the ABI than hypercall_abi; build it again")


_check_digest()


class Constants:
    """One set of constants of the ABI: ``STATUS.OK``.  `name` is the declaration's, in upper case."""

    def __init__(self, name: str) -> None:
        self._prefix = f"PV_{name}_"

    def __getattr__(self, name: str) -> int:
        value = int(getattr(lib, self._prefix + name))
        setattr(self, name, value)
        return value

    def names(self) -> dict[int, str]:
        """Number → name."""
        mine = (n for n in dir(lib) if n.startswith(self._prefix) and not n.endswith("_BIT"))
        return {int(getattr(lib, n)): n.removeprefix(self._prefix) for n in mine}

    def name_of(self, number: int) -> str:
        """The name of `number`, or the number itself as text."""
        return self.names().get(number, str(number))


STATUS = Constants("STATUS")
VERSION = (int(lib.PV_ABI_MAJOR), int(lib.PV_ABI_MINOR))


def size_of(record: str) -> int:
    """Bytes of the record with that name."""
    return int(ffi.sizeof(f"struct pv_{record}"))


def build(record: str, **fields: object) -> bytes:
    """The bytes of a record; fields not named are zero.  Texts are given as bytes."""
    return bytes(ffi.buffer(ffi.new(f"struct pv_{record} *", fields)))


def parse(record: str, data: bytes) -> Any:
    """A record from its bytes, as a C struct of its own.  Raises ValueError if `data` is too short."""
    layout = ffi.typeof(f"struct pv_{record} *")
    if len(data) < ffi.sizeof(layout.item):
        raise ValueError(f"a record {record} has {ffi.sizeof(layout.item)} bytes, not {len(data)}")
    copy = ffi.new(layout)
    ffi.memmove(copy, data, ffi.sizeof(layout.item))
    return copy


def text(field: Any) -> str:
    """A text field.  Raises UnicodeDecodeError."""
    return bytes(ffi.buffer(field)).rstrip(b"\0").decode()


class Call(NamedTuple):
    """A call: its function number, and how many arguments it takes."""

    number: int
    registers: int


class Service(NamedTuple):
    """A service and its calls by name."""

    number: int
    calls: dict[str, Call]

    @property
    def optional(self) -> bool:
        """False for base, without which a guest could not even ask what there is."""
        return bool(self.number != lib.PV_SERVICE_BASE)


def _declared() -> Iterator[tuple[int, int]]:
    number, roads, registers = (ffi.new("uint32_t *") for _ in range(3))
    n = 0
    while lib.pv_call_declared(n, number, roads, registers):
        yield number[0], registers[0]
        n += 1


def _services() -> dict[str, Service]:
    found: dict[str, Service] = {}
    for number, registers in _declared():
        service, _, call = call_name(number).partition(".")
        found.setdefault(service, Service(number >> 16, {})).calls[call] = Call(number & 0xFFFF, registers)
    return found


def call_name(number: int) -> str:
    """``service.call`` of a call id, or its number as text."""
    name = lib.pv_call_name(number)
    return f"unknown {number:#x}" if name == ffi.NULL else ffi.string(name).decode().replace("_", ".", 1)


SERVICES = _services()
