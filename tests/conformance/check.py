"""Runs the images against each wrong host: whether a case that cites the broken rule fails.

A host that dies of its mutant proves nothing: it is the case that has to find it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from paravirt.conform.host import Plan, Privilege, Progress, Run, choose, judge
from paravirt.conform.tap import Case
from tests.conformance.plant import VARIABLE, Mutant

AT_ONCE = 3
TIMEOUT_S = 60.0  # of one image; a mutant may have it wait for what never comes, on a machine that is busy


class Caught(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    by: str
    """``chapter: case`` that found it; empty: nothing did."""
    instead: str
    """What happened instead, when nothing did."""


class _Found(Exception):
    """A case has failed that cites the rule: the rest of the run, which may wait for much, is of no interest."""


def runs_of(
    copy: Path, chapters: Sequence[str], mutant: str, privileges: Sequence[Privilege], progress: Progress
) -> Iterator[Run]:
    """Of `chapters` against a mutant; empty: against none."""
    environment = (("PYTHONPATH", str(copy)), (VARIABLE, mutant))
    for privilege in privileges:
        yield from judge(Plan(tuple(chapters), (privilege,), timeout_s=TIMEOUT_S, environment=environment), progress)


def healthy(copy: Path) -> list[Run]:
    """The runs of every chapter while all mutants sleep, at CPL 3, which is quick."""
    return list(runs_of(copy, choose(()), "", ("user",), lambda *_: None))


def chapters_of(rule: str, runs: Sequence[Run]) -> list[str]:
    """The chapters that cite `rule`, quickest first."""
    ordered = sorted(runs, key=lambda run: run.seconds)
    return list(dict.fromkeys(run.chapter for run in ordered if any(rule in case.rules for case in run.cases)))


def hunt(copy: Path, mutant: Mutant, chapters: Sequence[str]) -> Caught:
    """Runs `chapters` against `mutant` until a case that cites its rule fails."""

    def look(chapter: str, _mode: str, cases: Sequence[Case]) -> None:
        if cases and not cases[-1].passed and mutant.rule in cases[-1].rules:
            raise _Found(f"{chapter}: {cases[-1].text}")

    instead = [] if chapters else [f"no case cites {mutant.rule}"]
    try:
        for run in runs_of(copy, chapters, mutant.id, ("user", "supervisor"), look):
            failed = [f"{' '.join(case.rules)} {case.text}" for case in run.cases if not case.passed]
            said = "; ".join([*run.problems, *failed][:3]) or "every case passed"
            instead.append(f"{run.chapter}: {said}")
    except _Found as found:
        return Caught(mutant, str(found), "")
    return Caught(mutant, "", " | ".join(instead))


def hunt_all(copy: Path, mutants: Sequence[Mutant], runs: Sequence[Run]) -> Iterator[Caught]:
    """What became of each of `mutants`, in order; a few at a time, since guests mostly wait."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda mutant: hunt(copy, mutant, chapters_of(mutant.rule, runs)), mutants)
