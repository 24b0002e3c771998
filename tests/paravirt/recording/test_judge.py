"""`paravirt replay --model`: recordings judged by the reference model, without any machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paravirt.cli import main
from paravirt.errors import ConfigError, RecordingError
from paravirt.recording.judge import judge
from paravirt.recording.reader import Life, read

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.pcapng"))
CALLS = next(path for path in GOLDEN if path.stem == "calls")

(LIFE,) = read(CALLS)


def changed(number: int, **values: object) -> Life:
    (life,) = read(CALLS)
    calls = [c._replace(**values) if c.number == number else c for c in life.calls]  # type: ignore[arg-type]
    return life._replace(calls=calls)


def one(name: str) -> int:
    """The number of the first call `name` that succeeded."""
    (life,) = read(CALLS)
    return next(c.number for c in life.calls if c.name == name and c.status == 0)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--model", str(path)]) == 0
    assert "answered as the ABI allows\n" in capsys.readouterr().out


def test_most_of_the_calls_are_judged() -> None:
    (life,) = read(CALLS)
    verdict = judge(life)
    assert verdict.same and verdict.calls > 0.95 * len(life.calls)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("base.version", {"value": 7}, "the host answered Answer(OK, 7); allowed: [Answer(OK, 0x100000000)]"),
        ("base.version", {"status": -4}, "the host answered Answer(BAD_ADDRESS, "),
        ("console.write", {"value": 1 << 20}, "allowed: [Answer(OK, "),
        ("entropy.fill", {"value": 3}, "the host answered Answer(OK, 3)"),
    ],
)
def test_answers_that_are_not_allowed(name: str, values: dict[str, object], expected: str) -> None:
    number = one(name)
    verdict = judge(changed(number, **values))
    assert verdict.difference and verdict.difference.call.number == number
    assert expected in verdict.difference.what[0]


def test_output_that_is_not_allowed() -> None:
    (life,) = read(CALLS)
    call = next(c for c in life.calls if c.name == "base.services" and c.status == 0 and c.value)
    data = bytearray(call.buffers[0].data)
    data[17] ^= 1
    verdict = judge(changed(call.number, buffers=(call.buffers[0]._replace(data=bytes(data)),)))
    assert verdict.difference and verdict.difference.call.number == call.number
    assert verdict.difference.what[0].startswith("output: from byte 16 on expected")


@pytest.mark.parametrize("option", [("--accel", "kvm"), ("--privilege", "user"), ("--launcher", "x {image}")])
def test_usage(capsys: pytest.CaptureFixture[str], option: tuple[str, str]) -> None:
    assert main(["replay", "--model", str(CALLS), *option]) == ConfigError.exit_status
    assert "leave them out" in capsys.readouterr().err


def test_a_machine_larger_than_this_one() -> None:
    (life,) = read(CALLS)
    with pytest.raises(RecordingError, match="4398046511104M of memory"):
        judge(life._replace(memory_bytes=1 << 62))


@given(st.data())
def test_any_answer_is_judged(data: st.DataObject) -> None:
    """Whatever a recording says was asked and answered, the judge has a verdict."""
    life = LIFE
    number = data.draw(st.integers(1, len(life.calls)))
    words = st.integers(0, (1 << 64) - 1) | st.integers(0, 64)
    values: dict[str, Any] = {
        "args": tuple(data.draw(words) for _ in range(6)),
        "status": data.draw(st.integers(-20, 5)),
        "value": data.draw(words),
        "road": data.draw(st.sampled_from([0, 1, 2, 4, 8])),
    }
    call = life.calls[number - 1]._replace(**values)
    judge(life._replace(calls=[call], memory_bytes=4 << 20))
