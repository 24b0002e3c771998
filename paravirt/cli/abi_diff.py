"""``paravirt abi diff OLD.json NEW.json``: what changed between two versions of the ABI, and what that asks for.

Exit status: 0 if the version of NEW is what the changes ask for, 1 if it is not, 2 for bad input.
"""

from __future__ import annotations

from collections import Counter

from hypercall_abi import diff
from hypercall_abi.description import Description, DescriptionError, load

from ..errors import ConfigError, one_line
from .common import print_json, show, table

BROKEN = 1


def run(files: list[str], as_json: bool) -> int:
    """Carries the command out.  Raises ConfigError for files that are not two descriptions."""
    if len(files) != 2:
        raise ConfigError(f"paravirt abi diff compares two files, OLD.json and NEW.json; {len(files)} given")
    try:
        old, new = (load(file) for file in files)
    except DescriptionError as error:
        raise ConfigError(str(error)) from error
    changes = diff.changes(old, new)
    wanted = diff.wanted(changes, old, new)
    if as_json:
        print_json(
            {
                "old": _version(old),
                "new": _version(new),
                "wanted": wanted,
                "changes": [
                    {"where": c.where, "what": c.what, "kind": c.kind, "compatible": c.compatible} for c in changes
                ],
            }
        )
    else:
        show(one_line_each(changes))
        show(_summary(changes, old, new, wanted))
    return BROKEN if wanted else 0


def one_line_each(changes: list[diff.Change]) -> str:
    """A table of changes, those that break guests first."""
    order = [diff.INCOMPATIBLE, diff.ADDITION, diff.WORDING]
    rows = [[c.kind, one_line(c.where), one_line(c.what)] for c in sorted(changes, key=lambda c: order.index(c.kind))]
    return table(rows) if rows else "no change"


def _version(description: Description) -> str:
    return ".".join(map(str, description["version"]))


def _summary(changes: list[diff.Change], old: Description, new: Description, wanted: str | None) -> str:
    count = Counter(change.compatible for change in changes)
    verdict = wanted or "the version is as these changes ask for"
    return f"{_version(old)} → {_version(new)}: {count[False]} incompatible, {count[True]} compatible; {verdict}"
