"""Prose of the specification does not bind: what sounds like a requirement cites the rule that is one.

Plain indicative sentences cannot be told from explanation by a program; words that order or forbid can.  The
pages about this package's own programs (conformance, the model, vectors) order nobody about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hypercall_abi import RULES
from tests.docs.blocks import FENCE
from tests.support.tree import ROOT

ABI = ROOT / "docs" / "abi"
PAGES = sorted(page.name for page in ABI.glob("*.md") if page.stem not in ("conformance", "reference-model", "vectors"))
CITED = re.compile(r"\b[A-Z]+-[1-9]\d*\b")
BINDING = re.compile(
    r"\b(must|shall|should|ought to|may not|(?:is|are) required|(?:has|have|had) to|(?:is|are) (?:not )?to [a-z]+|"
    r"needs? to|never|forbidden|prohibited|not allowed|not permitted|obliged|refuses?|only if)\b",
    re.IGNORECASE,
)
NAMED_TABLE = re.compile(r"\bthe table of ([a-z]+(?: accesses)?)")


def sentences(text: str) -> Iterator[str]:
    """The sentences of `text` outside of fences, a table's row being one."""
    for part in re.split(r"\n\s*\n|\n(?=- )|\n(?=\|)", FENCE.sub("\n\n", text)):
        line = " ".join(part.split())
        if line.startswith("|"):
            yield line
        else:
            yield from re.split(r"(?<=[.;!?:]) (?!\()", line)


def unbound(text: str) -> list[str]:
    """The sentences of `text` that order or forbid without a rule."""
    return [s for s in sentences(text) if BINDING.search(s) and not set(CITED.findall(s)) & set(RULES)]


def rows_without_a_rule(text: str) -> list[str]:
    """Rows of tables whose last column is of rules, and that name none."""
    tables = re.findall(r"^\|[^\n]*\| Rule \|\n\|[- |]+\|\n((?:\|[^\n]*\n)+)", text, re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    return [row for row in rows if not set(CITED.findall(row.rsplit("|", 2)[1])) & set(RULES)]


@pytest.mark.parametrize("name", PAGES)
def test_what_binds_is_a_rule(name: str) -> None:
    text = (ABI / name).read_text(encoding="utf-8")
    assert unbound(text) == [], "make it a rule of the declaration and cite it, or word it as explanation"
    assert rows_without_a_rule(text) == []


def test_tables_that_rules_name_are_there() -> None:
    headings = {h.lower() for page in PAGES for h in re.findall(r"^#+ (.+)$", (ABI / page).read_text(), re.MULTILINE)}
    named = {f"the table of {what}" for rule in RULES.values() for what in NAMED_TABLE.findall(rule.text)}
    assert named >= {"the table of areas", "the table of changes"}
    assert named <= headings


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A guest must not do it.", 1),
        ("A guest must not\ndo it ({ref}`VQ-1 <vq-1>`). It sleeps.", 0),
        ("It sleeps ({ref}`VQ-1 <vq-1>`). A host shall wake it.", 1),
        ("| A | has to be B |\n| C | has to be D (VQ-1) |", 1),
        ("- A guest never looks.\n- A host sets it.", 1),
        ("```text\nmust\n```\nUTF-8 has to be.", 1),
        ("A guest waits.", 0),
    ],
)
def test_words_that_bind_are_found(text: str, found: int) -> None:
    assert len(unbound(text)) == found


def test_rows_without_a_rule_are_found() -> None:
    table = "| What | Rule |\n| --- | --- |\n| a | {ref}`VQ-1 <vq-1>` |\n| VQ-1 | |\n"
    assert rows_without_a_rule(table) == ["| VQ-1 | |"]
