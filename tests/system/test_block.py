"""Guests on disks as they come: queues for several vCPUs, polled and by events, limits, every way to the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from paravirt import Machine, MachineConfig
from paravirt.attachments.block import Disk
from paravirt.boot.bundled import find_image
from paravirt.outcome import DeviceStatistics

pytestmark = pytest.mark.kvm
TIMEOUT_S = 100
MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(4 * MIB))
    return path


def run(guest: str, disk: Disk, words: str = "", vcpus: int = 1, **more: Any) -> tuple[str, DeviceStatistics]:
    """What it said and what its disk counted; it ended well."""
    console = bytearray()
    config = MachineConfig(
        find_image(guest),
        memory_bytes=32 * MIB,
        vcpus=vcpus,
        disks=(disk,),
        command_line=words,
        console=console.extend,
        timeout_s=TIMEOUT_S,
        **more,
    )
    with Machine(config) as machine:
        outcome = machine.run()
        assert (outcome.reason, outcome.status) == ("POWEROFF", 0), console.decode()
        return console.decode(), next(d for d in machine.statistics().devices if d.name == disk.name)


def test_the_driver_with_a_queue_for_each_vcpu(path: Path) -> None:
    said, _ = run("devices", Disk("scratch", path), vcpus=2)
    assert said.count(" - several queues") == 13
    assert "not ok" not in said


@pytest.mark.parametrize("transport", ["calls", "mmio"])
@pytest.mark.parametrize("words", ["", "virtio.wait=poll"])
def test_the_driver_switches_the_cache(path: Path, transport: str, words: str) -> None:
    """And goes through all that a disk can, asleep and looking."""
    said, _ = run("devices", Disk("scratch", path), words, transport=transport)
    assert "not ok" not in said
    assert said.count(" - cache: ") == 6


def test_a_disk_that_only_writes_through_is_switched_too(path: Path) -> None:
    said, _ = run("devices", Disk("scratch", path, writethrough=True))
    assert said.count(" - cache: ") == 6
    assert "not ok" not in said


@pytest.mark.parametrize("transport", ["calls", "mmio"])
@pytest.mark.parametrize("wait", ["poll", "event"])
def test_every_vcpu_works_on_its_own_queue(path: Path, transport: str, wait: str) -> None:
    words = f"requests=900 depth=8 queues=3 wait={wait} op=write"
    said, disk = run("bench_block", Disk("disk", path), words, vcpus=3, transport=transport)
    assert "bench: requests=900 bytes=3686400 " in said
    assert disk.more["written_bytes"] == (900 + 3 * 31) * 4096
    assert disk.more["errors"] == 0


def test_a_sequential_guest_is_merged(path: Path) -> None:
    words = "requests=2000 depth=32 order=sequential"
    _, disk = run("bench_block", Disk("disk", path, read_only=True), words, io_engine="uring")
    assert disk.more["read_bytes"] == 2201 * 4096
    assert disk.more["merges"] > 0


def test_what_the_page_cache_has_is_copied(path: Path) -> None:
    _, disk = run("bench_block", Disk("disk", path, read_only=True), "requests=2000 depth=32")
    assert disk.more["read_bytes"] == 2201 * 4096
    assert disk.more["cached"] > 0


def test_fewer_queues_than_the_guest_wants(path: Path) -> None:
    console = bytearray()
    config = MachineConfig(
        find_image("bench_block"),
        vcpus=2,
        disks=(Disk("disk", path, queues=1),),
        command_line="queues=2",
        console=console.extend,
        timeout_s=TIMEOUT_S,
    )
    with Machine(config) as machine:
        assert machine.run().reason == "FAILURE"
    assert b"the disk has 1 queues, the machine 2 vCPUs" in console


@pytest.mark.parametrize("options", [{"direct": True}, {"writethrough": True}, {"operations_per_second": 2000}])
def test_every_kind_of_disk_serves_a_guest(path: Path, options: dict[str, Any]) -> None:
    disk = Disk("disk", path, **options)
    if "direct" in options:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
        except OSError:
            pytest.skip("the file system has no O_DIRECT")
    _, counts = run("bench_block", disk, "requests=300 depth=8 op=write")
    assert counts.more["requests"] == 331
    assert counts.more["errors"] == 0
    assert (counts.more["throttles"] > 0) == ("operations_per_second" in options)
