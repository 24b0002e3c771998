"""What is asked of machines that run, by the command line: devices that come, go and grow, and memory."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from paravirt import Disk, Machine, MachineConfig
from paravirt.cli import main
from paravirt.control.client import Remote, machines
from paravirt.control.server import Published
from paravirt.control.verbs import parse_attachment
from paravirt.errors import ParavirtError
from paravirt.vhost_user.device import ServedDevice
from tests.support.built import GUESTS
from tests.support.elf import BLOCK, OPTIONAL, SPIN, manifest, require
from tests.support.guests import write_guest
from tests.support.told import PATIENCE_S, Told
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.kvm]

MIB = 1 << 20
KEYWORDS = ServedDevice.__init__.__kwdefaults__ or {}
Command = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line: its status, and what it said on either stream."""

    def run(*argv: str) -> tuple[int, str]:
        status = main(argv)
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., Machine]]:
    """Machines that run and can be asked, until the end of the test."""
    with ExitStack() as running:

        def begin(config: MachineConfig) -> Machine:
            before = len(machines())
            machine = running.enter_context(Machine(config))
            running.enter_context(Published(machine))
            machine.start()
            wait_for(lambda: len(machines()) > before, "it was not published")
            return machine

        yield begin


def spinning(tmp_path: Path, **options: Any) -> MachineConfig:
    """A guest that knows the disks `first` and `late`, and does nothing about them."""
    notes = [require(), manifest((BLOCK, OPTIONAL, "first"), (BLOCK, OPTIONAL, "late"))]
    return MachineConfig(write_guest(tmp_path / "spin", SPIN, b"", notes), name="spin", **options)


def disk(path: Path) -> Path:
    path.write_bytes(bytes(MIB))
    return path


def test_a_disk_comes_and_goes(start: Callable[..., Machine], command: Command, tmp_path: Path) -> None:
    """Its path is relative to who asks."""
    disk(tmp_path / "late.img")
    told = Told()
    machine = start(MachineConfig(GUESTS / "hotplug.elf", console=told, name="guest"))
    for turn in range(2):
        told.wait(f"waits {turn}".encode())
        assert command("device", "list", "guest") == (0, "the machine 'guest' has no devices\n")
        assert command("device", "add", "guest", "--disk", "late=late.img") == (0, "")
        told.wait(b"in use")
        assert command("device", "list", str(os.getpid())) == (0, "late  disk\n")
        told.text.clear()
        assert command("device", "remove", machine.config.uuid.hex()[:8], "late", "--timeout", "60") == (0, "")
    assert machine.wait(PATIENCE_S).status == 0


def test_a_guest_that_keeps_its_disk(start: Callable[..., Machine], command: Command, tmp_path: Path) -> None:
    config = MachineConfig(GUESTS / "growing.elf", disks=(Disk("data", disk(tmp_path / "data")),), name="guest")
    told = Told()
    start(config.replace(console=told))
    told.wait(b"has 2048 sectors")
    status, said = command("device", "remove", "guest", "data", "--timeout", "0.3")
    assert status == 124
    assert "the guest has not given 'data' back within 0.3 s; it was asked to" in said
    assert json.loads(command("device", "list", "guest", "--json")[1]) == [
        {"name": "data", "kind": "disk", "leaving": True}
    ]


@pytest.mark.parametrize("by_owner", [False, True])
def test_a_disk_grows(start: Callable[..., Machine], command: Command, tmp_path: Path, by_owner: bool) -> None:
    path = disk(tmp_path / "data")
    told = Told()
    machine = start(MachineConfig(GUESTS / "growing.elf", disks=(Disk("data", path),), console=told, name="guest"))
    told.wait(b"has 2048 sectors")
    if by_owner:
        os.truncate(path, 2 * MIB)
    assert command("device", "grow", "guest", "data", *([] if by_owner else ["2M"])) == (0, "data: 2M\n")
    told.wait(b"has 4096 sectors")
    assert machine.wait(PATIENCE_S).status == 0


