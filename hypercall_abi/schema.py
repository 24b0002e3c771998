"""The vocabulary in which the ABI is declared: scalars, records, constants, limits, rules, calls, services.

Everything here is data.  A layout is a construct type, so what is declared can be parsed and built
as it stands; headers, tables and tests are derived from it by ``hypercall_abi.emit``.  This file
knows nothing of any particular service.

There is no type for a guest virtual address on purpose: the ABI has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal, TypeVar

from construct import Array, Bytes, Const, Construct, FormatField, PaddedString, Renamed, Struct

T = TypeVar("T")


class SchemaError(ValueError):
    """A declaration breaks the conventions of the ABI; raised while it is imported."""


class Scalar(FormatField):  # type: ignore[misc]
    """A little-endian integer of fixed width.  ``c`` is its C type, ``gpa`` marks an address."""

    def __init__(self, code: str, c: str, *, gpa: bool = False) -> None:
        super().__init__("<", code)
        self.c = c
        self.gpa = gpa


U8 = Scalar("B", "uint8_t")
U16 = Scalar("H", "uint16_t")
U32 = Scalar("L", "uint32_t")
U64 = Scalar("Q", "uint64_t")
I64 = Scalar("q", "int64_t")
GPA = Scalar("Q", "uint64_t", gpa=True)


def text(size_bytes: int) -> Construct:
    """UTF-8 text of at most `size_bytes`, padded with NUL; a full field has no NUL."""
    return PaddedString(size_bytes, "utf8")


def opaque(size_bytes: int) -> Construct:
    """Bytes whose meaning is said in the field's description."""
    return Bytes(size_bytes)


def pad(size_bytes: int) -> Construct:
    """Explicit padding: zero on input (checked), zero on output."""
    return "reserved" / Const(bytes(size_bytes))


@dataclass(frozen=True)
class Field:
    """One field of a record: its place and its C type (``count`` is None for a scalar)."""

    name: str
    doc: str
    offset: int
    size: int
    c: str
    count: int | None
    record: Record | None = None
    reserved: bool = False
    gpa: bool = False


def _c_type(subcon: Construct) -> tuple[str, int | None, Record | None]:
    if isinstance(subcon, Scalar):
        return subcon.c, None, None
    if isinstance(subcon, Record):
        return f"struct pv_{subcon.name_}", None, subcon
    if isinstance(subcon, Array):
        c, count, record = _c_type(subcon.subcon)
        if count is not None:
            raise SchemaError("an array of arrays has no layout in the ABI")
        return c, subcon.count, record
    if isinstance(subcon, Const | Bytes):
        return "uint8_t", subcon.sizeof(), None
    if type(subcon).__name__ == "StringEncoded":  # what PaddedString makes
        return "char", subcon.sizeof(), None
    raise SchemaError(f"{subcon!r} is not a type of the vocabulary")


def _alignment(subcon: Construct) -> int:
    if isinstance(subcon, Scalar):
        return int(subcon.sizeof())
    if isinstance(subcon, Record):
        return subcon.alignment
    if isinstance(subcon, Array):
        return _alignment(subcon.subcon)
    return 1


