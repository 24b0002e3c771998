"""A disk's life: faults and resets, I/O in flight, start and end, batches, sleeping and waking, traces."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.devices.virtio_block import BLOCK_HEADER, BLOCK_REQUEST, BLOCK_STATUS
from hypercall_abi.virtqueue import VIRTIO_FEATURE, VIRTIO_STATUS
from paravirt._native import lib
from paravirt.config import Disk
from paravirt.devices.block import BlockDevice
from tests.support.block_driver import SECTOR, UNTOUCHED, BlockDriver, block_guest
from tests.support.fake_guest import FakeGuest, Segment
from tests.support.waiting import wait_for

MIB = 1 << 20
SIZE = 4 * MIB
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(random.Random(4).randbytes(SIZE))
    return path


def header(disk: BlockDriver, kind: int = BLOCK_REQUEST.READ, sector: int = 0) -> int:
    return disk.guest.place(BLOCK_HEADER.build({"type": kind, "priority": 0, "sector": sector}))


def broken_chains(disk: BlockDriver) -> dict[str, list[Segment]]:
    room = disk.guest.take(SECTOR)
    whole = header(disk)
    return {
        "no room for the status": [Segment(whole, 16), Segment(room, SECTOR)],
        "no header": [Segment(room, SECTOR, True)],
        "a short header": [Segment(whole, 15), Segment(room, SECTOR, True)],
    }


@pytest.mark.parametrize("what", ["no room for the status", "no header", "a short header"])
def test_broken_request(path: Path, engine: Any, what: str) -> None:
    """BLK-3: the device stops, with the rule's id; what is behind it is not touched; a reset mends it."""
    with block_guest(path, engine=engine) as disk:
        disk.driver.add(broken_chains(disk)[what])
        behind = disk.lay_out(BLOCK_REQUEST.READ, room_bytes=SECTOR)
        disk.send(behind)
        assert disk.device.wait_fault() == "BLK-3"
        time.sleep(0.01)
        assert disk.driver.collect() == {}
        assert disk.guest.read(behind.status_gpa, 1)[0] == UNTOUCHED
        again = BlockDriver(disk.device, disk.device.start()[0])
        assert again.read(0, SECTOR).status == BLOCK_STATUS.OK


def test_fault_of_the_ring(path: Path, engine: Any) -> None:
    with block_guest(path, engine=engine) as disk:
        disk.driver.offer(64)  # no such descriptor
        disk.driver.publish()
        assert disk.device.wait_fault() == "VQ-1"


def test_fault_leaves_earlier_requests_alone(path: Path, engine: Any) -> None:
    """DEV-7 stops the device for what comes; the file has every write that was taken before."""
    with block_guest(path, engine=engine) as disk:
        writes = [disk.lay_out(BLOCK_REQUEST.WRITE, n, data=bytes([n]) * SECTOR) for n in range(8)]
        for write in writes:
            disk.driver.add(write.segments)
        disk.driver.offer(0xFFFF)
        disk.driver.publish()
        assert disk.device.wait_fault() == "VQ-1"
        disk.device.set_status(0)
    assert path.read_bytes()[: 8 * SECTOR] == b"".join(bytes([n]) * SECTOR for n in range(8))


def test_reset_waits_for_io_in_flight(path: Path, engine: Any) -> None:
    """When the reset returns, no transfer touches guest memory any more."""
    with block_guest(path, engine=engine, memory_bytes=72 * MIB, size=128) as disk:
        for round_number in range(8):
            requests = [disk.lay_out(BLOCK_REQUEST.READ, 0, room_bytes=MIB, pieces=[4096]) for _ in range(8)]
            driver = BlockDriver(disk.device, disk.device.start()[0]) if round_number else disk
            driver.send(*requests)
            time.sleep(0.0002 * round_number)
            disk.device.set_status(0)
            for request in requests:
                disk.guest.write(request.data_gpa, bytes(MIB))
            time.sleep(0.005)
            assert not any(any(disk.guest.read(r.data_gpa, MIB)) for r in requests)
            disk.guest._next_gpa = disk.guest.base_gpa + MIB  # the same memory once more