def test_memory_is_asked_for(start: Callable[..., Machine], command: Command) -> None:
    told = Told()
    machine = start(MachineConfig(GUESTS / "balloon.elf", memory_bytes=32 * MIB, console=told, name="guest"))
    told.wait(b"touched")
    status, said = command("balloon", "guest", "8M")
    assert status == 0
    assert said.startswith("asked for 8M, given ")
    given = {"target_bytes": 8 * MIB, "balloon_bytes": 8 * MIB}
    wait_for(lambda: json.loads(command("balloon", "guest", "--json")[1]) == given, "it was not given")
    command("balloon", "guest", "0")
    assert machine.wait(PATIENCE_S).status == 0


def test_a_machine_is_paused(start: Callable[..., Machine], command: Command, tmp_path: Path) -> None:
    told = Told()
    start(MachineConfig(GUESTS / "continuity.elf", console=told, name="guest"))
    start(spinning(tmp_path))
    told.wait(b"# waits")
    status, said = command("pause", "guest", "--timeout", "30")
    assert status == 0
    assert re.fullmatch(r"guest: paused; the guest was quiet after \d+\.\d ms\n", said)
    assert command("pause", "spin") == (0, "spin: paused; the guest has not asked to be told\n")
    assert command("pause", "spin") == (2, "paravirt: the machine 'spin' is paused already; let it go on first\n")
    assert command("balloon", "spin")[0] == 0, "others are answered meanwhile"
    assert all(each["paused"] for each in json.loads(command("top", "--json")[1]))
    assert len(re.findall(r"^\w+ +\d+ +paused ", command("top", "--looks", "1")[1], re.MULTILINE)) == 2
    status, said = command("resume", "guest", "--as", "cloned")
    assert status == 0
    assert re.fullmatch(r"guest: goes on after \d+\.\d{3} s\n", said)
    told.wait(b"event CLONED 2")
    assert json.loads(command("resume", "spin", "--json")[1])["missed_ns"] > 0
    assert not any(each["paused"] for each in json.loads(command("top", "--json")[1]))


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (("device", "list", "--", "----"), 2, "no machine '----' of this user's runs"),
        (("device", "list", "other"), 2, "no machine 'other' of this user's runs, there is spin; see paravirt top"),
        (("device", "add", "spin"), 2, "nothing is to be attached; give --disk, --net, --vsock"),
        (("device", "add", "spin", "--disk", "late"), 2, "'late' is not a disk; write NAME=PATH"),
        (("device", "add", "spin", "--disk", "late=none"), 32, "none"),
        (("device", "add", "spin", "--disk", "first=image"), 2, "the machine has a disk 'first'; let it leave first"),
        (("device", "add", "spin", "--disk", "other=image"), 31, "other"),
        (("device", "add", "spin", "--net", "late"), 31, "late"),
        (("device", "add", "spin", "--net", "late=fd:1"), 2, "a descriptor is its process's own"),
        (("device", "add", "spin", "--vsock", "late=x,cid=1"), 2, "cid must be from 3"),
        (("device", "remove", "spin", "late"), 2, "the machine has no device 'late' that could leave"),
        (("device", "remove", "spin", "first", "--timeout", "-1"), 2, "a time-out of -1 s"),
        (("device", "grow", "spin", "late"), 2, "the machine has no disk 'late' whose file this host serves"),
        (("device", "grow", "spin", "first", "x"), 2, "'x' is not a size"),
        (("device", "grow", "spin", "first", "1K"), 2, "under a guest it only grows"),
        (("device", "link", "spin", "first", "down"), 2, "the machine has no network 'first' whose frames this host"),
        (("device", "link", "spin", "first", "sideways"), 2, "invalid choice: 'sideways'"),
        (("balloon", "spin", "1T"), 2, "at most the guest's 128M"),
        (("pause", "spin", "--timeout", "nan"), 2, "a time-out of nan s: a guest is waited for from 0 to 30 s"),
        (("resume", "spin"), 2, "the machine 'spin' is not paused"),
        (("resume", "spin", "--as", "new"), 2, "invalid choice: 'new'"),
        (("balloon", "spin", "1"), 2, "must be whole pages"),
        (("balloon", "spin", "99999999T"), 2, "as a number of bytes"),
    ],
)
def test_bad_input(
    start: Callable[..., Machine],
    command: Command,
    tmp_path: Path,
    argv: tuple[str, ...],
    status: int,
    words: str,
) -> None:
    """One line, the status that the same has at the start of a machine, and a machine that runs on."""
    disk(tmp_path / "image")
    start(spinning(tmp_path, disks=(Disk("first", disk(tmp_path / "first")),)))
    got, said = command(*argv)
    assert (got, said.count("\n")) == (status, 1)
    assert words in said
    assert command("device", "list", "spin") == (0, "first  disk\n")