class Record(Struct):  # type: ignore[misc]
    """A fixed-size structure in memory shared by guest and host.

    A field is written ``"name" / U32 * "what it holds"``.  Fields are naturally aligned, padding is
    spelled out with :func:`pad`, and the size is a multiple of the alignment: a declaration that
    breaks this does not import.  ``parse`` and ``build`` are construct's own.  One that ``grows`` may get
    fields at its end in a minor version: what is there has a length of its own, or a page to itself.
    """

    def __init__(self, name: str, doc: str, *subcons: Construct, grows: bool = False) -> None:
        self.name_ = name
        self.doc = doc
        self.grows = grows
        self.fields: list[Field] = []
        self.alignment = 1
        offset, pads, named = 0, 0, []
        for sub in subcons:
            if not isinstance(sub, Renamed):
                raise SchemaError(f"{name}: a field without a name at offset {offset}")
            if sub.name in (f.name for f in self.fields):
                raise SchemaError(f"{name}.{sub.name}: declared twice")
            inner, reserved = sub.subcon, False
            while isinstance(inner, Renamed):
                inner = inner.subcon
            if isinstance(inner, Const):
                sub, reserved = f"reserved{pads}" / inner * "Zero.", True
                pads += 1
            if not sub.docs:
                raise SchemaError(f"{name}.{sub.name}: a field without a description")
            alignment = _alignment(inner)
            self.alignment = max(self.alignment, alignment)
            if offset % alignment:
                raise SchemaError(f"{name}.{sub.name}: offset {offset} is not aligned to {alignment}")
            c, count, record = _c_type(inner)
            size, gpa = inner.sizeof(), isinstance(inner, Scalar) and inner.gpa
            self.fields.append(Field(sub.name, str(sub.docs), offset, size, c, count, record, reserved, gpa))
            named.append(sub)
            offset += size
        if not offset:
            raise SchemaError(f"{name}: a record without fields")
        if offset % self.alignment:
            raise SchemaError(f"{name}: size {offset} is not a multiple of {self.alignment}")
        self.size = offset
        super().__init__(*named)

    def offset(self, name: str) -> int:
        """The offset in bytes of the field `name`."""
        return next(f.offset for f in self.fields if f.name == name)


@dataclass(frozen=True)
class Value:
    """One named number of a set of constants."""

    name: str
    number: int
    doc: str


class Constants:
    """A closed set of named numbers; with ``bits`` set, each is a bit *number* and its mask is emitted."""

    def __init__(self, name: str, doc: str, *values: tuple[str, int, str], bits: bool = False) -> None:
        self.name = name
        self.doc = doc
        self.bits = bits
        self.values = tuple(Value(*v) for v in values)
        if len({v.number for v in self.values}) != len(values):
            raise SchemaError(f"{name}: a number is given twice")
        if len({v.name for v in self.values}) != len(values):
            raise SchemaError(f"{name}: a name is given twice")
        if bits and not all(0 <= v.number < 64 for v in self.values):
            raise SchemaError(f"{name}: a bit number is not between 0 and 63")

    def __getattr__(self, name: str) -> int:
        for value in self.__dict__.get("values", ()):
            if value.name == name:
                return 1 << value.number if self.bits else int(value.number)
        raise AttributeError(f"{self.__dict__.get('name')} has no {name}")

    def __iter__(self) -> Iterator[Value]:
        return iter(self.values)

    def name_of(self, number: int) -> str:
        """The name of `number`, or the number itself in text."""
        return next((v.name for v in self.values if v.number == number), str(number))


@dataclass(frozen=True)
class Limit:
    """A stated bound of every host; ``base.limit`` asks for this host's own by ``id``.

    A host's own bound is at least the standard's for a size or count, at most for a time (unit ns).
    """

    id: int
    name: str
    number: int
    unit: str
    doc: str


@dataclass(frozen=True)
class Registers:
    """How a trap kind carries a call on one architecture: which register holds what."""

    kind: str
    architecture: str
    instruction: str
    call: str
    args: tuple[str, ...]
    status: str
    value: str
    undefined: str


@dataclass(frozen=True)
class Rule:
    """A normative sentence; tests and error messages cite its id.

    ``binds`` says whose conformance it is: the ``host``'s, the ``guest``'s, that of ``both``, or the
    ``standard``'s own (kept by this package).  A rule that no conformance case can prove says why in
    ``no_case``.
    """

    id: str
    text: str
    binds: Literal["host", "guest", "both", "standard"] = "host"
    no_case: str = ""


@dataclass(frozen=True)
class Arg:
    """One 64-bit argument passed by value.  ``until`` marks a time that is waited for: a replay gives zero instead."""

    name: str
    doc: str
    until: bool = False


