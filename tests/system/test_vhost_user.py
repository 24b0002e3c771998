"""The main job with disks that qemu-storage-daemon serves (qcow2), also when it is killed in the middle."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from paravirt import MachineConfig
from paravirt.cli import main
from paravirt.demo import Qcow2Files, Verified, run_demo
from paravirt.machine import Machine
from tests.support.built import GUESTS

pytestmark = [pytest.mark.kvm]
PATIENCE_S = 30
SLOW = 3 << 20  # bytes per second: requests are in flight most of the time


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = random.Random(11)
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(40):
        (root / f"file{number}").write_bytes(rng.randbytes(rng.randrange(200_000)))
    return root


def wait_for(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.002)


class Assassin:
    """Kills the daemon whenever requests are in flight, and starts it again a little later."""

    def __init__(self, times: int) -> None:
        self._times = times
        self.killed = 0
        self.error: BaseException | None = None
        self._storage: Qcow2Files | None = None
        self._thread = threading.Thread(target=self._work, name="assassin", daemon=True)
        self._machine: Machine | None = None

    def stored(self, tar: Path, report: Path) -> Qcow2Files:
        self._storage = Qcow2Files(tar, report, bytes_per_second=SLOW)
        return self._storage

    def made(self, machine: Machine) -> None:
        self._machine = machine
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        if self.error:
            raise self.error

    def _work(self) -> None:
        try:
            for turn in range(self._times):
                self._kill(turn)
        except BaseException as error:
            self.error = error

    def _kill(self, turn: int) -> None:
        machine, storage = self._machine, self._storage
        assert machine and storage

        def seen(what: str) -> int:
            return next(device.more[what] for device in machine.devices.statistics() if device.name == "input")

        wait_for(lambda: seen("in_flight") and seen("chains") > turn, "nothing was in flight")
        storage.daemon.kill()
        self.killed += 1
        time.sleep(0.05)
        storage.daemon.start()
        wait_for(lambda: seen("reconnects") > turn, "the device did not find its daemon again")


def demo(tree: Path, work: Path, stored: Callable[[Path, Path], Qcow2Files], **options: object) -> Verified:
    work.mkdir(exist_ok=True)
    made = options.pop("made", lambda _: None)
    config = MachineConfig(GUESTS / "demo.elf", timeout_s=100, **options)  # type: ignore[arg-type]
    return run_demo(config, [tree], work, lambda _: None, made, stored)  # type: ignore[arg-type]


@pytest.mark.parametrize("vcpus", [1, 2])
def test_demo_from_qcow2(tree: Path, tmp_path: Path, vcpus: int) -> None:
    done = demo(tree, tmp_path / "work", Qcow2Files, vcpus=vcpus)
    assert done.files == 40
    served = {device.name: device.more for device in done.outcome.statistics.devices}
    assert all(served[name]["chains"] and served[name]["calls"] for name in ("input", "report"))


@pytest.mark.parametrize("poison", [False, True], ids=["plain", "poison"])
def test_the_daemon_dies_in_the_middle(tree: Path, tmp_path: Path, poison: bool) -> None:
    """Accept: requests in flight are not lost, none is done to a buffer that the guest has back."""
    assassin = Assassin(times=3)
    done = demo(tree, tmp_path / "work", assassin.stored, made=assassin.made, vcpus=2, poison=poison)
    assassin.join()
    assert assassin.killed == 3
    assert done.files == 40
    served = {device.name: device.more for device in done.outcome.statistics.devices}
    assert served["input"]["reconnects"] == 3


def test_demo_command(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--qcow2", "--tree", str(tree), "--quiet"]) == 0
    assert "verified: 40 files" in capfd.readouterr().out