@pytest.fixture
def hangs(tmp_path: Path) -> Iterator[socket.socket]:
    """At ``hangs`` a program listens that takes connections and never says a word."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "hangs"))
        listening.listen()
        listening.settimeout(PATIENCE_S)
        yield listening


@pytest.mark.parametrize("by", ["end of the context", "stop"])
def test_a_device_whose_program_hangs_holds_nobody(
    start: Callable[..., Machine],
    command: Command,
    tmp_path: Path,
    hangs: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    """Others are answered meanwhile, the machine ends, and so does the wait."""
    monkeypatch.setattr(ServedDevice.__init__, "__kwdefaults__", {**KEYWORDS, "reply_s": 2 * PATIENCE_S})
    refused: list[ParavirtError] = []

    def add() -> None:
        try:
            Remote("spin").ask("device add", kind="disk", text="late=vhost:hangs", directory=str(tmp_path))
        except ParavirtError as error:
            refused.append(error)

    with ExitStack() as running:
        machine = running.enter_context(Machine(spinning(tmp_path)))
        running.enter_context(Published(machine))
        machine.start()
        wait_for(machines, "it was not published")
        adding = threading.Thread(target=add)
        adding.start()
        peer, _ = hangs.accept()
        with peer:
            began = time.monotonic()
            assert command("device", "list", "spin") == (0, "the machine 'spin' has no devices\n")
            assert (
                "the machine has a disk 'late'; let it leave first"
                in command("device", "add", "spin", "--disk", "late=image")[1]
            )
            assert command("balloon", "spin") == (0, "asked for 0, given 0\n")
            if by == "stop":
                machine.stop()
            running.close()
            adding.join()
            assert time.monotonic() - began < PATIENCE_S
    assert len(refused) == 1
    assert "the machine ended before the disk 'late' was there" in str(refused[0])


def test_machines_of_one_name(start: Callable[..., Machine], command: Command, tmp_path: Path) -> None:
    both = [start(spinning(tmp_path)) for _ in range(2)]
    status, said = command("balloon", "spin")
    assert status == 2
    assert "2 machines are 'spin'; name one by the beginning of its UUID: " in said
    for machine in both:
        uuid = machine.config.uuid.hex()
        assert uuid[:8] in said
        assert command("balloon", uuid.upper()) == (0, "asked for 0, given 0\n")
        assert command("balloon", uuid) == (0, "asked for 0, given 0\n")


NO_REQUEST = "this is no request"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", NO_REQUEST),
        (b"\n", NO_REQUEST),
        (b"{}\n", NO_REQUEST),
        (b"[]\n", NO_REQUEST),
        (b'{"verb": 3}\n', NO_REQUEST),
        (b"\xff\n", NO_REQUEST),
        (b"[" * 60000 + b"\n", NO_REQUEST),
        (b'"' + b"x" * 65536 + b'"\n', NO_REQUEST),
        (b'{"verb": "fly"}\n', "does not know how to 'fly'; there are statistics, "),
        (b'{"verb": "device add", "kind": "pmem", "text": "a=b", "directory": "/"}\n', "'pmem' does not arrive"),
        (b'{"verb": "device add", "kind": "disk", "text": 3}\n', "device add needs 'text', a text"),
        (b'{"verb": "device add", "kind": "disk", "text": "a=b\\u0000"}\n', "which no file can be called"),
        (b'{"verb": "device add", "kind": "disk", "text": "a=\\ud800"}\n', "which no file can be called"),
        (b'{"verb": "device remove"}\n', "device remove needs 'name', a text"),
        (b'{"verb": "device grow", "name": "a", "size_bytes": "1M"}\n', "as a number of bytes, not '1M'"),
        (b'{"verb": "device link", "name": "a", "up": 1}\n', "takes 'up' as true or false, not 1"),
        (b'{"verb": "pause"}\n', "pause takes 'timeout_s' as a number of seconds, not None"),
        (b'{"verb": "pause", "timeout_s": NaN}\n', "a time-out of nan s"),
        (
            b'{"verb": "resume", "event": 3}\n',
            "resume takes 'event' as one of resumed, restored, cloned, migrated, not 3",
        ),
        (b'{"verb": "balloon", "target_bytes": -1}\n', "as a number of bytes, not -1"),
        (b'{"verb": "balloon", "target_bytes": true}\n', "as a number of bytes, not True"),
    ],
)
def test_what_is_no_request(start: Callable[..., Machine], tmp_path: Path, said: bytes, words: str) -> None:
    start(spinning(tmp_path))
    ((path, _),) = machines()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(PATIENCE_S)
        asking.connect(str(path))
        asking.sendall(said)
        asking.shutdown(socket.SHUT_WR)
        answer = b""
        while part := asking.recv(65536):
            answer += part
    error = json.loads(answer)["error"]
    assert error["type"] == "ConfigError"
    assert words in error["text"]
    assert len(machines()) == 1


def test_who_never_ends_a_request_is_not_waited_for(start: Callable[..., Machine], tmp_path: Path) -> None:
    """However often something comes: others wait, and the machine's end."""
    start(spinning(tmp_path))
    ((path, _),) = machines()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(PATIENCE_S)
        asking.connect(str(path))
        until = time.monotonic() + PATIENCE_S
        with pytest.raises(BrokenPipeError):
            while time.monotonic() < until:
                asking.send(b"x")
                time.sleep(0.1)
    assert len(machines()) == 1


