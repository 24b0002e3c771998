"""Every wrong host is caught by a case of the rule that it breaks, and a sound one by none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from paravirt.conform.host import Run
from tests.conformance import table
from tests.conformance.check import healthy, hunt_all, runs_of
from tests.conformance.mutants import MUTANTS
from tests.conformance.plant import Mutant, build

pytestmark = [pytest.mark.kvm, pytest.mark.only_kvm("runs every image on every wrong host, some of them wrong in it")]

BATCHES = 48  # the first runs in the quick lane


@pytest.fixture(scope="module")
def copy() -> Path:
    return build(MUTANTS)


@pytest.fixture(scope="module")
def runs(copy: Path) -> list[Run]:
    return healthy(copy)


def test_without_a_mutant_every_case_passes(runs: list[Run]) -> None:
    assert [(run.title, run.problems, [c for c in run.cases if not c.passed]) for run in runs if not run.passed] == []


def test_the_table_of_the_specification_is_current(runs: list[Run]) -> None:
    assert table.PLACE.read_text(encoding="utf-8") == table.text(runs), "run python -m tests.conformance --table"


def test_a_report_has_an_end(copy: Path) -> None:
    """Of a host, too, whose features are such that no driver could agree on them."""
    (run,) = runs_of(copy, ["virtio"], "cache_without_flush", ("user",), lambda *_: None)
    failed = [case for case in run.cases if not case.passed]
    assert run.problems == () and any("VIRTIO-2.2.2-1" in case.rules for case in failed)


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(MUTANTS[first::BATCHES], id=MUTANTS[first].id, marks=[pytest.mark.slow] if first else [])
        for first in range(BATCHES)
    ],
)
def test_wrong_hosts_are_caught(batch: Sequence[Mutant], copy: Path, runs: list[Run]) -> None:
    escaped = [found for found in hunt_all(copy, batch, runs) if not found.by]
    assert [f"{found.mutant.id}, which breaks {found.mutant.rule}: {found.instead}" for found in escaped] == []
