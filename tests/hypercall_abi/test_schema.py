"""The vocabulary of the declaration: what breaks the conventions does not import, and says why."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType

import pytest
from construct import Byte, ConstError, Int32ul, StreamError

from hypercall_abi import schema
from hypercall_abi.schema import (
    GPA,
    TRAP,
    U8,
    U16,
    U32,
    U64,
    Arg,
    Buffer,
    Call,
    Constants,
    Limit,
    Record,
    Scalar,
    SchemaError,
    Service,
    by_name,
    declared,
    opaque,
    pad,
    text,
)

LIMIT = Limit(0, "BYTES", 64, "bytes", "Of a test.")
PAIR = Record("pair", "Two.", "first" / U64 * "One.", "second" / U32 * "Two.", pad(4))
BITS = Constants("bits", "Bits.", ("ONE", 0, "First."), ("TOP", 63, "Last."), bits=True)


def _service(*calls: Call) -> Service:
    return Service(1, "thing", "A service.", calls, BITS)


BROKEN: dict[str, tuple[Callable[[], object], str]] = {
    "misaligned field": (
        lambda: Record("r", "", "a" / U16 * "A.", "b" / U32 * "B."),
        "r.b: offset 2 is not aligned to 4",
    ),
    "misaligned address": (
        lambda: Record("r", "", "a" / U32 * "A.", "b" / GPA * "B."),
        "r.b: offset 4 is not aligned to 8",
    ),
    "misaligned array": (
        lambda: Record("r", "", "a" / U8 * "A.", "b" / U16[3] * "B."),
        "r.b: offset 1 is not aligned to 2",
    ),
    "misaligned record": (
        lambda: Record("r", "", "a" / U32 * "A.", "b" / PAIR * "B."),
        "r.b: offset 4 is not aligned to 8",
    ),
    "bad size": (
        lambda: Record("r", "", "a" / U64 * "A.", "b" / U8 * "B."),
        "r: size 9 is not a multiple of 8",
    ),
    "array of arrays": (
        lambda: Record("r", "", "a" / U32[2][2] * "A."),
        "an array of arrays has no layout in the ABI",
    ),
    "array of texts": (
        lambda: Record("r", "", "a" / text(4)[2] * "A."),
        "an array of arrays has no layout in the ABI",
    ),
    "type of another vocabulary": (
        lambda: Record("r", "", "a" / Int32ul * "A."),
        "is not a type of the vocabulary",
    ),
    "byte of another vocabulary": (
        lambda: Record("r", "", "a" / Byte * "A."),
        "is not a type of the vocabulary",
    ),
    "field without a name": (lambda: Record("r", "", U32), "r: a field without a name at offset 0"),
    "field without a description": (lambda: Record("r", "", "a" / U32), "r.a: a field without a description"),
    "field twice": (lambda: Record("r", "", "a" / U32 * "A.", "a" / U32 * "A."), "r.a: declared twice"),
    "no fields": (lambda: Record("r", ""), "r: a record without fields"),
    "number twice": (
        lambda: Constants("c", "", ("A", 1, "A."), ("B", 1, "B.")),
        "c: a number is given twice",
    ),
    "name twice": (
        lambda: Constants("c", "", ("A", 1, "A."), ("A", 2, "B.")),
        "c: a name is given twice",
    ),
    "bit number too large": (
        lambda: Constants("c", "", ("A", 64, "A."), bits=True),
        "c: a bit number is not between 0 and 63",
    ),
    "seven arguments": (
        lambda: _service(Call(0, "wide", "Wide.", tuple(Arg(f"a{i}", "One.") for i in range(7)))),
        "thing.wide: more than six arguments",
    ),
    "seven registers": (
        lambda: _service(Call(0, "wide", "Wide.", (Buffer("b", "Data.", "read", LIMIT),) * 3 + (Arg("a", "One."),))),
        "thing.wide: more than six arguments",
    ),
    "unknown feature": (
        lambda: _service(Call(0, "new", "New.", feature="TWO")),
        "thing.new: no feature TWO",
    ),
    "feature without features": (
        lambda: Service(1, "thing", "", (Call(0, "new", "New.", feature="ONE"),)),
        "thing.new: no feature ONE",
    ),
    "call twice": (lambda: _service(Call(0, "a", "A."), Call(1, "a", "B.")), "thing: a call is declared twice"),
    "call number twice": (lambda: _service(Call(0, "a", "A."), Call(0, "b", "B.")), "thing: a call is declared twice"),
    "call number too large": (
        lambda: _service(Call(32, "a", "A.")),
        "thing.a: number 32 is not between 0 and 31",
    ),
    "no road": (lambda: _service(Call(0, "a", "A.", roads=0)), "thing.a: no road, or an unknown one"),
    "unknown road": (lambda: _service(Call(0, "a", "A.", roads=8 | TRAP)), "thing.a: no road, or an unknown one"),
    "access": (lambda: Buffer("b", "", "both", LIMIT), "b: access is read or write, not both"),
    "buffer alignment": (
        lambda: Buffer("b", "", "read", LIMIT, align=12),
        "b: alignment 12 is not a power of two from 1 on",
    ),
    "buffer less aligned than its record": (
        lambda: Buffer("b", "", "read", LIMIT, align=4, entry=PAIR),
        "b: alignment 4 is not a power of two from 8 on",
    ),
    "length without a limit": (lambda: Buffer("b", "", "read"), "b: a length without a limit"),
    "fixed without a record": (
        lambda: Buffer("b", "", "read", LIMIT, fixed=True),
        "b: a fixed buffer without a record",
    ),
    "two of a name": (lambda: by_name([PAIR, PAIR], "name_"), "pair: declared twice"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_refused(name: str) -> None:
    make, message = BROKEN[name]
    with pytest.raises(SchemaError, match=re.escape(message)):
        make()


def test_layout() -> None:
    assert [(f.name, f.offset, f.size, f.c, f.count) for f in PAIR.fields] == [
        ("first", 0, 8, "uint64_t", None),
        ("second", 8, 4, "uint32_t", None),
        ("reserved0", 12, 4, "uint8_t", 4),
    ]
    assert (PAIR.size, PAIR.alignment, PAIR.sizeof()) == (16, 8, 16)
    assert PAIR.offset("second") == 8


def test_nested_layout() -> None:
    record = Record("r", "", "head" / U16 * "H.", pad(6), "pairs" / PAIR[2] * "P.", "tail" / opaque(8) * "T.")
    pairs = record.fields[2]
    assert (pairs.offset, pairs.size, pairs.c, pairs.count, pairs.record) == (8, 32, "struct pv_pair", 2, PAIR)
    assert record.size == 48


def test_padding_is_numbered_and_reserved() -> None:
    record = Record("r", "", "a" / U8 * "A.", pad(1), "b" / U16 * "B.", "c" / U8 * "C.", pad(3))
    assert [f.name for f in record.fields if f.reserved] == ["reserved0", "reserved1"]
    assert record.build({"a": 1, "b": 2, "c": 3}) == b"\1\0\2\0\3\0\0\0"


def test_padding_must_be_zero() -> None:
    for place in range(12, 16):
        data = bytearray(PAIR.build({"first": 1, "second": 2}))
        data[place] = 1
        with pytest.raises(ConstError):
            PAIR.parse(bytes(data))


def test_parse_wants_the_whole_record() -> None:
    with pytest.raises(StreamError):
        PAIR.parse(bytes(15))


def test_no_type_for_guest_virtual_addresses() -> None:
    """CALL-13: the one kind of address in the vocabulary is guest-physical."""
    scalars = {name: value for name, value in vars(schema).items() if isinstance(value, Scalar)}
    assert set(scalars) == {"U8", "U16", "U32", "U64", "I64", "GPA"}
    assert [name for name, scalar in scalars.items() if scalar.gpa] == ["GPA"]


def test_bits_are_masks() -> None:
    assert (BITS.ONE, BITS.TOP) == (1, 1 << 63)
    assert BITS.name_of(63) == "TOP"
    assert BITS.name_of(5) == "5"
    with pytest.raises(AttributeError, match="bits has no TWO"):
        _ = BITS.TWO


def test_registers_of_buffers() -> None:
    call = Call(
        3,
        "mixed",
        "Mixed.",
        (
            Arg("which", "One."),
            Buffer("bytes_", "Bytes.", "read", LIMIT),
            Buffer("pairs", "Records.", "write", LIMIT, align=8, entry=PAIR),
            Buffer("one", "A record.", "read", align=8, entry=PAIR, fixed=True),
        ),
    )
    assert call.registers == ("which", "bytes__gpa", "bytes__bytes", "pairs_gpa", "pairs_count", "one_gpa")
    service = _service(call)
    assert service.id("mixed") == service.id(call) == 0x10003


def test_declared_keeps_order_and_takes_each_once() -> None:
    first, second = ModuleType("first"), ModuleType("second")
    first.__dict__.update(b=PAIR, a=BITS)
    second.__dict__.update(again=PAIR, other=Record("other", "", "a" / U32 * "A."))
    assert [record.name_ for record in declared([first, second], Record)] == ["pair", "other"]
