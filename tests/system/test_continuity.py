"""What a guest is told of its machine: pauses, and by whom restores and copies."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from paravirt import Machine, MachineConfig
from paravirt._native import lib
from paravirt.cli import main
from paravirt.config import Accel
from paravirt.debug.debugger import debugger_of
from paravirt.errors import ConfigError, HostCallFailed
from paravirt.pausing import Quiet
from paravirt.recording.judge import judge
from paravirt.recording.reader import read
from paravirt.services.continuity import CONTINUITY_EVENT, GENERATION_BYTES
from tests.support.built import GUESTS, without_notes
from tests.support.told import PATIENCE_S, Told, check_tap
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.kvm]

ENOUGH_S = 30.0
"""For a guest to be quiet, on a busy machine."""
accelerators = pytest.mark.parametrize("accel", ["kvm", "software"])


@contextmanager
def waiting(accel: Accel, command_line: str = "", **options: object) -> Iterator[tuple[Machine, Told]]:
    """The guest that says what it is told, which has subscribed."""
    told = Told()
    config = MachineConfig(GUESTS / "continuity.elf", accel=accel, console=told, command_line=command_line)
    with Machine(config.replace(timeout_s=PATIENCE_S, **options)) as machine:
        machine.start()
        told.wait(b"# waits\n")
        yield machine, told


def said(told: Told, what: str) -> list[str]:
    return re.findall(rf"# {what} (\w+)", told.text.decode())


def has_answered(machine: Machine, events: int) -> bool:
    return machine.statistics().continuity.acknowledged == events


@accelerators
def test_a_pause_is_told(accel: Accel) -> None:
    """Before and after; the guest answers to both, and is the same machine."""
    with waiting(accel) as (machine, told):
        for turn in (1, 3):
            quiet = machine.pausing.pause(ENOUGH_S)
            assert (quiet.told, quiet.acknowledged) == (True, True)
            assert f"event BEFORE_PAUSE {turn}" in told.text.decode()
            now_ns = lib.pv_time_now(machine.native)
            exits = [vcpu.native.exits for vcpu in machine.vcpus]
            time.sleep(0.05)
            assert lib.pv_time_now(machine.native) == now_ns
            assert [vcpu.native.exits for vcpu in machine.vcpus] == exits
            assert machine.pausing.resume() >= 50_000_000
            told.wait(f"event RESUMED {turn + 1}\n".encode())
            answered = partial(has_answered, machine, turn + 1)
            wait_for(answered, "RESUMED was not acknowledged")
        assert len(set(said(told, "generation"))) == 1
        assert len(set(said(told, "random"))) == 3
        counts = machine.statistics().continuity
        assert (counts.events, counts.acknowledged) == (4, 4)
        assert 0 < counts.last_ns <= counts.longest_ns


@accelerators
def test_another_machine(accel: Accel) -> None:
    """Each restore and copy gives the machine a generation of its own, in the page before the guest goes on."""
    with waiting(accel) as (machine, told):
        for number, name in enumerate(("RESTORED", "CLONED", "MIGRATED")):
            machine.pausing.pause(ENOUGH_S)
            clock = machine.native.time.generation
            machine.pausing.resume(getattr(CONTINUITY_EVENT, name))
            told.wait(f"event {name} {2 * number + 2}\n".encode())
            assert machine.native.time.generation != clock
        assert machine.wait().status == 0, told.text.decode()
        check_tap(told, 3)
        generations = said(told, "generation")
        assert len(set(generations)) == 3  # migrated, it is the same
        assert generations[-1] == machine.continuity.generation.hex()
        assert len(set(said(told, "random"))) == 4


@accelerators
@pytest.mark.parametrize("name", ["RESTORED", "CLONED"])
def test_before_the_first_instruction(accel: Accel, name: str) -> None:
    """As who restores or copies a machine says it: the guest finds it when it looks for the first time."""
    told = Told()
    with Machine(MachineConfig(GUESTS / "continuity.elf", accel=accel, console=told)) as machine:
        first = machine.continuity.generation
        assert machine.continuity.announce(getattr(CONTINUITY_EVENT, name), 5) == 1
        machine.start()
        told.wait(f"event {name} 1\n".encode())
        wait_for(partial(has_answered, machine, 1), "it was not acknowledged")
        assert machine.native.time_page.generation == 1
        assert set(said(told, "generation")) == {machine.continuity.generation.hex()} != {first.hex()}


def test_a_guest_that_never_answers() -> None:
    """It is stopped after the time that it was given."""
    with waiting("auto", "deaf") as (machine, told):
        quiet = machine.pausing.pause(0.1)
        assert (quiet.told, quiet.acknowledged) == (True, False)
        assert quiet.waited_ns >= 100_000_000
        assert machine.pausing.paused
        machine.pausing.resume()
        told.wait(b"event RESUMED 2\n")
        assert machine.statistics().continuity.acknowledged == 0


def test_a_guest_that_does_not_know_of_it() -> None:
    with Machine(MachineConfig(GUESTS / "spin.elf")) as machine:
        with pytest.raises(HostCallFailed, match="does not run; it has not begun"):
            machine.pausing.pause()
        machine.start()
        assert machine.pausing.pause()[:2] == Quiet(False, False, 0)[:2]
        with pytest.raises(ConfigError, match="is paused already; let it go on first"):
            machine.pausing.pause()
        machine.pausing.resume()
        with pytest.raises(ConfigError, match="is not paused"):
            machine.pausing.resume()
        with pytest.raises(ConfigError, match="waited for from 0 to 30 s"):
            machine.pausing.pause(31)
        machine.pausing.pause()
        machine.stop()  # a paused machine ends as any other
        assert not machine.pausing.paused
        with pytest.raises(HostCallFailed, match="has just ended"):
            machine.pausing.pause()


def test_a_debugger_has_its_say() -> None:
    """What it wants of a paused machine is done once that goes on; one that it holds is not asked to be quiet."""
    with waiting("auto") as (machine, told):
        debugger = debugger_of(machine)
        with debugger.lock:
            debugger.stop()
        assert machine.pausing.pause(ENOUGH_S).told is False
        machine.pausing.resume()
        assert debugger.stopped
        assert "RESUMED" not in told.text.decode()
        with debugger.lock:
            debugger.resume()
        told.wait(b"event RESUMED 2\n")
        machine.pausing.pause(ENOUGH_S)
        with debugger.lock:
            debugger.resume()
            assert debugger.stopped
        machine.pausing.resume()
        assert not debugger.stopped
        told.wait(b"event RESUMED 4\n")


def test_a_trace_shows_it(tmp_path: Path) -> None:
    with waiting("auto", trace=tmp_path / "trace") as (machine, told):
        machine.pausing.pause(ENOUGH_S)
        machine.pausing.resume()
        told.wait(b"event RESUMED 2\n")
    events = json.loads((tmp_path / "trace").read_text())["traceEvents"]
    (track,) = (e["tid"] for e in events if e["ph"] == "M" and e["args"]["name"] == "continuity")
    marks = [(e["name"], e["args"]["value"]) for e in events if e["ph"] == "i" and e["tid"] == track]
    assert marks == [("BEFORE_PAUSE", 1), ("RESUMED", 2)]


def test_a_recording_can_be_judged_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Acknowledgements are left out of both: what was done to the machine is not in it."""
    record = tmp_path / "calls.pcapng"
    with waiting("auto", record=record) as (machine, _):
        machine.pausing.pause(ENOUGH_S)
        machine.pausing.resume(CONTINUITY_EVENT.MIGRATED)
        machine.wait()
    (life,) = read(record)
    assert sum(call.name == "continuity.acknowledge" for call in life.calls) == 3
    verdict = judge(life)
    assert verdict.difference is None
    assert {call.name for call, _ in verdict.left_out} == {"continuity.acknowledge"}
    assert main(["replay", str(record)]) == 0, capsys.readouterr().err


def test_a_plain_guest_has_it_by_acpi(tmp_path: Path) -> None:
    """The generation id where ACPI says that it is; a pause leaves it as it is."""
    plain = without_notes(GUESTS / "spin.elf", tmp_path)
    with Machine(MachineConfig(plain)) as machine:
        machine.start()

        def shown() -> bytes:
            return bytes(machine.memory.read(machine.layout.generation_gpa, GENERATION_BYTES))

        first = shown()
        assert first == machine.continuity.generation
        machine.pausing.pause()
        machine.pausing.resume()
        assert shown() == first
        machine.pausing.pause()
        machine.pausing.resume(CONTINUITY_EVENT.RESTORED)
        assert shown() == machine.continuity.generation != first


def test_a_denied_service_has_no_page(tmp_path: Path) -> None:
    with Machine(MachineConfig(GUESTS / "spin.elf", deny=frozenset(("continuity",)))) as machine:
        place = machine.layout.boot_info.index(machine.layout.time_page_gpa.to_bytes(8, "little"))
        assert machine.layout.boot_info[place + 24 : place + 32] == bytes(8)
