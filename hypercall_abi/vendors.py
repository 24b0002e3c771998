"""Services of vendors: what holds for them, and who was given which numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .schema import Rule, SchemaError

RULES = (
    Rule(
        "VND-1",
        "A vendor's service stands in the range of service_range that its number says, is declared as the standard's "
        "are, and follows every rule of calls, features and lists; one that is not offered is as CALL-1 says.",
    ),
    Rule(
        "VND-2",
        "A vendor's service that failed (it ended, hung, or answered what is no answer) answers FAILED from then on "
        "until the machine ends; the machine and its other services go on.",
        no_case="a conformance image cannot know how to make a vendor's service fail",
    ),
    Rule("VND-3", "An image that is released requires no service of the range EXPERIMENT.", "guest"),
    Rule(
        "VND-4",
        "A vendor gives a number of its range to one service for good; what it means changes only by features.",
        "standard",
    ),
)


@dataclass(frozen=True)
class Vendor:
    """Who was given the service numbers from `first` to `last`."""

    first: int
    last: int
    name: str
    contact: str


VENDORS = (Vendor(0x8000, 0x800F, "paravirt", "this project; for its examples"),)


def _check(vendors: tuple[Vendor, ...]) -> None:
    """Raises SchemaError for a range outside of the vendors', or one that overlaps the one before it."""
    free = 0x8000
    for vendor in vendors:
        if not free <= vendor.first <= vendor.last < 0xC000:
            raise SchemaError(f"{vendor.name}: {vendor.first:#x} to {vendor.last:#x} is not free, or out of order")
        free = vendor.last + 1


_check(VENDORS)
