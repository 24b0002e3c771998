"""A machine that is stopped or interrupted at awkward moments; conftest looks for what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paravirt import Budgets, Disk, Machine, MachineConfig
from paravirt.attachments.block_served import ServedDisk
from paravirt.attachments.net import Net
from paravirt.errors import GuestReset, GuestTimeout, HostCallFailed
from paravirt.interrupts import Held, heard
from paravirt.vhost_user.errors import PeerGone
from tests.support.elf import BLOCK, NET, OPTIONAL, manifest, require
from tests.support.guests import RESET, call, say, write_guest
from tests.support.threads import refuse_thread

pytestmark = [pytest.mark.kvm]


def spinning(tmp_path: Path, **options: Any) -> MachineConfig:
    return MachineConfig(write_guest(tmp_path / "spin", b""), **options)


def interrupting(act: Callable[..., Any]) -> Callable[..., Any]:
    """`act`, with SIGINT as soon as it is done, before its result has an owner."""

    def wrapped(*args: Any, **named: Any) -> Any:
        result = act(*args, **named)
        os.kill(os.getpid(), signal.SIGINT)
        return result

    return wrapped


@pytest.mark.parametrize("victim", ["timers", "vcpu0", "vcpu1"])
def test_sigint_while_threads_are_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == victim:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), Machine(spinning(tmp_path, vcpus=2)) as machine:
        machine.run()


@pytest.mark.parametrize("step", ["memfd_create", "eventfd"])
def test_sigint_while_a_machine_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    monkeypatch.setattr(os, step, interrupting(getattr(os, step)))
    image = write_guest(tmp_path / "guest", b"", notes=[require(), manifest((BLOCK, 0, "disk"))])
    with pytest.raises(KeyboardInterrupt), Machine(MachineConfig(image, disks=(Disk("disk", disk),))):
        pytest.fail("it was made in spite of SIGINT")


def test_a_second_signal_is_heard_at_once() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), Held():
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("after the first")
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("after the second")
    assert steps == ["after the first"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupt_me() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_step_that_may_be_cut() -> None:
    """Inside of it signals are heard at once, one that came before it too; after it they wait again."""
    steps = []
    with pytest.raises(KeyboardInterrupt), Held():
        with pytest.raises(KeyboardInterrupt), heard():
            interrupt_me()
            steps.append("after the first")
        interrupt_me()
        steps.append("after the second")
        with pytest.raises(KeyboardInterrupt), heard():
            steps.append("after it was waited for")
        interrupt_me()
        steps.append("after the third")
    assert steps == ["after the second", "after the third"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigint_while_a_peer_hangs(tmp_path: Path) -> None:
    """A machine that is made waits for the program that serves its disk, not for longer than its user does."""
    image = write_guest(tmp_path / "guest", b"", notes=[require(), manifest((BLOCK, 0, "disk"))])
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(os.fspath(tmp_path / "mute"))
        mute.listen()

        def wait() -> None:
            connection, _ = mute.accept()
            with connection:
                connection.recv(1)  # it has asked, and waits
                interrupt_me()
                connection.recv(1)

        waiting = threading.Thread(target=wait)
        waiting.start()
        config = MachineConfig(image, disks=(ServedDisk("disk", tmp_path / "mute"),))
        with pytest.raises(KeyboardInterrupt) as caught, Machine(config):
            pytest.fail("it was made in spite of SIGINT")
        waiting.join()
    assert not isinstance(caught.value.__context__, PeerGone), "only once its answer was given up"


def test_stop_while_a_reset_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine stays stopped: the life that is being made does not begin."""
    machine = Machine(MachineConfig(write_guest(tmp_path / "again", call(RESET)), timeout_s=60))
    build, stoppers = machine._build, []

    def rebuild() -> None:
        stoppers.append(threading.Thread(target=machine.stop))
        stoppers[-1].start()
        time.sleep(0.05)
        build()

    with machine:
        monkeypatch.setattr(machine, "_build", rebuild)
        assert machine.run().kind == "stopped"
        stoppers[0].join()
    assert len(stoppers) == 1


def test_stops_from_several_threads(tmp_path: Path) -> None:
    for _ in range(20):
        with Machine(spinning(tmp_path, vcpus=2)) as machine:
            machine.start()
            threads = [threading.Thread(target=machine.stop) for _ in range(4)]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join()


def test_a_thread_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_thread(monkeypatch, "vcpu1")
    with Machine(spinning(tmp_path, vcpus=3)) as machine, pytest.raises(HostCallFailed, match="ulimit -u"):
        machine.run()


def test_wait_for_a_machine_without_a_time_out(tmp_path: Path) -> None:
    with Machine(spinning(tmp_path)) as machine:
        machine.start()
        with pytest.raises(GuestTimeout, match=r"within 0\.1 s"):
            machine.wait(0.1)


def test_a_reset_does_not_renew_a_budget(tmp_path: Path) -> None:
    said = bytearray()
    image = write_guest(tmp_path / "again", say("x" * 1000) + call(RESET), b"x" * 1000)
    config = MachineConfig(image, console=said.extend, budgets=Budgets(console_bytes=4500), timeout_s=60)
    with Machine(config) as machine, pytest.raises(GuestReset):
        machine.run()
    assert len(said) == 4000


@pytest.mark.parametrize("option", ["trace", "record", "capture"])
def test_sigint_while_nobody_reads_the_pipe(tmp_path: Path, option: str) -> None:
    """Once is enough, before the wait or in it; a reader comes late for a build that does not hear it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    asks = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    reads = threading.Timer(10, lambda: os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)))
    image = write_guest(tmp_path / "guest", b"", notes=[require(), manifest((NET, OPTIONAL, "wire"))])
    given: dict[str, Any] = {"devices": (Net("wire", "loop", capture=pipe),)} if option == "capture" else {option: pipe}
    machine = Machine(MachineConfig(image, **given))
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            reads.start()
            asks.start()
            machine.prepare()
        assert time.monotonic() - began < 10
    finally:
        reads.cancel()
        machine.close()
