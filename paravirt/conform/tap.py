"""TAP as conformance images write it, read strictly.

A case is ``ok N - RULE-ID[ RULE-ID…] what it proves``, perhaps with ``# SKIP reason``; lines that start
with ``#`` stand above the case that they explain.  Other lines are a host's own words and are passed over,
unless they look like TAP.  Whatever is missing or out of order is a problem, and a problem is a failure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

NOTES_MOST = 8  # kept of a case; an image that explains more has said enough

_CASE = re.compile(r"(not )?ok (\d{1,9}) - (.+)")
_PLAN = re.compile(r"1\.\.(\d{1,9})(?: +# +SKIP +(.+))?", re.IGNORECASE)
_SKIP = re.compile(r"(.*?) +# +SKIP\b *(.*)", re.IGNORECASE)
_RULE = re.compile(r"[A-Z][A-Z0-9]*-\d+(?:\.\d+)*(?:-\d+)?[:,]?")  # virtio's: VIRTIO-2.4.1-1
_LOOKS_LIKE_TAP = re.compile(r"(not +)?ok\b|1\.\.|bail out", re.IGNORECASE)


class Case(NamedTuple):
    """One case of an image."""

    number: int
    passed: bool
    rules: tuple[str, ...]
    """Ids of the rules that it proves."""
    text: str
    """What it proves, without the rules' ids."""
    skipped: str = ""
    """Why it was not tried; empty: it was."""
    notes: tuple[str, ...] = ()
    """Its diagnostics."""

    @property
    def verdict(self) -> str:
        """``passed``, ``failed`` or ``skipped``."""
        return "failed" if not self.passed else "skipped" if self.skipped else "passed"


def _case(match: re.Match[str]) -> Case:
    text, skipped = match[3], ""
    if skip := _SKIP.fullmatch(text):
        text, skipped = skip[1], skip[2] or "no reason given"
    words = text.split()
    count = next((i for i, word in enumerate(words) if not _RULE.fullmatch(word)), len(words))
    rules = tuple(dict.fromkeys(word.rstrip(":,") for word in words[:count]))
    return Case(int(match[2]), not match[1], rules, " ".join(words[count:]), skipped)


class Reader:
    """Takes a console line by line; afterwards `cases` and `problems` say what it came to."""

    def __init__(self, known_rules: frozenset[str]) -> None:
        self._known = known_rules
        self._plan: int | None = None
        self._plan_after: int | None = None
        self.skipped = ""
        """Why the image tried nothing (``1..0 # SKIP reason``)."""
        self.cases: list[Case] = []
        self.problems: list[str] = []
        self._notes: list[str] = []

    def line(self, text: str) -> None:
        """One line of the console, without its end."""
        if match := _CASE.fullmatch(text):
            self._take(_case(match))
        elif match := _PLAN.fullmatch(text):
            self._take_plan(int(match[1]), match[2] or "")
        elif text.startswith("#"):
            self._note(text.lstrip("# ").rstrip())
        elif re.match(r"bail out!", text, re.IGNORECASE):
            self.problems.append(f"the image gave up: {text[9:].strip() or 'no reason given'}")
        elif _LOOKS_LIKE_TAP.match(text):
            self.problems.append(f"a line that is not proper TAP: {text[:80]!r}")

    def end(self, left: str = "") -> None:
        """The console has ended; `left` is what stood after its last line's end."""
        if _LOOKS_LIKE_TAP.match(left):
            self.problems.append(f"the output ends within a line: {left[:80]!r}")
        if self._plan is None:
            last = f"after case {self.cases[-1].number}" if self.cases else "with no case at all"
            self.problems.append(f"the output has no plan (1..N): it ends {last}")
        elif self._plan != len(self.cases):
            self.problems.append(f"the plan says {self._plan} cases, {len(self.cases)} were reported")
        if self._plan_after not in (None, 0, len(self.cases)):
            self.problems.append("the plan stands between cases")

    def _take(self, case: Case) -> None:
        expected = self.cases[-1].number + 1 if self.cases else 1
        if case.number != expected:
            self.problems.append(f"case {case.number} stands where case {expected} should")
        if not case.rules:
            self.problems.append(f"case {case.number} names no rule: {case.text[:80]!r}")
        for rule in case.rules:
            if rule not in self._known:
                self.problems.append(f"case {case.number} names the rule {rule}, which the ABI does not have")
        self.cases.append(case._replace(notes=tuple(self._notes)))
        self._notes = []

    def _take_plan(self, count: int, skipped: str) -> None:
        if self._plan is not None:
            self.problems.append("a second plan")
        self._plan, self._plan_after, self.skipped = count, len(self.cases), skipped
        if count == 0 and not skipped:
            self.problems.append("the plan says no cases (1..0) and not why")

    def _note(self, text: str) -> None:
        if text and len(self._notes) < NOTES_MOST:
            self._notes.append(text)
