"""`paravirt replay`: golden recordings are answered as recorded; what differs is shown, at the first call that does."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from hypercall_abi import SERVICES
from hypercall_abi.recording import RECORDED
from paravirt.cli import main
from paravirt.errors import ConfigError, RecordingError
from paravirt.recording.convert import START, Program, convert
from paravirt.recording.image import with_program
from paravirt.recording.reader import Call, read
from paravirt.recording.replay import Host, replay
from tests.support.built import GUESTS
from tests.support.guests import call, write_guest

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.pcapng"))
each_golden = pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
HELLO, CALLS, DEMO = (next(path for path in GOLDEN if path.stem == name) for name in ("hello", "calls", "demo"))
KVM = pytest.mark.kvm
OURS = f"{shlex.quote(sys.executable)} -m paravirt run {{image}} --vcpus {{vcpus}} --memory {{memory}}"


def replayed(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> tuple[int, str]:
    status = main(["replay", str(path), *options])
    said = capsys.readouterr()
    return status, said.out + said.err


@pytest.mark.only_kvm("asks for it")
@each_golden
def test_golden(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    status, text = replayed(capsys, path, "--accel", "kvm")
    assert status == 0, text
    assert "answered as recorded\n" in text and "left out" not in text


@each_golden
def test_golden_on_the_software_cpu(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    pytest.importorskip("unicorn")
    status, text = replayed(capsys, path, "--accel", "software")
    assert status == 0, text


@KVM
def test_golden_at_cpl_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert replayed(capsys, CALLS, "--privilege", "supervisor")[0] == 0


@KVM
@pytest.mark.parametrize("guest", ["conformance_event", "conformance_calls"])
def test_what_was_recorded_now(tmp_path: Path, capsys: pytest.CaptureFixture[str], guest: str) -> None:
    """vCPUs that start and stop, wake one another, and thousands of wrong calls."""
    path = tmp_path / "r.pcapng"
    main(["run", str(GUESTS / f"{guest}.elf"), "--vcpus", "2", "--memory", "32M", "--record", str(path)])
    capsys.readouterr()
    status, text = replayed(capsys, path)
    assert status == 0, text


@KVM
def test_a_machine_that_was_reset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each life is replayed in a machine of its own."""
    image = write_guest(tmp_path / "g.elf", call(1 << 16) + call(8 << 16 | 1))
    main(["run", str(image), "--record", str(tmp_path / "r.pcapng")])
    capsys.readouterr()
    data, at, machines = (tmp_path / "r.pcapng").read_bytes(), 0, 0
    while machines < 3:
        at += int.from_bytes(data[at + 4 : at + 8], "little")
        machines += data[at] == 6 and data[at + 28] == RECORDED.MACHINE
    (tmp_path / "two.pcapng").write_bytes(data[:at])
    status, text = replayed(capsys, tmp_path / "two.pcapng")
    assert (status, text) == (0, "g.elf: 1 call answered as recorded\n" * 2)


# ---- differences ----


@KVM
def test_another_output(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = replayed(capsys, CALLS, "--launcher", f"{OURS} --deny trace.mark")
    assert status == 1
    assert "of vCPU 0 differs: base.services(records_gpa=0x" in text
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if "expected 0b 00 00 00 07" in line)
    assert "got 0b 00 00 00 06" in lines[at + 1]
    assert lines[at + 2].strip() == "^^"
    assert lines[at + 2].index("^^") == lines[at + 1].index("06 00"), "the mark stands below what differs"


def _changed(program_of: Path, number: int, **values: object) -> tuple[Program, Call]:
    """The program of a recording in which one call was answered otherwise."""
    (life,) = read(program_of)
    calls = [one._replace(**values) if one.number == number else one for one in life.calls]  # type: ignore[arg-type]
    return convert(life._replace(calls=calls)), calls[number - 1]


@KVM
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"status": -5}, "status: expected UNALIGNED, got OK"),
        ({"value": 0x1D}, "value: expected 0x1d, got 0x1c"),
    ],
)
def test_another_status_or_value(tmp_path: Path, values: dict[str, object], expected: str) -> None:
    program, changed = _changed(HELLO, 1, **values)
    verdict = replay(program, Host(), tmp_path)
    assert verdict.difference and verdict.calls == 0
    assert verdict.difference.call == changed
    assert verdict.difference.what == (expected,)


@KVM
def test_the_circumstances_of_a_host_are_not_compared(tmp_path: Path) -> None:
    program, _ = _changed(HELLO, 1, status=-10)
    assert replay(program, Host(), tmp_path).same


@KVM
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = replayed(capsys, CALLS, "--launcher", f"{OURS} --deny trace.mark", "--json")
    found = json.loads(text)
    assert (status, found["same"]) == (1, False)
    (life,) = found["lives"]
    assert life["image"] == "calls.elf" and life["difference"]["vcpu"] == 0 and life["problem"] is None
    assert json.loads(replayed(capsys, HELLO, "--json")[1])["same"] is True


