"""`paravirt run --record`: every call is in the file, with what went in and came out; failures are said."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypercall_abi import SERVICES, STATUS
from hypercall_abi.conventions import ROAD
from hypercall_abi.recording import RECORDED, RECORDED_ACCESS, RECORDED_FLAG
from paravirt import MachineConfig
from paravirt.cli import main
from paravirt.config import Budgets, Disk
from paravirt.errors import OutputError, ParavirtError
from paravirt.machine import Machine
from paravirt.outcome import Outcome
from paravirt.recording.reader import Call, Life, read
from tests.support.built import GUESTS
from tests.support.guests import DATA_GPA, RESET, call, say, shutdown, write_guest

pytestmark = pytest.mark.kvm

BATCH, WRITE, FILL = (SERVICES[s].id(c) for s, c in (("base", "batch"), ("console", "write"), ("entropy", "fill")))


def run(image: Path, path: Path, **options: object) -> tuple[Outcome, list[Life]]:
    config = MachineConfig(image, memory_bytes=32 << 20, timeout_s=60, record=path, **options)  # type: ignore[arg-type]
    with Machine(config) as machine:
        outcome = machine.run()
    return outcome, read(path)


def test_what_is_kept_of_a_call(tmp_path: Path) -> None:
    image = write_guest(tmp_path / "g.elf", say("hello") + call(FILL, DATA_GPA + 64, 16) + shutdown(), b"hello")
    _, (life,) = run(image, tmp_path / "r.pcapng")
    write, fill, end = life.calls
    assert (write.name, write.args[:2], write.status, write.value) == ("console.write", (DATA_GPA, 5), 0, 5)
    assert (write.vcpu, write.road, write.begin_ns < write.end_ns) == (0, ROAD.TRAP, True)
    assert [(b.argument, b.access, b.length_bytes, b.data) for b in write.buffers] == [
        (0, RECORDED_ACCESS.READ, 5, b"hello")
    ]
    (output,) = fill.buffers
    assert (output.access, len(output.data), any(output.data)) == (RECORDED_ACCESS.WRITE, 16, True)
    assert (end.name, end.status, end.buffers) == ("system.shutdown", 0, ())
    assert write.end_ns <= fill.begin_ns, "time goes on"


def test_what_is_not_kept(tmp_path: Path) -> None:
    """REC-5: no refused buffer, none of length zero, no output beyond the value (CALL-11)."""
    code = call(WRITE, 1 << 40, 5) + call(WRITE, DATA_GPA, 0) + call(2 << 16 | 1, DATA_GPA, 64) + shutdown()
    _, (life,) = run(write_guest(tmp_path / "g.elf", code, b"x"), tmp_path / "r.pcapng", poison=True)
    bad, empty, nothing_read, _ = life.calls
    assert (bad.status, bad.buffers) == (STATUS.BAD_ADDRESS, ())
    assert (empty.status, empty.buffers) == (0, ())
    assert [(b.length_bytes, b.data) for b in nothing_read.buffers] == [(64, b"")]
    assert life.flags & RECORDED_FLAG.POISON


def test_the_machine_is_described(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    fixed = tmp_path / "fixed"
    fixed.write_bytes(bytes(256 << 10))
    disks = (Disk("scratch", disk), Disk("fixed", fixed, True))
    _, (life,) = run(
        GUESTS / "devices.elf", tmp_path / "r.pcapng", disks=disks, vcpus=2, deny=frozenset({"trace.mark"})
    )
    assert (life.vcpus, life.memory_bytes, life.image) == (2, 32 << 20, "devices.elf")
    named = {device.name: device for device in life.devices}
    assert (named["scratch"].size_bytes, named["scratch"].read_only) == (1 << 20, False)
    assert (named["fixed"].size_bytes, named["fixed"].read_only) == (256 << 10, True)
    assert life.services[SERVICES["trace"].number] == (0, 1)


@pytest.mark.parametrize("vcpus", [1, 2])
def test_every_call_is_there(tmp_path: Path, vcpus: int) -> None:
    """REC-3: as many as the machine counted, each vCPU's in its order (REC-2)."""
    outcome, (life,) = run(GUESTS / "conformance_vcpu.elf", tmp_path / "r.pcapng", vcpus=vcpus)
    assert outcome.statistics
    counted = [sum(call.vcpu == index for call in life.calls) for index in range(vcpus)]
    assert counted == [v.calls for v in outcome.statistics.vcpus]
    for index in range(vcpus):
        ends = [call.end_ns for call in life.calls if call.vcpu == index and call.road == ROAD.TRAP]
        assert ends == sorted(ends)


