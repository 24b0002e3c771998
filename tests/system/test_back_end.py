"""Our guests on our own devices in other processes: what is served and who it is served to are both ours."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from paravirt import MachineConfig
from paravirt.attachments.block_served import ServedDisk
from paravirt.demo import Files, run_demo
from paravirt.machine import Machine
from tests.support.built import GUESTS
from tests.support.served_device import PATIENCE_S, InProcess, wait_for

pytestmark = pytest.mark.kvm
SLOW = 2 << 20  # bytes per second: requests are in flight most of the time


class ServedFiles(Files):
    """The demo's disks, each served by a process."""

    def __init__(self, tar: Path, report: Path) -> None:
        super().__init__(tar, report)
        sockets = tar.with_suffix(".sock"), report.with_suffix(".sock")
        self._processes = (
            InProcess(sockets[0], "block", "--disk", f"{tar},ro"),
            InProcess(sockets[1], "block", "--disk", str(report)),
        )
        self.disks = (ServedDisk("input", sockets[0], read_only=True), ServedDisk("report", sockets[1]))

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()


def test_demo(tmp_path: Path) -> None:
    rng = random.Random(12)
    tree, work = tmp_path / "tree", tmp_path / "work"
    for place in (tree, work):
        place.mkdir()
    for number in range(20):
        (tree / f"file{number}").write_bytes(rng.randbytes(rng.randrange(200_000)))
    config = MachineConfig(GUESTS / "demo.elf", timeout_s=100, vcpus=2)
    done = run_demo(config, [tree], work, lambda _: None, lambda _: None, ServedFiles)
    assert done.files == 20


def chains(machine: Machine, what: str) -> int:
    """A count of the disk."""
    return machine.devices.statistics()[0].more[what]


def found_again(machine: Machine, turn: int) -> bool:
    return chains(machine, "reconnects") > turn


@pytest.mark.parametrize("op", ["read", "write"])
def test_death_under_load(tmp_path: Path, op: str) -> None:
    """Many requests in flight each time that it is killed; the guest sees no error."""
    image, socket = tmp_path / "disk.img", tmp_path / "disk.sock"
    image.write_bytes(random.Random(5).randbytes(16 << 20))
    config = MachineConfig(
        GUESTS / "bench_block.elf",
        disks=(ServedDisk("disk", socket),),
        command_line=f"op={op} wait=event requests=3000 depth=32",
        timeout_s=100,
    )
    with InProcess(socket, "block", "--disk", f"{image},bps={SLOW}") as process, Machine(config) as machine:
        machine.start()
        for turn in range(3):
            wait_for(lambda: machine.ending or chains(machine, "in_flight"), "nothing was in flight")
            assert not machine.ending, "the guest was done too soon"
            process.kill()
            time.sleep(0.02)
            process.start()
            wait_for(partial(found_again, machine, turn), "it was not found again")
        assert machine.wait(PATIENCE_S * 2).reason == "POWEROFF"
        machine.stop()
        assert machine.statistics().devices[0].fault is None
