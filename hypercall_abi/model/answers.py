"""What a call may answer: one answer where the standard fixes it, several where it leaves the host a choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..conventions import STATUS


@dataclass(frozen=True)
class Answer:
    """A status and a value; what else happens if the host answers so is its `effect`.

    A value of None is undefined: any number will do (CALL-10).
    """

    status: int
    value: int | None = 0
    effect: Callable[[], None] = field(default=lambda: None, compare=False)

    def __repr__(self) -> str:
        value = "undefined" if self.value is None else f"{self.value:#x}" if self.value > 9 else str(self.value)
        return f"Answer({STATUS.name_of(self.status)}, {value})"

    def allows(self, status: int, value: int) -> bool:
        """Whether a host that answers `status` and `value` has answered this."""
        return self.status == status and self.value in (None, value)


Allowed = Answer | tuple[Answer, ...]
"""What a handler gives: the one answer, or all those allowed, the preferred one first."""

Chooser = Callable[[Sequence[Answer], "int | None"], Answer]
"""Picks the answer that the host gave; the second argument is the GPA of its completion, None for a trap."""


class Disagreement(AssertionError):
    """The host did what the standard does not allow."""


def ok(value: int = 0, effect: Callable[[], None] = lambda: None) -> Answer:
    """The call did what `value` says."""
    return Answer(STATUS.OK, value, effect)


def refused(name: str) -> Answer:
    """A negative status by its name: nothing was done, and the value is undefined (CALL-10)."""
    return Answer(getattr(STATUS, name), None)


NO_RETURN = Answer(STATUS.OK, None)
"""The call does not come back to its caller, so that no answer is seen."""

WAITS = Answer(STATUS.OK, 0)
"""The call comes back later, with this answer: `vcpu.block` while its vCPU is BLOCKED."""


def first(allowed: Sequence[Answer], _completion_gpa: int | None) -> Answer:
    """The chooser of a model that stands alone: what a host does when all goes well."""
    return allowed[0]


def matching(status: int, value: int) -> Chooser:
    """The chooser for a trap that a host answered with `status` and `value`."""

    def choose(allowed: Sequence[Answer], _completion_gpa: int | None) -> Answer:
        for answer in allowed:
            if answer.allows(status, value):
                return answer
        raise Disagreement(f"the host answered {Answer(status, value)!r}; allowed: {list(allowed)}")

    return choose
