"""Machines that are published, and `paravirt top`, which reads them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paravirt import Disk, Machine, MachineConfig
from paravirt.cli import main
from paravirt.cli.top import _each, _fitting
from paravirt.control import place
from paravirt.control.server import Published
from paravirt.top import names, openmetrics, rates, read_all
from tests.support.elf import BLOCK, SPIN, manifest, require
from tests.support.guests import say, write_guest
from tests.support.waiting import wait_for

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "paravirt"


def machines(count: int) -> list[dict[str, Any]]:
    """The machines, once there are so many."""
    found: list[dict[str, Any]] = []

    def are_there() -> bool:
        found[:] = read_all()
        return len(found) == count

    wait_for(are_there, f"not {count} machines")
    return found


def once_it_spoke() -> dict[str, Any]:
    """Statistics of the one machine, whose guest has said its word."""
    wait_for(lambda: machines(1)[0]["statistics"]["console_bytes"] == 5, "it did not speak")
    return dict(machines(1)[0]["statistics"])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Machine]:
    """A published machine with a disk that nobody uses; its guest has said a word and spins."""
    (tmp_path / "disk").write_bytes(bytes(4096))
    image = write_guest(tmp_path / "spin", say("hello") + SPIN, b"hello", [require(), manifest((BLOCK, 0, "disk"))])
    config = MachineConfig(image, disks=(Disk("disk", tmp_path / "disk"),), vcpus=2, name="watched")
    with Machine(config) as machine, Published(machine):
        machine.start()
        yield machine


@pytest.mark.kvm
def test_a_running_machine_says_what_it_does(running: Machine) -> None:
    (found,) = machines(1)
    assert (found["name"], found["pid"], found["uuid"]) == ("watched", os.getpid(), running.config.uuid.hex())
    statistics = once_it_spoke()
    first, second = statistics["vcpus"]
    assert (first["state"], second["state"]) == ("RUNNING", "STOPPED")
    assert first["exits_for"] == {"trap": 1, "doorbell": 0, "port": 0, "mmio": 0, "other": 0}
    (disk,) = statistics["devices"]
    assert (disk["name"], disk["more"]["requests"]) == ("disk", 0)
    assert disk["queues"][0] == {"size": 0, "in_flight": 0}


@pytest.mark.kvm
def test_a_machine_that_was_stopped_can_still_be_asked(running: Machine, runtime: Path) -> None:
    once_it_spoke()
    assert len(list(runtime.iterdir())) == 1
    running.stop()
    assert machines(1)[0]["statistics"]["vcpus"][0]["calls"] == 1


@pytest.mark.kvm
def test_nothing_is_left_of_a_machine_that_ended(tmp_path: Path, runtime: Path) -> None:
    with Machine(MachineConfig(write_guest(tmp_path / "spin", SPIN))) as machine:
        with Published(machine):
            machine.start()
            machines(1)
        assert list(runtime.iterdir()) == []
        with Published(machine):
            pass  # shorter than it takes to be published
        assert list(runtime.iterdir()) == []


@pytest.mark.kvm
def test_a_machine_runs_where_it_cannot_be_published(tmp_path: Path, runtime: Path) -> None:
    """The place is not this user's alone: whoever may write there could stand in for the machine."""
    runtime.mkdir(mode=0o755)
    runtime.chmod(0o755)
    published = Published(Machine(MachineConfig(write_guest(tmp_path / "spin", SPIN))))
    with published.machine, published:
        published.machine.start()
        published._thread.join(PATIENCE_S)
        assert not published._thread.is_alive()
    assert list(runtime.iterdir()) == []


@pytest.mark.kvm
def test_a_reader_that_reads_nothing_does_not_keep_it(running: Machine, runtime: Path) -> None:
    machines(1)
    (path,) = runtime.iterdir()
    with socket.socket(socket.AF_UNIX) as idle:
        idle.connect(str(path))
        assert len(machines(1)) == 1


@pytest.mark.kvm
def test_a_reader_that_comes_too_early_does_not_remove_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses nobody who finds it: what refuses is taken for a killed process's."""
    listen = socket.socket.listen

    def after_a_look(server: socket.socket, backlog: int) -> None:
        assert read_all() == []
        listen(server, backlog)

    monkeypatch.setattr(socket.socket, "listen", after_a_look)
    with Machine(MachineConfig(write_guest(tmp_path / "spin", SPIN))) as machine, Published(machine):
        machine.start()
        machines(1)


