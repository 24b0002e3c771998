"""The descriptions of released versions, and what holds the declaration to them.

``released/MAJOR.MINOR.json`` is the JSON description of that version.  One that is a draft was given to
nobody yet and may still be replaced; whatever is not is kept for good.
"""

from __future__ import annotations

import json
from pathlib import Path

from . import diff
from .description import Description, load
from .emit.json import describe

FOLDER = Path(__file__).parent / "released"


class ReleaseError(ValueError):
    """A description cannot be released; the text says what has to be done before."""


def newest() -> Path | None:
    """The file of the highest version that is kept."""
    versions = {tuple(map(int, path.stem.split("."))): path for path in FOLDER.glob("*.json")}
    return versions[max(versions)] if versions else None


def _is_draft(path: Path) -> bool:
    """Also of one whose form is not today's any more."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False  # whoever reads it next says what is wrong with it
    return isinstance(value, dict) and value.get("draft") is True


def _broken(old: Description, new: Description) -> list[str]:
    """What the version of `new` should have been, with the changes that say so; empty if it is right."""
    found = diff.changes(old, new)
    demand = diff.wanted(found, old, new)
    if not demand:
        return []
    return [
        demand,
        *(f"{change.kind}: {change.where}: {change.what}" for change in found if change.kind != diff.WORDING),
    ]


def check() -> list[str]:
    """What is wrong with the declaration's version against the newest description kept, line by line."""
    path = newest()
    if path is None:
        return [f"{FOLDER.name}/ holds no description: run python -m hypercall_abi release --draft"]
    lines = _broken(load(path), describe())
    if lines:
        lines[0] = f"{path}: {lines[0]}"
    if lines and _is_draft(path):
        lines.append("it is a draft: where all this is meant, run python -m hypercall_abi release --draft --replace")
    return lines


def release(*, draft: bool, replace: bool) -> Path:
    """Keeps the declaration's description as that of its version.

    Raises ReleaseError if the version should be another one, or stands for something else already;
    with `replace` a draft is put aside whatever it says.
    """
    new = describe()
    path = FOLDER / f"{new['version'][0]}.{new['version'][1]}.json"
    if path.exists() and not _is_draft(path):
        if diff.changes(load(path), new):
            raise ReleaseError(f"{path.stem} is released and is not changed any more; raise the version")
        return path
    before = newest()
    if before and not (replace and _is_draft(before)) and (lines := _broken(load(before), new)):
        advice = "; --replace puts the draft aside" if _is_draft(before) else ""
        raise ReleaseError(f"against {FOLDER.name}/{before.name}: {lines[0]}{advice}")
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps(({"draft": True} if draft else {}) | new, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return path
