"""The vocabulary of the list: clauses of virtio's specification and their statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Must:
    """A statement.  What shows it is cases that cite its id, cases of our ``rules``, and ``tests`` of this package's
    own; or ``no_case`` says why there is none.
    """

    text: str
    level: Literal["MUST", "SHOULD"] = "MUST"
    rules: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    """``FILE::FUNCTION`` below ``tests/``."""
    no_case: str = ""


@dataclass(frozen=True)
class Clause:
    """A clause: its section in virtio 1.4 and its label there, behind ``devicenormative:``.

    One of which no statement applies has none, and says why in ``not_here``.
    """

    section: str
    label: str
    musts: tuple[Must, ...] = ()
    not_here: str = ""

    def id(self, number: int) -> str:
        """The id of its statement of that number, counted from 1."""
        return f"VIRTIO-{self.section}-{number}"


def must(text: str, rules: str = "", tests: str = "", no_case: str = "") -> Must:
    """A statement with MUST; `rules` and `tests` are separated by blanks."""
    return Must(text, "MUST", tuple(rules.split()), tuple(tests.split()), no_case)


def should(text: str, rules: str = "", tests: str = "", no_case: str = "") -> Must:
    """The same with SHOULD."""
    return Must(text, "SHOULD", tuple(rules.split()), tuple(tests.split()), no_case)