def test_a_batch_has_its_calls_before_it(tmp_path: Path) -> None:
    """REC-4, REC-2: as many as it completed, but those refused for their flags (BATCH-3), which are no calls."""
    _, (life,) = run(GUESTS / "conformance_calls.elf", tmp_path / "r.pcapng")
    inner: list[Call] = []
    batches = []
    for one in life.calls:
        if one.road == ROAD.BATCH:
            inner.append(one)
        elif one.id == BATCH:
            batches.append((one, inner))
            inner = []
    assert not inner
    batch, inner = next((one, inner) for one, inner in batches if inner)
    assert all(batch.begin_ns <= call.begin_ns and call.end_ns <= batch.end_ns for call in inner)
    source, to = (next(b.data for b in batch.buffers if b.access == access) for access in (1, 2))
    made = [i for i in range(batch.value) if not source[64 * i + 4]]  # flags
    assert [int.from_bytes(source[64 * i :][:4], "little") for i in made] == [call.id for call in inner]
    statuses = [int.from_bytes(to[32 * i + 8 :][:8], "little", signed=True) for i in made]
    assert statuses == [call.status for call in inner]


def test_moments(tmp_path: Path) -> None:
    _, (life,) = run(GUESTS / "conformance_event.elf", tmp_path / "r.pcapng", vcpus=2)
    kinds = [moment.kind for moment in life.moments]
    starts = [c for c in life.calls if c.name == "vcpu.start" and c.status == 0]
    assert kinds.count(RECORDED.VCPU_START) == 1 + len(starts)
    assert kinds.count(RECORDED.VCPU_STOP) == kinds.count(RECORDED.VCPU_START)
    sent = [c.args[:2] for c in life.calls if c.name == "event.send" and c.status == 0]
    raised = [(m.vcpu, m.number) for m in life.moments if m.kind == RECORDED.EVENT]
    assert set(sent) <= set(raised) and len(sent) <= len(raised)


def test_a_reset_begins_another_life(tmp_path: Path) -> None:
    image = write_guest(tmp_path / "g.elf", say("again") + call(RESET), b"again")
    config = MachineConfig(image, memory_bytes=4 << 20, record=tmp_path / "r.pcapng", timeout_s=60)
    with pytest.raises(ParavirtError), Machine(config) as machine:
        machine.run()
    lives = read(tmp_path / "r.pcapng")
    assert len(lives) > 2
    assert [[c.name for c in life.calls] for life in lives[:2]] == [["console.write", "system.reset"]] * 2


def test_a_recording_that_becomes_too_large_is_said_to_be_incomplete(tmp_path: Path) -> None:
    """REC-3: the guest runs to its end, the command fails."""
    path = tmp_path / "r.pcapng"
    config = MachineConfig(
        GUESTS / "conformance_calls.elf", record=path, budgets=Budgets(recording_bytes=20_000), memory_bytes=32 << 20
    )
    machine = Machine(config)
    with pytest.raises(OutputError, match="not complete"), machine:
        assert machine.run().status == 0
    (life,) = read(path)  # what there was room for is whole
    assert life.calls and path.stat().st_size < 22_000


@pytest.mark.parametrize(
    ("target", "expected"),
    [("/dev/full", "No space left"), ("missing/r.pcapng", "No such file"), (".", "Is a directory")],
)
def test_a_file_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, expected: str
) -> None:
    assert main(["run", str(GUESTS / "hello.elf"), "--record", str(tmp_path / target)]) == OutputError.exit_status
    err = capsys.readouterr().err
    assert expected in err and "--record" in err and err.count("\n") == 1


def test_a_disk_that_is_full_later(tmp_path: Path) -> None:
    """Another path than the head's: the C core writes."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        guest = GUESTS / "conformance_calls.elf"
        machine = Machine(MachineConfig(guest, memory_bytes=32 << 20, record=tmp_path / "r.pcapng"))
        with pytest.raises(OutputError, match="recording .* is not complete"), machine:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
            machine.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_machine_that_cannot_be_made_leaves_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    config = MachineConfig(GUESTS / "hello.elf", record=path, kvm_device=tmp_path / "no-kvm", accel="kvm")
    with pytest.raises(ParavirtError), Machine(config):
        pass
    assert not path.exists()


def test_a_guest_that_crashes_leaves_its_calls(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    assert main(["run", str(GUESTS / "crash.elf"), "--record", str(path)]) == 50
    (life,) = read(path)
    assert life.calls[-1].name == "system.crash"
