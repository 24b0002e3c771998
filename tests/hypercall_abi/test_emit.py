"""Generated files: pure functions of the declaration, committed, and noticed when stale."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hypercall_abi import LIMITS, SERVICES, __main__, emit
from hypercall_abi.emit import OUTPUTS

each_output = pytest.mark.parametrize("name", OUTPUTS)


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], dict[str, str]]]:
    """One small output, kept below a directory of the test's own."""
    monkeypatch.setattr(__main__, "ROOT", tmp_path)
    table = {"small": lambda: {"here/one.txt": "one\n", "two.txt": "two\n"}}
    monkeypatch.setattr(__main__, "OUTPUTS", table)
    return table


@each_output
def test_the_same_every_time(name: str) -> None:
    assert OUTPUTS[name]() == OUTPUTS[name]()


@each_output
def test_the_same_in_another_process(name: str) -> None:
    """Whatever the hash seed, the time and the directory are."""
    command = [sys.executable, "-m", "hypercall_abi", "emit", name, "--stdout"]
    root = str(Path(emit.__file__).parents[2])
    texts = [
        subprocess.run(
            command, capture_output=True, text=True, check=True, cwd="/", env={"PYTHONPATH": root, "PYTHONHASHSEED": s}
        ).stdout
        for s in ("1", "2")
    ]
    assert texts[0] == texts[1] == "\n".join(OUTPUTS[name]().values())


@each_output
def test_texts_are_tidy(name: str) -> None:
    for place, text in OUTPUTS[name]().items():
        assert text.endswith("\n") and not text.endswith("\n\n"), place
        assert not any(line != line.rstrip() for line in text.splitlines()), place


def test_committed_files_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["emit", "--check"]) == 0
    assert capsys.readouterr().err == ""


def test_writes_then_agrees(
    outputs: dict[str, Callable[[], dict[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(["emit", "--check"]) == 1
    assert "one.txt is stale: run python -m hypercall_abi emit small" in capsys.readouterr().err
    assert not (tmp_path / "two.txt").exists()
    assert __main__.main(["emit"]) == 0
    assert (tmp_path / "here" / "one.txt").read_text() == "one\n"
    assert __main__.main(["emit", "--check", "small"]) == 0


def test_notices_each_stale_file(
    outputs: dict[str, Callable[[], dict[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    __main__.main(["emit"])
    (tmp_path / "two.txt").write_text("changed\n")
    assert __main__.main(["emit", "--check"]) == 1
    message = capsys.readouterr().err
    assert "two.txt" in message and "one.txt" not in message
    assert (tmp_path / "two.txt").read_text() == "changed\n"


def test_unknown_output_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        __main__.main(["emit", "fortran"])
    assert stop.value.code == 2
    assert "no output 'fortran'; there are: c, calls" in capsys.readouterr().err


def test_call_table_names_every_call_and_limit() -> None:
    (text,) = OUTPUTS["calls"]().values()
    calls = [line for line in text.splitlines() if line.startswith("PV_CALL(")]
    assert len(calls) == sum(len(s.calls) for s in SERVICES.values())
    assert "PV_CALL(7, 9, device_queue_setup, 7, 2, -1, PV_ARG PV_BUFFER(READ, 1, 8, 40, 1))" in calls
    assert "PV_CALL(6, 5, memory_report, 7, 2, 1, PV_BUFFER(READ, PV_LIMIT_MEMORY_RANGES, 8, 16, 0))" in calls
    limits = [line for line in text.splitlines() if line.startswith("PV_LIMIT(")]
    assert limits == [f"PV_LIMIT(PV_LIMIT_{name})" for name in LIMITS]
