"""Rule ids across the tree: those cited exist; which ones tests cite is printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercall_abi import RULES

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".c", ".h", ".S", ".md", ".txt"}
CITING = ("docs", "guest_drivers", "hypercall_abi", "paravirt", "tests")
PROVING = ("guest_drivers", "tests")

_GROUPS = "|".join(sorted({rule.partition("-")[0] for rule in RULES}))
_ID = re.compile(rf"(?<![\w-])(?:{_GROUPS})-\d+(?!\w)")
_RANGE = re.compile(rf"((?:{_GROUPS}))-(\d+) to (?:\1-)?(\d+)\b")


def cited(text: str) -> set[str]:
    """The rule ids in `text`; `VQ-1 to VQ-3` cites three."""
    ids = set(_ID.findall(text))
    for group, first, last in _RANGE.findall(text):
        ids |= {f"{group}-{n}" for n in range(int(first), int(last) + 1)}
    return ids


def _files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and "generated" not in path.parts and path.is_file():
                yield path


def test_cited_rules_exist() -> None:
    """Number 99 of a group stands in tests for a rule that there is not."""
    wrong = {
        f"{path.relative_to(ROOT)}: {rule}"
        for path in _files(*CITING)
        for rule in cited(path.read_text(encoding="utf-8")) - set(RULES)
        if not rule.endswith("-99")
    }
    assert not wrong


def test_rules_cited_by_tests_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [path.read_text(encoding="utf-8") for path in _files(*PROVING) if path != Path(__file__)]
    proved = set().union(*(cited(text) for text in texts))
    missing = [rule for rule in RULES if rule not in proved]
    with capsys.disabled():
        print(f"\nrules cited by tests and drivers: {len(RULES) - len(missing)} of {len(RULES)}", end="")
        print(f"; not yet: {' '.join(missing)}" if missing else "")
    assert proved, "no test cites a rule: the search is broken"


def test_rules_of_the_standard_are_cited_by_a_test() -> None:
    texts = [path.read_text(encoding="utf-8") for path in _files("tests") if path != Path(__file__)]
    proved = set().union(*(cited(text) for text in texts))
    assert {rule.id for rule in RULES.values() if rule.binds == "standard"} - proved == set()


def _with_a_case() -> set[str]:
    """The rules that a case of host conformance is named after, or an image that a host must refuse."""
    found: set[str] = set()
    named = re.compile(rf'"((?:(?:{_GROUPS})-\d+[ "])+)')
    for path in (ROOT / "guest_drivers/guests/conformance").rglob("*.[cS]"):
        found |= {"-".join(path.stem.upper().split("_")[:2])} if path.parent.name == "refused" else set()
        for literal in named.findall(path.read_text(encoding="utf-8")):
            found |= set(_ID.findall(literal))
    return found


def test_rules_of_a_host_have_a_case_or_a_reason() -> None:
    """That the cases are tried, and not skipped, is seen in tests/guest_drivers/test_conformance.py."""
    cases = _with_a_case()
    hosts = {rule.id for rule in RULES.values() if rule.binds in ("host", "both")}
    excused = {rule.id for rule in RULES.values() if rule.no_case}
    assert hosts - cases - excused == set(), "no case, and no reason why there can be none"
    assert excused & cases == set(), "there is a case, though it is said that there can be none"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("/* VQ-1, BLK-3 */", {"VQ-1", "BLK-3"}),
        ("rules VQ-1 to VQ-3.", {"VQ-1", "VQ-2", "VQ-3"}),
        ("EVT-1 to 2", {"EVT-1", "EVT-2"}),
        ("UTF-8, X-VQ-1, MYVQ-2, VQ-1a, CALL-", set()),
    ],
)
def test_citations_are_found(text: str, ids: set[str]) -> None:
    assert cited(text) == ids
