"""The registry of vendors: no number is two vendors', and none is the standard's or an experiment's (VND-4)."""

from __future__ import annotations

import pytest

from hypercall_abi import SERVICES
from hypercall_abi.conventions import SERVICE_RANGE
from hypercall_abi.schema import SchemaError
from hypercall_abi.vendors import VENDORS, Vendor, _check


def test_numbers_are_given_once() -> None:
    given = [number for vendor in VENDORS for number in range(vendor.first, vendor.last + 1)]
    assert given
    assert len(given) == len(set(given))
    assert all(SERVICE_RANGE.VENDOR <= number < SERVICE_RANGE.EXPERIMENT for number in given)
    assert not {service.number for service in SERVICES.values()} & set(given)


@pytest.mark.parametrize(
    ("first", "last"), [(0x800F, 0x801F), (0x7FF0, 0x7FFF), (0xBFF0, 0xC000), (0x8020, 0x8010), (0x8000, 0x8000)]
)
def test_a_bad_line_does_not_import(first: int, last: int) -> None:
    with pytest.raises(SchemaError, match="not free, or out of order"):
        _check((Vendor(0x8000, 0x800F, "one", "x"), Vendor(first, last, "two", "y")))
