"""What a host's conformance came to: as text, as JSON, as JUnit XML."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from ..cli.common import table
from .host import PROVABLE, Run
from .junit import write

RANK = ("failed", "passed", "skipped")  # which verdict stands for several


class Verdict(NamedTuple):
    """The whole, counted."""

    passed: bool
    kind: str
    """The conformance class reached: ``full host``, ``core host`` or nothing."""
    cases: int
    failed: int
    skipped: int
    problems: int
    without_result: tuple[str, ...]
    """Rules that no case of these runs has judged."""


def weigh(runs: Sequence[Run]) -> Verdict:
    """The verdict on all of `runs`."""
    verdicts = [case.verdict for run in runs for case in run.cases]
    judged = {rule for run in runs for case in run.cases if not (case.passed and case.skipped) for rule in case.rules}
    passed = bool(runs) and all(run.passed for run in runs)
    skipped = verdicts.count("skipped") + sum(bool(run.skipped) for run in runs)
    without = tuple(sorted(PROVABLE - judged, key=_rule_order))
    kind = "" if not passed else "core host" if without else "full host"
    problems = sum(len(run.problems) for run in runs)
    return Verdict(passed, kind, len(verdicts), verdicts.count("failed"), skipped, problems, without)


def _rule_order(rule: str) -> tuple[str, list[int]]:
    group, _, number = rule.partition("-")
    return group, [int(part) for part in re.split(r"[.-]", number)]


# ---- text ----


def chapter_table(runs: Sequence[Run]) -> str:
    """One chapter: a line for each rule with its cases and its result in each mode of `runs`."""
    rules = sorted({rule for run in runs for case in run.cases for rule in case.rules}, key=_rule_order)
    rows = [["rule", "cases", *(run.mode or "result" for run in runs)]]
    for rule in rules:
        cited = [[case for case in run.cases if rule in case.rules] for run in runs]
        rows.append([rule, str(max(map(len, cited))), *(_of_several([c.verdict for c in cases]) for cases in cited)])
    seconds = ", ".join(f"{run.seconds:.1f} s" for run in runs)
    head = f"{runs[0].chapter}: {max(len(run.cases) for run in runs)} cases, {seconds}"
    blocks = [head, table(rows, "  ") if len(rows) > 1 else ""]
    for run in runs:
        blocks.append(f"  {run.mode or 'all'} skipped: {run.skipped}" if run.skipped else "")
        blocks += [f"  FAILED {line}" for line in failures(run)]
    return "\n".join(filter(None, blocks))


def _of_several(verdicts: Sequence[str]) -> str:
    found = next((name for name in RANK if name in verdicts), "-")
    return "FAILED" if found == "failed" else found


def failures(run: Run) -> Iterator[str]:
    """Each failure of `run` in a line."""
    for case in run.cases:
        if not case.passed:
            notes = f" ({'; '.join(case.notes)})" if case.notes else ""
            yield f"{run.title} case {case.number}: {' '.join(case.rules)} {case.text}{notes}"
    yield from (f"{run.title}: {problem}" for problem in run.problems)


def summary(verdict: Verdict, whole: bool) -> str:
    """The last lines; `whole`: every chapter was run, so that rules without a result are worth naming."""
    lines = []
    if whole and verdict.without_result:
        lines.append(f"rules without a result ({len(verdict.without_result)}): {' '.join(verdict.without_result)}")
    counts = f"{verdict.cases} cases, {verdict.skipped} skipped"
    if not verdict.passed:
        lines.append(f"FAILED: {verdict.failed} of {counts}, {verdict.problems} problems of runs")
    elif whole:
        lines.append(f"passed: {counts}; conforms as a {verdict.kind}")
    else:
        lines.append(f"passed: {counts}")
    return "\n".join(lines)


# ---- for programs ----


def plain(runs: Sequence[Run], verdict: Verdict, whole: bool) -> dict[str, Any]:
    """The same as JSON has it; who did not run the `whole` has shown no class."""
    listed = [
        {
            "chapter": run.chapter,
            "mode": run.mode,
            "passed": run.passed,
            "skipped": run.skipped,
            "seconds": round(run.seconds, 3),
            "problems": list(run.problems),
            "cases": [
                {
                    "number": case.number,
                    "verdict": case.verdict,
                    "rules": list(case.rules),
                    "text": case.text,
                    "skipped": case.skipped,
                    "notes": list(case.notes),
                }
                for case in run.cases
            ],
        }
        for run in runs
    ]
    return {
        "passed": verdict.passed,
        "class": verdict.kind if whole else "",
        "without_result": list(verdict.without_result),
        "runs": listed,
    }


def junit(runs: Sequence[Run], ended: float) -> ElementTree.Element:
    """The tree of JUnit XML: a suite for each run, its problems as cases of their own; `ended` in s since 1970."""
    root = ElementTree.Element("testsuites")
    for number, run in enumerate(runs):
        name = ".".join(filter(None, ("conformance.host", run.chapter, run.mode)))
        verdicts = [case.verdict for case in run.cases]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            {
                "name": name,
                "package": "conformance.host",
                "id": str(number),
                "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ended)),
                "hostname": socket.gethostname() or "localhost",
                "tests": str(len(run.cases) + len(run.problems)),
                "failures": str(verdicts.count("failed")),
                "errors": str(len(run.problems)),
                "skipped": str(verdicts.count("skipped")),
                "time": f"{run.seconds:.3f}",
            },
        )
        ElementTree.SubElement(suite, "properties")
        _junit_cases(suite, name, run)
        ElementTree.SubElement(suite, "system-out").text = run.skipped
        ElementTree.SubElement(suite, "system-err").text = "\n".join(run.problems)
    return root


def _junit_cases(suite: ElementTree.Element, name: str, run: Run) -> None:
    def add(title: str) -> ElementTree.Element:
        return ElementTree.SubElement(suite, "testcase", {"classname": name, "name": title, "time": "0"})

    for case in run.cases:
        element = add(f"{case.number} {' '.join(case.rules)} {case.text}")
        if case.verdict == "failed":
            said = {"type": case.rules[0] if case.rules else "none", "message": case.text}
            ElementTree.SubElement(element, "failure", said).text = "\n".join(case.notes)
        elif case.verdict == "skipped":
            ElementTree.SubElement(element, "skipped", {"message": case.skipped})
    for number, problem in enumerate(run.problems, 1):
        ElementTree.SubElement(add(f"problem {number}"), "error", {"type": "run", "message": problem})


def write_junit(path: Path, runs: Sequence[Run]) -> None:
    """Writes `junit` to `path`.  Raises OutputError."""
    write(path, junit(runs, time.time()))