# ---- what keeps a replay from its end ----


@KVM
def test_a_machine_that_is_too_small(tmp_path: Path) -> None:
    (life,) = read(DEMO)
    program = convert(life._replace(devices=()))
    verdict = replay(program, Host(f"{OURS} --vcpus 1"), tmp_path)
    assert verdict.problem == "this recording needs 2 vCPUs, the machine has 1"
    program.arena_bytes = 1 << 26
    problem = replay(program, Host(f"{OURS} --memory 32M"), tmp_path).problem
    assert "this recording needs 67108864 bytes of memory" in problem


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ("false {image}", "the host ended with status 1 at call 1, base.version()"),
        ("true {image}", "the host ended with status 0 at call 1, base.version()"),
        (shlex.join([sys.executable, "-c", "print('ok 1 - replay: call 2\\n'*9)", "{image}"]), "at call 1"),
        (shlex.join([sys.executable, "-c", "print('ok 1 - replay: call 1')", "{image}"]), "at call 2"),
        (shlex.join([sys.executable, "-c", "import sys; sys.exit('no such option')", "{image}"]), "no such option"),
    ],
)
def test_hosts_that_do_not_replay(capsys: pytest.CaptureFixture[str], launcher: str, expected: str) -> None:
    status, text = replayed(capsys, CALLS, "--launcher", launcher)
    assert status == 1
    assert expected in text


def test_a_host_that_hangs(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = replayed(capsys, HELLO, "--launcher", "sh -c 'exec sleep 60' {image}", "--timeout", "0.5")
    assert status == 1 and "did not end within 0.5 s" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--launcher", "my-vmm"], "{image}"),
        (["--launcher", "no-such-vmm {image}"], "cannot start"),
        (["--timeout", "0"], "time-out"),
    ],
)
def test_usage(capsys: pytest.CaptureFixture[str], options: list[str], expected: str) -> None:
    status, text = replayed(capsys, HELLO, *options)
    assert status == ConfigError.exit_status
    assert expected in text and text.count("\n") == 1


def test_a_recording_that_cannot_be_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "no.pcapng"
    path.write_bytes(b"no")
    assert replayed(capsys, path)[0] == RecordingError.exit_status
    (life,) = read(HELLO)
    console = SERVICES["console"].number
    services = {number: what for number, what in life.services.items() if number != console}
    with pytest.raises(RecordingError, match="denied calls of the service console"):
        replay(convert(life._replace(services=services)), Host(), tmp_path)
    with pytest.raises(RecordingError, match="no call"):
        convert(life._replace(calls=[]))
    with pytest.raises(RecordingError, match="not one that replays"):
        with_program((GUESTS / "hello.elf").read_bytes(), b"", ())


@KVM
def test_the_image_without_a_recording(tmp_path: Path) -> None:
    console = tmp_path / "console"
    assert main(["run", str(GUESTS / "replay.elf"), "--console", str(console)]) == 1
    assert console.read_text() == "Bail out! there is no recording in this image; paravirt replay puts one in\n"


# ---- conversion ----


def test_starts_come_before_what_they_started() -> None:
    for path in (DEMO, CALLS):
        (life,) = read(path)
        running = {0}
        for entry in convert(life).entries:
            assert entry.call.vcpu in running
            if entry.id == START and entry.status == 0:
                running.add(entry.args[0])


def test_calls_of_a_vcpu_that_was_never_started_are_left_out() -> None:
    (life,) = read(DEMO)
    calls = [c for c in life.calls if c.id != START]
    program = convert(life._replace(calls=calls))
    assert {entry.call.vcpu for entry in program.entries} == {0}
    assert {call.vcpu for call, why in program.left_out if "not started" in why} == {1}


def test_nothing_of_the_recorded_memory_is_touched() -> None:
    """Every buffer and every address in a record is inside of the arena."""
    for path in GOLDEN:
        (life,) = read(path)
        program = convert(life)
        for entry in program.entries:
            for offset, data in entry.inputs:
                assert offset + len(data) <= program.arena_bytes
            for output in entry.outputs:
                assert output.offset + len(output.data) <= program.arena_bytes
            for at in entry.words:
                (word,) = (
                    int.from_bytes(data[at - offset :][:8], "little")
                    for offset, data in entry.inputs
                    if offset <= at < offset + len(data)
                )
                assert word < program.arena_bytes
            for at in range(6):
                assert not entry.relocate >> at & 1 or entry.args[at] < program.arena_bytes


def test_alignment_is_kept() -> None:
    for path in GOLDEN:
        (life,) = read(path)
        for entry in convert(life).entries:
            for buffer in entry.call.buffers:
                if entry.id == entry.call.id and entry.inputs and len(entry.call.buffers) == 1:
                    assert entry.args[buffer.argument] % 4096 == entry.call.args[buffer.argument] % 4096