def test_many_ask_at_once(start: Callable[..., Machine], command: Command, tmp_path: Path) -> None:
    """Who waits for its turn finds the machine: it is there."""
    start(spinning(tmp_path))
    ((path, _),) = machines()
    with ExitStack() as waiting:
        for _ in range(32):
            asking = waiting.enter_context(socket.socket(socket.AF_UNIX))
            asking.setblocking(False)
            asking.connect(str(path))
            asking.shutdown(socket.SHUT_WR)
        assert command("balloon", "spin") == (0, "asked for 0, given 0\n")


def test_who_asks_from_a_directory_that_is_gone(
    start: Callable[..., Machine], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(spinning(tmp_path))
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    status, said = command("device", "add", "spin", "--disk", "late=x")
    monkeypatch.chdir(tmp_path)
    assert (status, said.count("\n")) == (2, 1)
    assert "the current directory is gone" in said


def test_a_bug_of_ours_does_not_end_the_machine(
    start: Callable[..., Machine], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(spinning(tmp_path))
    monkeypatch.setattr(Machine, "balloon", lambda *_: 1 / 0)
    status, said = command("balloon", "spin", "0")
    assert status == 70
    assert "internal error: ZeroDivisionError" in said
    assert command("device", "list", "spin")[0] == 0


def test_a_machine_that_ends_meanwhile(
    start: Callable[..., Machine], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(spinning(tmp_path))
    found = machines()
    found[0][0].rename(tmp_path / "gone")
    monkeypatch.setattr("paravirt.control.client.machines", lambda: found)
    status, said = command("balloon", "spin")
    assert status == 45
    assert "the machine 'spin' does not answer: " in said
    (tmp_path / "gone").rename(found[0][0])


@pytest.mark.parametrize(
    ("kind", "text", "there"),
    [
        ("disk", "a=b/c,ro", "a=/x/b/c,ro"),
        ("disk", "a=/b", "a=/b"),
        ("disk", "a=vhost:b", "a=vhost:/x/b"),
        ("vsock", "a=b", "a=/x/b"),
        ("net", "a=vhost:b,mac=02:00:00:00:00:01", "a=vhost:/x/b,mac=02:00:00:00:00:01"),
        ("net", "a=tap:b,mac=02:00:00:00:00:01", "a=tap:b,mac=02:00:00:00:00:01"),
    ],
)
def test_paths_are_seen_from_who_asks(kind: str, text: str, there: str) -> None:
    assert parse_attachment(kind, text).seen_from(Path("/x")) == parse_attachment(kind, there)
