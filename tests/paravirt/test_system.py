"""Service system without a machine that runs: crash reports, and which end counts."""

from __future__ import annotations

from typing import Any

import pytest

from hypercall_abi import STATUS
from paravirt.services import system
from tests.support.guests import crash_report


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"plain", "plain"),
        (b"cut\0here", "cut"),
        (b"\0", ""),
        (b"a\nb\x1b[31mred\x07", "ared"),
        (b"\xff\xfe bytes", "bytes"),
        (b"x" * 256, "x" * 256),
    ],
)
def test_text_of_a_crash_report(text: bytes, shown: str) -> None:
    """SYS-2: cut at the first NUL; nothing that moves a terminal's cursor; never an error."""
    report = system.parse_report(crash_report(text))
    assert report.text.isprintable()
    letters = iter(report.text)
    assert all(letter in letters for letter in shown), report.text
    if text.isascii() and text.split(b"\0")[0].decode().isprintable():
        assert report.text == shown
    assert "here" not in report.text


class Ends:
    """Where a machine would end."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def finish(self, *args: Any, **named: Any) -> None:
        self.calls.append((*args, named))


@pytest.mark.parametrize("reason", [3, 99, 1 << 32, (1 << 64) - 1])
def test_a_reason_that_is_not_defined_ends_nothing(reason: int) -> None:
    """SYS-1."""
    machine: Any = Ends()
    assert system.shutdown(machine, 0, reason, 0) == STATUS.INVALID
    assert not machine.calls
    assert system.shutdown(machine, 0, 2, 7) == STATUS.OK
    assert machine.calls == [("shutdown", {"reason": "BOOT_REFUSED", "status": 7})]