@dataclass(frozen=True)
class Buffer:
    """Two arguments: a guest-physical address and a length.

    With ``size`` the buffer is one record of that many bytes (or, with ``count``, that many bytes per
    entry) and the length counts entries; without it the length is in bytes.  ``access`` is the
    *host's*: ``read`` for input, ``write`` for output, whose result value is the length written.
    ``fixed`` drops the length argument: exactly one record.
    """

    name: str
    doc: str
    access: str
    limit: Limit | None = None
    align: int = 1
    entry: Record | None = None
    fixed: bool = False

    @property
    def entry_bytes(self) -> int:
        """Bytes per unit of the length argument."""
        return self.entry.size if self.entry else 1

    def __post_init__(self) -> None:
        if self.access not in ("read", "write"):
            raise SchemaError(f"{self.name}: access is read or write, not {self.access}")
        least = self.entry.alignment if self.entry else 1
        if self.align < least or self.align & (self.align - 1):
            raise SchemaError(f"{self.name}: alignment {self.align} is not a power of two from {least} on")
        if not self.fixed and self.limit is None:
            raise SchemaError(f"{self.name}: a length without a limit")
        if self.fixed and self.entry is None:
            raise SchemaError(f"{self.name}: a fixed buffer without a record")


TRAP, BATCH, RING = 1, 2, 4
ALL_ROADS = TRAP | BATCH | RING


@dataclass(frozen=True)
class Call:
    """One function of a service.  ``feature`` names the feature bit without which it does not exist.

    ``varies`` says what of its answer (``value``, ``output``) may differ when a machine of the same make is asked
    the same again: times, random bytes, a host's own choices.  A replay does not compare that.
    """

    number: int
    name: str
    doc: str
    args: tuple[Arg | Buffer, ...] = ()
    value: str = "zero"
    roads: int = ALL_ROADS
    feature: str | None = None
    statuses: tuple[str, ...] = ()
    no_return: bool = False
    varies: tuple[Literal["value", "output"], ...] = ()

    @property
    def registers(self) -> tuple[str, ...]:
        """The names of the 64-bit arguments in order."""
        names: list[str] = []
        for arg in self.args:
            if isinstance(arg, Arg):
                names.append(arg.name)
            else:
                names.append(f"{arg.name}_gpa")
                if not arg.fixed:
                    names.append(f"{arg.name}_count" if arg.entry else f"{arg.name}_bytes")
        return tuple(names)


@dataclass(frozen=True)
class Service:
    """A numbered group of calls that is offered, masked and versioned as one."""

    number: int
    name: str
    doc: str
    calls: tuple[Call, ...] = ()
    features: Constants | None = None
    optional: bool = True
    _by_name: dict[str, Call] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for call in self.calls:
            self._by_name[call.name] = call
            if len(call.registers) > 6:
                raise SchemaError(f"{self.name}.{call.name}: more than six arguments")
            if not 0 <= call.number < 32:
                raise SchemaError(f"{self.name}.{call.name}: number {call.number} is not between 0 and 31")
            if not 0 < call.roads <= ALL_ROADS:
                raise SchemaError(f"{self.name}.{call.name}: no road, or an unknown one")
            if call.feature and not hasattr(self.features, call.feature):
                raise SchemaError(f"{self.name}.{call.name}: no feature {call.feature}")
        if len(self._by_name) != len(self.calls) or len({c.number for c in self.calls}) != len(self.calls):
            raise SchemaError(f"{self.name}: a call is declared twice")

    def __getitem__(self, name: str) -> Call:
        return self._by_name[name]

    def id(self, call: Call | str) -> int:
        """The call id: service << 16 | function."""
        return self.number << 16 | (self[call] if isinstance(call, str) else call).number


def by_name(items: Iterable[T], name: str) -> dict[str, T]:
    """`items` by their attribute `name`; one given twice does not import."""
    table: dict[str, T] = {}
    for item in items:
        key = getattr(item, name)
        if key in table:
            raise SchemaError(f"{key}: declared twice")
        table[key] = item
    return table


def declared(modules: Iterable[ModuleType], kind: type[T]) -> list[T]:
    """What `modules` declare of `kind`, in order, each once (at the first module that names it)."""
    found = {id(v): v for m in modules for v in vars(m).values() if isinstance(v, kind)}
    return list(found.values())