def test_reset_is_quick_though_the_work_is_long(tmp_path: Path, engine: Any) -> None:
    """A request of very many steps is given up between two of them."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with block_guest(path, engine=engine, memory_bytes=32 * MIB, size=256) as disk:
        room = disk.guest.take(8 * MIB)
        status = disk.guest.take(1)
        data = [Segment(room, 8 * MIB, True)] * 126  # a gigabyte into the same place
        for _ in range(2):
            disk.driver.add([Segment(header(disk), 16), *data, Segment(status, 1, True)])
        disk.driver.publish()
        time.sleep(0.01)
        begin = time.monotonic()
        disk.device.set_status(0)
        assert time.monotonic() - begin < 0.5


@pytest.mark.usefixtures("ring_format")
def test_ring_reset(path: Path, engine: Any) -> None:
    """One queue is taken back and given again while the device stays active (DEV-17)."""
    with block_guest(path, engine=engine) as disk:
        native = disk.device.native
        assert native.offered[0] & VIRTIO_FEATURE.RING_RESET
        for _ in range(3):
            assert disk.read(0, SECTOR).status == BLOCK_STATUS.OK
            assert lib.pv_device_queue_reset(native, 0) == 0
            disk.driver.publish()  # rings for nothing
            again = type(disk.driver)(disk.device, 0, 64, native.offered[0])
            again.set_up()
            disk = BlockDriver(disk.device, again)
        assert native.state.status & VIRTIO_STATUS.DRIVER_OK


def test_driver_without_a_queue(path: Path, engine: Any) -> None:
    with FakeGuest() as guest:
        plugged = guest.plug(BlockDevice("disk", Disk("disk", path), engine))
        for _ in range(3):
            plugged.set_status(0)
            started = VIRTIO_STATUS.ACKNOWLEDGE | VIRTIO_STATUS.DRIVER | VIRTIO_STATUS.FEATURES_OK
            assert lib.pv_device_accept(plugged.native, 0, plugged.native.offered[0]) == 0
            plugged.set_status(started)
            assert plugged.set_status(started | VIRTIO_STATUS.DRIVER_OK) & VIRTIO_STATUS.DRIVER_OK
            os.eventfd_write(int(plugged.native.queues[0].doorbell_fd), 1)


def test_many_lives(path: Path, engine: Any) -> None:
    """The fixture that every test has counts descriptors and threads afterwards."""
    with FakeGuest() as guest:
        for number in range(60):
            plugged = guest.plug(BlockDevice("disk", Disk("disk", path), engine))
            if number % 3:
                disk = BlockDriver(plugged, plugged.start()[0])
                assert disk.read(number, SECTOR).status == BLOCK_STATUS.OK
            if number % 3 == 2:
                disk.send(disk.lay_out(BLOCK_REQUEST.READ, room_bytes=SECTOR))
            plugged.unplug()
            guest._next_gpa = guest.base_gpa


def test_many_activations(path: Path, engine: Any) -> None:
    with block_guest(path, engine=engine) as disk:
        start = disk.guest._next_gpa
        for number in range(200):
            disk.guest._next_gpa = start
            again = BlockDriver(disk.device, disk.device.start()[0])
            if number % 2:
                assert again.read(number, SECTOR).status == BLOCK_STATUS.OK


@pytest.mark.parametrize("event_index", [False, True])
@pytest.mark.parametrize("poll_ns", [0, 5_000_000])
def test_nothing_is_lost(path: Path, engine: Any, event_index: bool, poll_ns: int) -> None:
    """Batches of any size, the driver asleep until an interrupt, the device asleep until a doorbell."""
    contents, chance = path.read_bytes(), random.Random(5)
    without = 0 if event_index else VIRTIO_FEATURE.EVENT_IDX
    with block_guest(path, engine=engine, without=without, size=256, poll_ns=poll_ns) as disk:
        start, sent = disk.guest._next_gpa, 0
        for _ in range(400):
            disk.guest._next_gpa = start
            sectors = [chance.randrange(SIZE // SECTOR) for _ in range(chance.choice([1, 1, 2, 16, 17, 60]))]
            requests = [disk.lay_out(BLOCK_REQUEST.READ, s, room_bytes=SECTOR) for s in sectors]
            disk.send(*requests)
            expected = {
                r.data_gpa: contents[s * SECTOR : (s + 1) * SECTOR] for r, s in zip(requests, sectors, strict=True)
            }
            for request, answer in disk.finish(len(requests)):
                assert answer.status == BLOCK_STATUS.OK
                assert answer.data == expected[request.data_gpa]
            sent += len(requests)
            if chance.random() < 0.1:
                time.sleep(0.001)  # long enough for the device to fall asleep
        counts = disk.device.device.statistics()
        assert counts["requests"] == sent
        assert counts["read_bytes"] == sent * SECTOR
        assert counts["errors"] == 0
        assert counts["batches"] <= sent
        assert (counts["polls"] > 0) == (poll_ns > 0)
        assert counts["sleeps"] > 0 or poll_ns


def test_a_driver_that_looks_is_not_interrupted(path: Path, engine: Any) -> None:
    with block_guest(path, engine=engine, without=VIRTIO_FEATURE.EVENT_IDX) as disk:
        disk.driver.mute()
        for number in range(50):
            disk.send(disk.lay_out(BLOCK_REQUEST.READ, number, room_bytes=SECTOR))
            disk.finish(interrupts=False)
        assert disk.device.native.interrupts == 0


def test_a_whole_queue_at_once(path: Path, engine: Any) -> None:
    """256 requests in a ring of 256 entries, and a head that is offered twice over."""
    with block_guest(path, engine=engine, indirect=True, size=256) as disk:
        requests = [disk.lay_out(BLOCK_REQUEST.READ, n, room_bytes=SECTOR) for n in range(256)]
        disk.send(*requests)
        assert len(disk.finish(256)) == 256
        request = disk.lay_out(BLOCK_REQUEST.READ, 0, room_bytes=SECTOR)
        head = disk.driver.add(request.segments, indirect=True)
        for _ in range(255):
            disk.driver.offer(head)
        disk.driver.publish()
        wait_for(lambda: disk.device.device.statistics()["requests"] >= 512, "not all were done")


REFUSING = """
import ctypes, struct, sys, tempfile
from pathlib import Path
# A filter that answers io_uring_setup with EPERM, as containers do.
code = struct.pack("HBBIHBBIHBBIHBBI", 0x20, 0, 0, 0, 0x15, 0, 1, 425, 6, 0, 0, 0x50001, 6, 0, 0, 0x7FFF0000)
program = ctypes.create_string_buffer(code)
filter = struct.pack("HxxxxxxQ", 4, ctypes.addressof(program))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
from paravirt.errors import HostCallFailed
from tests.support.block_driver import block_guest
with tempfile.NamedTemporaryFile() as file:
    file.write(bytes(4096))
    file.flush()
    with block_guest(Path(file.name)) as disk:
        assert disk.device.device.engine == "threads"
        assert disk.read(0, 512).data == bytes(512)
    try:
        with block_guest(Path(file.name), engine="uring"):
            sys.exit("io_uring was not refused")
    except HostCallFailed as error:
        print(error)
"""


def test_io_uring_refused() -> None:
    """`auto` takes threads; `uring` says so in a line."""
    done = subprocess.run([sys.executable, "-c", REFUSING], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "disk 'disk': cannot start its I/O: Operation not permitted; use the engine auto or threads\n"
    )


def test_looks_that_are_always_in_vain(path: Path) -> None:
    """Work that comes later than the longest look, though soon, is slept for: as where the guest waits for that CPU."""
    poll_ns, requests = 400_000, 400
    with block_guest(path, poll_ns=poll_ns) as disk:
        for number in range(requests):
            time.sleep(0.001)  # a sleep is short up to 3.2 ms
            assert disk.read(number, SECTOR).status == BLOCK_STATUS.OK
        assert disk.device.device.statistics()["poll_ns"] < requests * poll_ns // 4
