"""Reading TAP: what a case is, and everything that makes a console no proof."""

from __future__ import annotations

import re

import pytest

from paravirt.conform.tap import NOTES_MOST, Reader

KNOWN = frozenset({"CALL-1", "CALL-5", "VQ-3", "VIRTIO-2.4.1-1"})


def read(text: str) -> Reader:
    reader = Reader(KNOWN)
    *lines, left = text.split("\n")
    for line in lines:
        reader.line(line)
    reader.end(left)
    return reader


def test_cases() -> None:
    reader = read(
        "some firmware speaks\n# expected 1\nok 1 - CALL-1 unknown: console\n# got 3\n#\nnot ok 2 - CALL-5 VQ-3 both\n"
        "ok 3 - VQ-3 rings # SKIP no device\n1..3\n"
    )
    assert reader.problems == []
    assert [c.rules for c in reader.cases] == [("CALL-1",), ("CALL-5", "VQ-3"), ("VQ-3",)]
    assert [c.verdict for c in reader.cases] == ["passed", "failed", "skipped"]
    assert [c.text for c in reader.cases] == ["unknown: console", "both", "rings"]
    assert [c.notes for c in reader.cases] == [("expected 1",), ("got 3",), ()]
    assert reader.cases[2].skipped == "no device"


def test_statements_of_virtio_are_cited_like_rules() -> None:
    reader = read("ok 1 - VIRTIO-2.4.1-1 VQ-3: both\nok 2 - VIRTIO-2.4.1-77 none\n1..2\n")
    assert reader.cases[0].rules == ("VIRTIO-2.4.1-1", "VQ-3")
    assert reader.problems == ["case 2 names the rule VIRTIO-2.4.1-77, which the ABI does not have"]


@pytest.mark.parametrize("text", ["1..1\nok 1 - CALL-1 a\n", "ok 1 - CALL-1 a\n1..1\n", "ok 1 - CALL-1: a\n1..1\n"])
def test_the_plan_stands_first_or_last(text: str) -> None:
    assert read(text).problems == []


def test_a_chapter_may_be_skipped() -> None:
    reader = read("1..0 # SKIP one vCPU\n")
    assert (reader.problems, reader.skipped) == ([], "one vCPU")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no plan"),
        ("ok 1 - CALL-1 a\n", "no plan .*after case 1"),
        ("1..0\n", "no cases"),
        ("ok 1 - CALL-1 a\n1..2\n", "the plan says 2 cases, 1 were"),
        ("1..1\nok 1 - CALL-1 a\nok 2 - CALL-1 b\n", "the plan says 1 cases, 2 were"),
        ("ok 1 - CALL-1 a\n1..2\nok 2 - CALL-1 b\n", "between cases"),
        ("1..1\nok 1 - CALL-1 a\n1..1\n", "second plan"),
        ("ok 1 - CALL-1 a\nok 3 - CALL-1 b\n1..2\n", "case 3 stands where case 2"),
        ("ok 1 - CALL-1 a\nok 1 - CALL-1 b\n1..2\n", "case 1 stands where case 2"),
        ("ok 1 - something\n1..1\n", "names no rule"),
        ("ok 1 - CALL-99 a\n1..1\n", "CALL-99, which the ABI does not have"),
        ("ok\n1..0 # SKIP none\n", "not proper TAP"),
        ("ok 1 CALL-1 a\n1..0 # SKIP none\n", "not proper TAP"),
        ("okay then\n1..1\nok 1 - CALL-1 a\nnot  ok 2\n", "not proper TAP: 'not  ok 2'"),
        ("1..1\nok 1 - CALL-1 a\nBail out! no memory\n", "gave up: no memory"),
        ("1..2\nok 1 - CALL-1 a\nok 2 - CAL", "ends within a line"),
    ],
)
def test_problems(text: str, problem: str) -> None:
    reader = read(text)
    assert len([p for p in reader.problems if re.search(problem, p)]) == 1, reader.problems


def test_diagnostics_are_bounded() -> None:
    reader = read("# more\n" * 100 + "ok 1 - CALL-1 a\n# late\n1..1\n")
    assert len(reader.cases[0].notes) == NOTES_MOST