def test_what_a_killed_process_left_is_removed(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(runtime / "1-1.sock"))
        server.listen()
    assert read_all() == []
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("how", ["a link", "of others too", "a file"])
def test_what_others_may_have_put_there_is_not_looked_at(
    tmp_path: Path, runtime: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens at a file: taken for a killed process's it would be removed, in whatever directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if how == "a link":
        runtime.symlink_to(elsewhere)
    elif how == "of others too":
        elsewhere.rename(runtime)
        runtime.chmod(0o770)
    else:
        runtime.write_bytes(b"")
    if how != "a file":
        (runtime / "precious.sock").write_bytes(b"")
    assert main(["top", "--json"]) == 45
    assert "is not this user's alone; remove it, or set XDG_RUNTIME_DIR" in capsys.readouterr().err
    assert how == "a file" or (runtime / "precious.sock").exists()


def test_a_machine_that_is_busy(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs: who looks for it is told that it may be the one."""
    monkeypatch.setattr("paravirt.control.client.READ_S", 0.1)
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(runtime / "4711-1.sock"))
        server.listen()
        assert read_all() == []
        assert main(["balloon", "guest"]) == 2
    assert "there is none; too busy to answer: process 4711, ask again; see" in capsys.readouterr().err


def test_what_is_no_socket_stays(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    (runtime / "precious.sock").write_bytes(b"")
    assert read_all() == []
    assert (runtime / "precious.sock").exists()


def test_without_a_runtime_directory_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert place().name == f"paravirt-{os.getuid()}"
    assert place().is_absolute()


def test_rates() -> None:
    before = {"a": 10, "b": [{"c": 1}, {"c": 2}], "name": "x"}
    after = {"a": 30, "b": [{"c": 1}, {"c": 6}], "name": "x", "new": 4}
    assert rates(before, after, 2.0) == {"a": 10, "b": [{"c": 0}, {"c": 2}], "name": "x", "new": 2}
    assert rates(30, 10, 2.0) == 5, "a machine that was reset counts from zero"


MACHINE: dict[str, Any] = {
    "name": 'a"b\n',
    "pid": 7,
    "uuid": "00",
    "accelerator": "kvm",
    "memory_bytes": 4 << 20,
    "paused": True,
    "statistics": {
        "memory": {"resident_bytes": 4096},
        "console_bytes": 5,
        "trace_marks": 0,
        "run_ns": 9,
        "continuity": {"events": 2, "acknowledged": 1, "last_ns": 5, "longest_ns": 5},
        "vcpus": [
            {
                "calls": 3, "ring_calls": 1, "upcalls": 2, "exits": 4, "state": "BLOCKED",
                "exits_for": {"trap": 3, "other": 1},
            }
        ],
        "devices": [
            {
                "name": "disk", "type": 2, "interrupts": 1, "doorbells": 0, "fault": None,
                "more": {"requests": 6, "in_flight": 2},
                "queues": [{"size": 128, "in_flight": 3}],
            }
        ],
    },
}  # fmt: skip


def test_openmetrics() -> None:
    """Families are not torn apart, and what a name holds cannot break the format."""
    lines = openmetrics([MACHINE, {**MACHINE, "name": "other"}], pytest.fail).splitlines()
    assert lines[-1] == "# EOF"
    family = ""
    seen = []
    for line in lines[:-1]:
        if line.startswith("# TYPE "):
            family = line.split()[2]
            assert family not in seen
            seen.append(family)
        else:
            assert line.startswith((f"{family}{{", f"{family}_total{{"))
    own = r'machine="a\"b\n",pid="7",uuid="00"'
    assert f'paravirt_vcpu_exits_total{{{own},vcpu="0",reason="trap"}} 3' in lines
    assert f"paravirt_continuity_events_total{{{own}}} 2" in lines
    assert f"paravirt_paused{{{own}}} 1" in lines
    assert f'paravirt_queue_in_flight{{{own},device="disk",type="2",queue="0"}} 3' in lines
    assert f'paravirt_device_in_flight{{{own},device="disk",type="2"}} 2' in lines, "it goes down, too"
    assert f'paravirt_device_requests_total{{{own},device="disk",type="2"}} 6' in lines


@pytest.mark.parametrize(
    "statistics",
    [
        None,
        {},
        {"cpus": []},
        {**MACHINE["statistics"], "vcpus": [{"calls": "3"}]},
        {**MACHINE["statistics"], "devices": 1},
    ],
)
def test_a_machine_of_another_version(
    statistics: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, and the others are shown."""
    seen = [{**MACHINE, "name": "ours", "uuid": "01"}, {**MACHINE, "name": "new", "pid": 9, "statistics": statistics}]
    monkeypatch.setattr("paravirt.top.read_all", lambda: seen)
    said = "the machine 'new' (process 9) is run by another version of paravirt"
    assert main(["top", "--openmetrics"]) == 0
    out, err = capsys.readouterr()
    assert 'machine="ours"' in out
    assert 'machine="new"' not in out
    assert err.startswith(f"paravirt: {said}")
    assert main(["top", "--interval", "0.1", "--looks", "1"]) == 0
    shown = capsys.readouterr().out
    assert said in shown
    assert shown.count("BLOCKED".lower()) == 1
    assert main(["top", "--json"]) == 0


@pytest.mark.parametrize("answer", [{}, [], "text", {"name": "a", "pid": 1}])
def test_what_is_no_machines_answer(answer: object, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paravirt.control.client.ask", lambda *_: answer)
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(runtime / "1-2.sock"))
        assert read_all() == []


@pytest.mark.kvm
def test_the_command(running: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machines(1)
    assert main(["top", "--interval", "0.1", "--looks", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("accelerator") == 2
    assert "watched  1     stopped" in shown
    assert "disk" in shown
    assert main(["top", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "watched"
    assert main(["top", "--openmetrics"]) == 0
    assert capsys.readouterr().out.endswith("# EOF\n")


def test_the_command_without_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--interval", "0.1", "--looks", "1"]) == 0
    assert capsys.readouterr().out == "none of this user's machines runs\n\n"


@pytest.mark.parametrize(
    "wrong, text",
    [(["--interval", "0"], "an interval of 0 s: it must be from 0.1 to 3600"), (["--looks", "0"], "at least 1")],
)
def test_bad_input(wrong: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", *wrong]) == 2
    assert text in capsys.readouterr().err


def test_gauges_have_no_rate() -> None:
    """What goes down is as much as it is, not what it has grown by."""
    before, after = {"actual_bytes": 300, "requests": 10}, {"actual_bytes": 100, "requests": 14}
    assert rates({"more": before}, {"more": after}, 2.0) == {"more": {"actual_bytes": 100, "requests": 2}}


def test_machines_of_one_name_are_told_apart() -> None:
    one, two = {"name": "a", "pid": 1, "uuid": "1234567890"}, {"name": "a", "pid": 2, "uuid": "abcdefghij"}
    assert names([one, two | {"name": "b"}]) == ["a", "b"]
    assert names([one, two]) == ["a:1", "a:2"]
    assert names([one, two | {"pid": 1}]) == ["a:12345678", "a:abcdefgh"]
    assert names([]) == []


@pytest.mark.kvm
def test_no_series_has_two_values(running: Machine) -> None:
    """Interrupts are counted by the device and by its back end."""
    once_it_spoke()
    lines = [
        line.rpartition(" ")[0]
        for line in openmetrics(read_all(), pytest.fail).splitlines()
        if not line.startswith("#")
    ]
    assert len(set(lines)) == len(lines) > 20
    assert running.statistics().devices[0].more["interrupts"] == 0


def test_times_are_parts_of_a_cpu() -> None:
    assert (
        _each({"requests": 1500.0, "errors": 0, "poll_ns": 62e6, "sync_ns": 2e9}) == "requests 1.5k poll 6% sync 200%"
    )


def test_a_terminal_is_not_filled_beyond_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "5")
    monkeypatch.setenv("LINES", "3")
    assert _fitting("1234567\n12\n12\n") == "12345\n12"
