"""Every record with arbitrary contents: built and parsed again it is the same, and padding is looked at."""

from __future__ import annotations

from typing import Any

import pytest
from construct import Array, Bytes, Const, ConstError, Construct
from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi import RECORDS
from hypercall_abi.schema import I64, Record, Scalar

each_record = pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.name_)


def _text(size: int) -> st.SearchStrategy[str]:
    """Text that fits; trailing NULs are padding and so no part of it."""
    alphabet = st.characters(codec="utf-8")
    return st.text(alphabet, max_size=size).filter(lambda s: len(s.encode()) <= size and not s.endswith("\0"))


def _contents(subcon: Construct) -> st.SearchStrategy[Any]:
    while hasattr(subcon, "docs") and type(subcon).__name__ == "Renamed":
        subcon = subcon.subcon
    size = subcon.sizeof()
    if isinstance(subcon, Scalar):
        sign = subcon is I64
        return st.integers(-(1 << 63), (1 << 63) - 1) if sign else st.integers(0, (1 << 8 * size) - 1)
    if isinstance(subcon, Record):
        return contents(subcon)
    if isinstance(subcon, Array):
        return st.lists(_contents(subcon.subcon), min_size=subcon.count, max_size=subcon.count)
    if isinstance(subcon, Const):
        return st.just(bytes(size))
    if isinstance(subcon, Bytes):
        return st.binary(min_size=size, max_size=size)
    return _text(size)


def contents(record: Record) -> st.SearchStrategy[dict[str, Any]]:
    """Any contents of a record, by field name."""
    return st.fixed_dictionaries({sub.name: _contents(sub) for sub in record.subcons})


@each_record
@given(data=st.data())
def test_round_trip(record: Record, data: st.DataObject) -> None:
    values = data.draw(contents(record))
    raw = record.build(values)
    assert len(raw) == record.size
    parsed = record.parse(raw)
    for name, value in values.items():
        assert parsed[name] == value
    assert record.build(parsed) == raw


@each_record
def test_layout_has_no_holes(record: Record) -> None:
    end = 0
    for f in record.fields:
        assert f.offset == end
        end += f.size
    assert end == record.size == record.sizeof()


@each_record
def test_each_byte_of_padding_must_be_zero(record: Record) -> None:
    for f in record.fields:
        if not f.reserved:
            continue
        for place in range(f.offset, f.offset + f.size):
            raw = bytearray(record.size)
            raw[place] = 0x80
            with pytest.raises(ConstError):
                record.parse(bytes(raw))


@each_record
def test_every_address_is_guest_physical_and_says_so(record: Record) -> None:
    """A field that holds an address is a GPA of 8 bytes with a name that says it, and the other way round."""
    for sub, f in zip(record.subcons, record.fields, strict=True):
        inner = sub.subcon
        while type(inner).__name__ == "Renamed":
            inner = inner.subcon
        is_gpa = isinstance(inner, Scalar) and inner.gpa
        assert is_gpa == (f.name == "gpa" or f.name.endswith("_gpa"))
