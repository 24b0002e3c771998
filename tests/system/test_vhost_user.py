"""The main job with disks that qemu-storage-daemon serves (qcow2), also when it is killed in the middle."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from paravirt import MachineConfig
from paravirt.attachments.block_served import ServedDisk
from paravirt.cli import main
from paravirt.demo import Files, Qcow2Files, Verified, run_demo
from paravirt.machine import Machine
from paravirt.storage_daemon import Export, StorageDaemon, image_tool
from tests.support.built import GUESTS
from tests.support.vhost_peer import VhostPeer
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.kvm]
PATIENCE_S = 30
Loaded = tuple[Machine, StorageDaemon]
SLOW = 3 << 20  # bytes per second: requests are in flight most of the time


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = random.Random(11)
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(40):
        (root / f"file{number}").write_bytes(rng.randbytes(rng.randrange(200_000)))
    return root


def seen(machine: Machine, what: str) -> int:
    """A count of the first disk."""
    return machine.devices.statistics()[0].more[what]


def found_again(machine: Machine, turn: int) -> bool:
    return seen(machine, "reconnects") > turn


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

        def at_work() -> bool:
            return bool(seen(machine, "in_flight") and seen(machine, "chains") > turn)

        wait_for(at_work, "nothing was in flight")
        storage.daemon.kill()
        self.killed += 1
        time.sleep(0.05)
        storage.daemon.start()
        wait_for(partial(found_again, machine, turn), "the device did not find its daemon again")


def demo(tree: Path, work: Path, stored: Callable[[Path, Path], Files], **options: object) -> Verified:
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


def test_the_trace_shows_what_the_daemon_had(tree: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    done = demo(tree, tmp_path / "work", Qcow2Files, trace=trace)
    events = json.loads(trace.read_text())["traceEvents"]
    begins = [e for e in events if e.get("cat") == "request" and e["ph"] == "b"]
    for disk in done.outcome.statistics.devices:
        mine = {e["id"] for e in begins if e.get("args", {}).get("device") == f"disk {disk.name}"}
        engine = {e["id"] for e in begins if e["name"] == "engine"}
        assert len(mine) == disk.more["chains"] > 0
        assert mine <= engine


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


class NbdFiles(Files):
    """The same over NBD, as a remote store's: qemu-nbd serves the files, qemu-storage-daemon is its client."""

    def __init__(self, tar: Path, report: Path) -> None:
        super().__init__(tar, report)
        self._servers: list[subprocess.Popen[bytes]] = []
        exports = []
        for name, file, more in (("input", tar, ["--read-only"]), ("report", report, [])):
            server = file.with_suffix(".nbd")
            options = [f"--socket={server}", "--format=raw", "--persistent", *more]
            self._servers.append(subprocess.Popen(["qemu-nbd", *options, file]))
            wait_for(server.exists, "qemu-nbd does not listen")
            exports.append(Export(name, server, name == "input", format="nbd"))
        self.daemon = StorageDaemon(exports, tar.parent)
        self.disks = self.daemon.disks

    def __enter__(self) -> Self:
        self.daemon.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.daemon.kill()
        for server in self._servers:
            server.kill()
            server.wait()

    def reported(self) -> bytes:
        self.daemon.stop()
        for server in self._servers:
            server.terminate()
            server.wait()
        return super().reported()


def test_demo_over_nbd(tree: Path, tmp_path: Path) -> None:
    assert demo(tree, tmp_path / "work", NbdFiles).files == 40


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A qcow2 image of 16 MiB."""
    raw, image = tmp_path / "raw", tmp_path / "disk.qcow2"
    raw.write_bytes(random.Random(5).randbytes(16 << 20))
    image_tool("convert", "-O", "qcow2", raw, image)
    return image


@contextmanager
def load(disk: Path, work: Path, words: str) -> Iterator[Loaded]:
    """A guest that keeps its disk busy, and what serves it."""
    with StorageDaemon([Export("disk", disk, bytes_per_second=SLOW)], work) as daemon:
        config = MachineConfig(GUESTS / "bench_block.elf", disks=daemon.disks, command_line=words, timeout_s=100)
        with Machine(config) as machine:
            yield machine, daemon


@pytest.mark.parametrize("wait", ["poll", "event"])
def test_over_mmio(tmp_path: Path, wait: str) -> None:
    """By registers; the guest finds its disk by the serial number, which this peer may choose."""
    with VhostPeer(tmp_path / "disk.sock", bytearray(1 << 20)) as peer:
        config = MachineConfig(
            GUESTS / "bench_block.elf",
            disks=(ServedDisk("disk", peer.path),),
            transport="mmio",
            command_line=f"wait={wait} requests=500 depth=8",
            timeout_s=100,
        )
        with Machine(config) as machine:
            assert machine.run().reason == "POWEROFF"
            assert seen(machine, "chains") >= 500


@pytest.mark.parametrize("op", ["read", "write"])
def test_death_under_load(image: Path, tmp_path: Path, op: str) -> None:
    """Many requests in flight, which come back in any order, each time that it dies."""
    with load(image, tmp_path, f"op={op} wait=event requests=6000 depth=32") as (machine, daemon):
        machine.start()
        for turn in range(3):
            wait_for(lambda: machine.ending or seen(machine, "in_flight"), "nothing was in flight")
            assert not machine.ending, "the guest was done too soon"
            daemon.kill()
            time.sleep(0.02)
            daemon.start()
            wait_for(partial(found_again, machine, turn), "it was not found again")
        assert machine.wait(PATIENCE_S * 2).reason == "POWEROFF"
        machine.stop()
        assert machine.statistics().devices[0].fault is None


def test_demo_command(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--qcow2", "--tree", str(tree), "--quiet"]) == 0
    assert "verified: 40 files" in capfd.readouterr().out
