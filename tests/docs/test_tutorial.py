"""The tutorial, word for word: its files are made, its commands are run, and they print what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import Block, carry_out, environment, matches, session
from tests.support.tree import ROOT


@pytest.mark.kvm
@pytest.mark.slow
def test_first_guest(tmp_path: Path) -> None:
    directory = tmp_path / "first"
    directory.mkdir()
    assert carry_out(ROOT / "docs/tutorial/first-guest.md", directory, environment(tmp_path)) >= 10


def test_a_session_is_read_as_it_is_shown() -> None:
    text = "$ one\na\nb\n$ two \\\n  more\n$ three\n$c\n"
    assert list(session(Block(1, "console", "", text))) == [
        ("one", "a\nb\n"),
        ("two \\\n  more", ""),
        ("three", "$c\n"),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("", "", True),
        ("a\n", "a\n", True),
        ("a\n", "a", True),
        ("a\n", "b\n", False),
        ("a\n", "a\nb\n", False),
        ("", "a\n", False),
        ("a ... c\n", "a b b c\n", True),
        ("a ... c\n", "a b\nc\n", False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nd\n", True),
        ("a\n...\nd\n", "a\nb\n", False),
        ("0x...\n", "0y1\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_what_output_matches(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) == same
