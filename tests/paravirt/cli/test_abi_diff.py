"""``paravirt abi diff``: its words, its JSON, its exit statuses; bad files are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.emit.json import describe
from paravirt.cli import main


def write(path: Path, **values: object) -> str:
    path.write_text(json.dumps(describe() | values))
    return str(path)


@pytest.fixture
def old(tmp_path: Path) -> str:
    return write(tmp_path / "old.json")


def limits(number: int) -> list[dict[str, Any]]:
    return [limit | ({"number": number} if limit["name"] == "CONSOLE_BYTES" else {}) for limit in describe()["limits"]]


def test_no_change(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["abi", "diff", old, old]) == 0
    lines = ["no change", "1.0 → 1.0: 0 incompatible, 0 compatible; the version is as these changes ask for"]
    assert capsys.readouterr().out.splitlines() == lines


def test_incompatible(old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = write(tmp_path / "new.json", limits=limits(17))
    assert main(["abi", "diff", old, new]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.split() == "incompatible limit CONSOLE_BYTES number: 4096 → 17".split()
    assert last == "1.0 → 1.0: 1 incompatible, 0 compatible; the major version must rise: 2.0 instead of 1.0"
    assert main(["abi", "diff", old, write(tmp_path / "newer.json", limits=limits(17), version=[2, 0])]) == 0


def test_as_json(old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = write(tmp_path / "new.json", limits=limits(8192), version=[1, 1])
    assert main(["abi", "diff", old, new, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["old"], found["new"], found["wanted"]) == ("1.0", "1.1", None)
    change = {"where": "limit CONSOLE_BYTES", "what": "number: 4096 → 8192", "kind": "addition", "compatible": True}
    assert change in found["changes"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON: "),
        ("\0", "not JSON: "),
        ("[" * 100_000, "not JSON: "),
        ("[]", "not a description of the ABI: the whole is not of type object"),
        ('{"version": 1, "version": 2}', "not JSON: a key stands twice"),
        ('{"version": NaN}', "not a description of the ABI: the whole has no digest"),
        (" " * (17 << 20), "larger than 16 MiB"),
    ],
    ids=["empty", "NUL", "deep", "a list", "a key twice", "little", "large"],
)
def test_bad_files(old: str, text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.json").write_text(text)
    for files in ([old, str(tmp_path / "bad.json")], [str(tmp_path / "bad.json"), old]):
        assert main(["abi", "diff", *files]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        assert f"bad.json: {words}" in err


def test_bytes_that_are_no_text(old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe")
    assert main(["abi", "diff", str(tmp_path / "bad.json"), old]) == 2
    assert "not JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["diff"], "compares two files, OLD.json and NEW.json; 0 given"),
        (["diff", "one"], "1 given"),
        (["diff", "one", "two", "three"], "3 given"),
        (["diff", "/nowhere/one", "two"], "cannot read /nowhere/one: No such file or directory"),
        (["diff", "/", "/"], "cannot read /: Is a directory"),
        (["time", "one"], "paravirt abi takes one name"),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["abi", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_number_used_twice_is_refused(old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services = describe()["services"]
    services[1]["calls"][0]["id"] = services[0]["calls"][0]["id"]
    assert main(["abi", "diff", old, write(tmp_path / "new.json", services=services)]) == 2
    assert "base.version and console.write have one id, 65536" in capsys.readouterr().err
