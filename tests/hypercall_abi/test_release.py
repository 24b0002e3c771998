"""Released descriptions, and a declaration that is edited in a copy of the tree: what `./dev check` says of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi import __main__, release
from hypercall_abi.description import load
from hypercall_abi.emit.json import describe
from hypercall_abi.release import ReleaseError
from tests.support.tree import ROOT

Declare = Callable[..., dict[str, Any]]


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Puts a description in the place of the declaration's, with values exchanged."""
    monkeypatch.setattr(release, "FOLDER", tmp_path / "released")

    def put(**values: object) -> dict[str, Any]:
        new = describe() | values
        monkeypatch.setattr(release, "describe", lambda: new)
        return new

    put()
    return put


def more_limits() -> list[dict[str, Any]]:
    limits: list[dict[str, Any]] = describe()["limits"]
    return [*limits, {"id": 99, "name": "NEW", "number": 1, "unit": "bytes", "doc": "New."}]


def fewer_limits() -> list[dict[str, Any]]:
    limits: list[dict[str, Any]] = describe()["limits"]
    return limits[1:]


def test_nothing_released_is_said(declare: Declare) -> None:
    assert release.check() == ["released/ holds no description: run python -m hypercall_abi release --draft"]


def test_a_release_is_kept_and_held_to(declare: Declare) -> None:
    path = release.release(draft=False, replace=False)
    assert path.name == "1.0.json"
    assert load(path) == describe()
    assert release.check() == []
    declare(limits=more_limits())
    assert release.check() == [
        f"{path}: the minor version must rise: 1.1 instead of 1.0",
        "addition: limit NEW: added",
    ]
    declare(limits=more_limits(), version=[1, 1])
    assert release.check() == []
    declare(limits=fewer_limits(), version=[1, 1])
    assert release.check() == [
        f"{path}: the major version must rise: 2.0 instead of 1.1",
        "incompatible: limit ARGUMENTS: removed",
    ]
    declare(limits=fewer_limits(), version=[2, 0])
    assert release.check() == []


def test_the_newest_counts_by_number(declare: Declare) -> None:
    for minor in (2, 10, 9):
        declare(version=[1, minor])
        if minor == 9:
            with pytest.raises(ReleaseError, match=r"against released/1\.10\.json"):
                release.release(draft=False, replace=False)
        else:
            release.release(draft=False, replace=False)
    newest = release.newest()
    assert newest and newest.name == "1.10.json"


def test_what_is_released_is_not_changed(declare: Declare) -> None:
    path = release.release(draft=False, replace=False)
    before = path.read_bytes()
    assert release.release(draft=False, replace=True) == path
    declare(limits=more_limits())
    for replace in (False, True):
        with pytest.raises(ReleaseError, match=r"1\.0 is released and is not changed any more; raise the version"):
            release.release(draft=True, replace=replace)
    assert path.read_bytes() == before


def test_a_draft_is_replaced(declare: Declare) -> None:
    release.release(draft=True, replace=False)
    declare(limits=more_limits())
    assert release.check() == []
    path = release.release(draft=True, replace=False)
    assert len(load(path)["limits"]) == len(more_limits())
    declare(limits=fewer_limits())
    first, *_, last = release.check()
    assert first.endswith("the major version must rise: 2.0 instead of 1.0")
    assert last.endswith("run python -m hypercall_abi release --draft --replace")
    with pytest.raises(ReleaseError, match=r"the major version must rise: .* --replace puts the draft aside"):
        release.release(draft=False, replace=False)
    assert load(release.release(draft=False, replace=True))["limits"] == fewer_limits()


def test_commands(declare: Declare, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["check"]) == 1
    assert __main__.main(["release", "--draft"]) == 0
    assert __main__.main(["check"]) == 0
    declare(limits=fewer_limits())
    capsys.readouterr()
    assert __main__.main(["check"]) == 1
    assert "limit ARGUMENTS: removed" in capsys.readouterr().err
    assert __main__.main(["release"]) == 2
    assert capsys.readouterr().err.startswith("hypercall_abi: against released/1.0.json: the major version must rise")


def test_a_broken_file_is_named(declare: Declare, capsys: pytest.CaptureFixture[str]) -> None:
    path = release.release(draft=True, replace=False)
    path.write_text(json.dumps({"version": [1, 0]}))
    assert __main__.main(["check"]) == 2
    assert "1.0.json: not a description of the ABI: the whole has no digest" in capsys.readouterr().err
    path.write_text(json.dumps({"version": [1, 0], "draft": True}))  # of a form that is not today's
    assert __main__.main(["release", "--draft"]) == 2
    assert __main__.main(["release", "--draft", "--replace"]) == 0
    assert __main__.main(["check"]) == 0


# ---- a declaration that was edited ----

EDITS = {
    "a field": ("conventions.py", '"cookie" / U64 * "Given back', '"token" / U64 * "Given back'),
    "a limit": ("conventions.py", '"ARGUMENTS", 6, "arguments"', '"ARGUMENTS", 6, "words"'),
    "a field's width": ("services/time.py", '"shift" / U32 * "At most 63."', '"shift" / U64 * "At most 63."'),
    "padding": ("services/time.py", "pad(4),", "pad(12),"),
}

ALL = {"paravirt_abi.h", "paravirt_abi.rs", "abi.json"}
STALE = {
    "a field": ALL | {"generated/conventions/records.md", "vectors/generated/conventions.txt"},
    "a limit": ALL | {"generated/limits.md"},
    "a field's width": {"shift: offset", "not aligned"},
    "padding": ALL | {"generated/time/records.md", "vectors/generated/time.txt"},
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_makes_the_check_name_each_stale_file(edit: str, tmp_path: Path) -> None:
    """Issue 3, acceptance 1: of what `./dev check` runs, the first that an edited declaration fails."""
    shutil.copytree(ROOT / "hypercall_abi", tmp_path / "hypercall_abi", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs/abi/generated", tmp_path / "docs/abi/generated")

    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hypercall_abi", "emit", "--check"]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    assert check().returncode == 0
    name, old, new = EDITS[edit]
    text = (tmp_path / "hypercall_abi" / name).read_text()
    assert text.count(old) == 1
    (tmp_path / "hypercall_abi" / name).write_text(text.replace(old, new))
    done = check()
    assert done.returncode == 1
    assert {word for word in STALE[edit] if word not in done.stderr} == set()


def test_dev_check_runs_the_gates() -> None:
    commands = (ROOT / "tox.ini").read_text().partition("[testenv:check]")[2].partition("[testenv:")[0]
    assert "python -m hypercall_abi emit --check\n" in commands
    assert "python -m hypercall_abi check\n" in commands
