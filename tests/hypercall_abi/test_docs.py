"""The specification: every generated table is included by a page, every page is in the contents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hypercall_abi import CONSTANTS, LIMITS, RECORDS, RULES, SERVICES
from hypercall_abi.conventions import STATUS
from hypercall_abi.emit import docs

ABI = Path(__file__).parents[2] / "docs" / "abi"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in ABI.glob("*.md")}
MEASURED = {
    f"generated/conformance/{name}.md" for name in ("rules", "injections", "guests", "virtio")
}  # by tests/conformance
GENERATED = {name.removeprefix("../docs/abi/"): text for name, text in docs.emit().items()}


def _included(text: str) -> list[str]:
    return re.findall(r"^```\{include\} (\S+)$", text, re.MULTILINE)


def test_every_generated_file_is_included_once() -> None:
    included = [name for text in PAGES.values() for name in _included(text)]
    assert sorted(included) == sorted({*GENERATED, *MEASURED})


def test_no_generated_file_is_left_over() -> None:
    found = {str(path.relative_to(ABI)) for path in (ABI / "generated").rglob("*") if path.is_file()}
    assert found == {*GENERATED, *MEASURED}


def test_every_page_is_in_the_contents() -> None:
    entries = re.findall(r"^```\{toctree\}\n(.*?)^```$", PAGES["index"], re.MULTILINE | re.DOTALL)
    listed = {line for entry in entries for line in entry.splitlines() if line and not line.startswith(":")}
    assert listed | {"index"} == set(PAGES)


def test_every_service_has_its_page() -> None:
    assert set(SERVICES) <= set(PAGES)


def test_everything_declared_is_in_the_tables() -> None:
    text = "\n".join(GENERATED.values())
    for service in SERVICES.values():
        for call in service.calls:
            assert f"### `{service.name}.{call.name}`" in text
            assert f"`0x{service.id(call):08x}`" in text
    for record in RECORDS.values():
        assert f"### `{record.name_}`" in text
    for constants in CONSTANTS.values():
        assert f"### `{constants.name}`" in text
    for limit in LIMITS.values():
        assert f"| {limit.id} | {limit.name} | {limit.number} | {limit.unit} |" in text
    for rule in RULES.values():
        assert f"({rule.id.lower()})=\n**{rule.id}** ({rule.binds})**.** " in text
    for status in STATUS:
        assert f"| {status.number} | {status.name} |" in text


def test_a_call_is_told_in_full() -> None:
    calls = GENERATED["generated/console/calls.md"]
    assert "| Statuses | OK, FAILED, NOT_SUPPORTED, INVALID, BAD_ADDRESS, LIMIT, QUOTA |" in calls
    assert "| 1 (RDI) | `data_gpa` | The bytes. Address: at most CONSOLE_BYTES (4096) bytes, the host reads. |" in calls
    assert "| 2 (RSI) | `data_bytes` | Its length in bytes. |" in calls
    calls = GENERATED["generated/device/calls.md"]
    assert "Address: one `queue_setup` (40 bytes), aligned to 8, the host reads. |" in calls
    calls = GENERATED["generated/base/calls.md"]
    assert "at most BATCH_ENTRIES (256) records `submission` (64 bytes), aligned to 64" in calls


@pytest.mark.parametrize("name", PAGES)
def test_links_to_rules_name_what_they_link_to(name: str) -> None:
    for shown, target in re.findall(r"\{ref\}`([A-Z]+-\d+)\s+<([^>]+)>`", PAGES[name]):
        assert shown.lower() == target
        assert shown in RULES


def test_licence_of_the_text_is_on_its_first_page() -> None:
    assert "CC BY 4.0" in PAGES["index"].split("##")[0]


def test_bars_do_not_break_tables() -> None:
    assert docs.table(("a",), [("device << 16 | queue",)]) == "| a |\n| --- |\n| device << 16 \\| queue |\n"


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("clears upcall_mask.", "clears `upcall_mask`."),
        ("see base.version, or e.g. this", "see `base.version`, or e.g. this"),
        ("constants `limit_id` stay", "constants `limit_id` stay"),
        ("INVALID and NOT_FOUND stay", "INVALID and NOT_FOUND stay"),
    ],
)
def test_names_are_set_as_code(text: str, marked: str) -> None:
    assert docs.prose(text) == marked
