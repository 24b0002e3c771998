"""What a module's process says of the module, when that process is not itself any more: refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from paravirt._native import ffi
from paravirt.errors import ExtensionError
from tests.fuzz import seeds
from tests.fuzz.targets.extension import Said


def too_many_calls(description: Any) -> None:
    description.call_count = 33


def too_many_arguments(description: Any) -> None:
    description.calls[0].count = 7  # found by ./dev fuzz extension: an IndexError


def name_without_end(description: Any) -> None:
    ffi.memmove(description.names[31], b"a" * 80, 80)


def name_of_no_letters(description: Any) -> None:
    description.names[0] = b"answer_\x1b[2J"


def vendor_without_end(description: Any) -> None:
    ffi.memmove(description.vendor, b"v" * 64, 64)


@pytest.mark.parametrize(
    "spoil", [too_many_calls, too_many_arguments, name_without_end, name_of_no_letters, vendor_without_end]
)
def test_a_damaged_description_is_refused(spoil: Callable[[Any], None]) -> None:
    description = ffi.new("struct pv_module_description *")
    data = list(seeds.extension())[-1]
    ffi.memmove(description, data, len(data))
    spoil(description)
    with pytest.raises(ExtensionError, match="its maker has to mend it$") as refusal:
        Said(bytes(ffi.buffer(description)))
    assert "\n" not in str(refusal.value)


def test_control_characters_are_not_shown() -> None:
    description = ffi.new("struct pv_module_description *")
    data = next(seeds.extension())
    ffi.memmove(description, data, len(data))
    description.vendor = b"you\x1b[2J\n"
    assert Said(bytes(ffi.buffer(description))).vendor.isprintable()
