"""The gate of instruction counts: what it lets through and what not."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.benchmarks.instructions import FIGURES, count, judge


def test_judgement() -> None:
    """A twentieth worse is too much; what is new, or gone, wants new figures."""
    assert judge({"split": 105.0, "packed": 3.0}, {"split": 100.0, "packed": 90.0}) == []
    assert judge({"split": 105.1}, {"split": 100.0}) == ["split: 105.1 instructions per chain, 100.0 were committed"]
    assert judge({"split": 1.0}, {}) == ["split: no figure"]
    assert judge({}, {"split": 1.0}) == ["split: not counted"]


@pytest.mark.skipif(not shutil.which("valgrind"), reason="no valgrind")
def test_count() -> None:
    """Every kind of ring that has a figure is counted, the same twice."""
    counted = count()
    assert counted.keys() == json.loads(FIGURES.read_text())["instructions"].keys()
    assert count() == counted
    assert all(20 < figure < 5000 for figure in counted.values())
