"""What a disk can be asked for beside its file: queues, write-through, limits, and failures for tests."""

from __future__ import annotations

import os
import random
import re
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi import STATUS
from hypercall_abi.devices.virtio_block import BLOCK_FEATURE, BLOCK_REQUEST, BLOCK_STATUS
from paravirt._native import ffi, lib
from paravirt.config import Disk
from paravirt.devices.block import BlockDevice
from tests.support.block_driver import SECTOR, BlockDriver, block_guest
from tests.support.fake_guest import Driver, FakeGuest

SIZE = 1 << 20
WRITEBACK = ffi.offsetof("struct pv_block_config", "writeback")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(random.Random(4).randbytes(SIZE))
    return path


def held_buffers() -> int:
    """Pieces of memory that rings of this process hold."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if "io_uring" in os.readlink(f"/proc/self/fd/{fd}"):
                found += int(re.findall(r"UserBufs:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text())[0])
    return found


@pytest.mark.parametrize("kept", [0, 1])
def test_memory_is_held_if_it_keeps_its_pages(path: Path, kept: int) -> None:
    """And read and written all the same, in one piece or in several, aligned or not."""
    data = path.read_bytes()
    with FakeGuest() as guest:
        guest.native.memory.kept = kept
        plugged = guest.plug(BlockDevice("disk", Disk("disk", path), "uring"))
        if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] >= 16 << 20 or os.geteuid() == 0:
            assert held_buffers() == kept
        disk = BlockDriver(plugged, plugged.start()[0])
        for pieces in ((), (100, 5)):
            assert disk.read(3, 9 * SECTOR, pieces).data == data[3 * SECTOR : 12 * SECTOR]
            assert disk.write(50, data[: 4 * SECTOR], pieces).status == BLOCK_STATUS.OK
            assert disk.read(50, 4 * SECTOR, pieces).data == data[: 4 * SECTOR]
    assert path.read_bytes()[50 * SECTOR : 54 * SECTOR] == data[: 4 * SECTOR]


def test_each_queue_serves_the_same_disk(path: Path, engine: Any) -> None:
    with FakeGuest() as guest:
        plugged = guest.plug(BlockDevice("disk", Disk("disk", path), engine, 20_000, queues=4))
        assert plugged.native.offered[0] & BLOCK_FEATURE.MQ
        at = ffi.offsetof("struct pv_block_config", "queues")
        assert int.from_bytes(plugged.config()[at : at + 2], "little") == 4
        disks = [BlockDriver(plugged, driver) for driver in plugged.start()]
        for n, disk in enumerate(disks):
            disk.send(*(disk.lay_out(BLOCK_REQUEST.WRITE, 8 * n + i, data=bytes([n + 1]) * SECTOR) for i in range(8)))
        for disk in disks:
            answers = disk.finish(8, interrupts=False)  # one line for all: another queue's interrupt may be ours
            assert [answer.status for _, answer in answers] == [BLOCK_STATUS.OK] * 8
        for n in range(4):
            other = disks[(n + 1) % 4].read(8 * n, 8 * SECTOR)
            assert other.data == bytes([n + 1]) * 8 * SECTOR
        assert plugged.device.statistics()["requests"] == 36


def test_a_queue_is_reset_while_others_work(path: Path) -> None:
    with FakeGuest() as guest:
        plugged = guest.plug(BlockDevice("disk", Disk("disk", path), queues=2))
        first, _ = plugged.start()
        assert lib.pv_device_queue_reset(plugged.native, 1) == STATUS.OK
        assert BlockDriver(plugged, first).read(0, SECTOR).status == BLOCK_STATUS.OK
        fresh = BlockDriver(plugged, Driver(plugged, 1, 64, plugged.native.offered[0]))
        fresh.driver.set_up()
        assert fresh.read(1, SECTOR).status == BLOCK_STATUS.OK


def test_queues_that_the_driver_leaves_alone(path: Path) -> None:
    """A driver may use fewer than there are (virtio 5.2.5)."""
    with FakeGuest() as guest:
        plugged = guest.plug(BlockDevice("disk", Disk("disk", path), queues=3))
        drivers = plugged.start()
        for n in (1, 2):
            assert lib.pv_device_queue_reset(plugged.native, n) == STATUS.OK
        assert BlockDriver(plugged, drivers[0]).read(0, SECTOR).status == BLOCK_STATUS.OK


def writeback(disk: BlockDriver) -> int:
    return int(disk.device.config()[WRITEBACK])


def set_writeback(disk: BlockDriver, value: int, offset: int = WRITEBACK, size_bytes: int = 1) -> int:
    data = ffi.new("uint8_t[]", [value] * size_bytes)
    return int(lib.pv_device_config_write(disk.device.native, offset, data, size_bytes))


def is_durable(disk: BlockDriver) -> bool:
    """Whether the C core makes writes durable now."""
    native: Any = disk.device.device
    return not lib.pv_block_writeback(native._native)


@pytest.mark.parametrize("writethrough", [False, True])
def test_the_cache_is_the_drivers_to_switch(path: Path, writethrough: bool) -> None:
    with block_guest(path, writethrough=writethrough) as disk:
        assert writeback(disk) == (not writethrough)
        assert is_durable(disk) == writethrough
        for value in (0, 1, 0):
            assert set_writeback(disk, value) == STATUS.OK
            assert (writeback(disk), is_durable(disk)) == (value, not value)
            assert disk.write(0, bytes(SECTOR)).status == BLOCK_STATUS.OK
        assert set_writeback(disk, 0xFF) == STATUS.OK
        assert writeback(disk) == 1
        disk.device.start()
        assert writeback(disk) == (not writethrough), "the next driver finds it as it was"


def test_no_other_field_is_the_drivers(path: Path) -> None:
    with block_guest(path) as disk:
        before = disk.device.config()
        for offset, size in ((0, 8), (WRITEBACK - 1, 1), (WRITEBACK - 1, 2), (WRITEBACK, 2), (WRITEBACK + 1, 1)):
            assert set_writeback(disk, 0xAA, offset, size) == STATUS.INVALID
        assert disk.device.config() == before


@pytest.mark.parametrize("without", [BLOCK_FEATURE.FLUSH, BLOCK_FEATURE.FLUSH | BLOCK_FEATURE.CONFIG_WCE])
def test_without_flush_there_is_no_cache(path: Path, without: int) -> None:
    """BLK-9: and the driver cannot switch one on."""
    with block_guest(path, without=without) as disk:
        assert (writeback(disk), is_durable(disk)) == (0, True)
        set_writeback(disk, 1)
        assert (writeback(disk), is_durable(disk)) == (0, True)


def test_a_cache_that_was_not_agreed_on_is_not_switched(path: Path) -> None:
    with block_guest(path, without=BLOCK_FEATURE.CONFIG_WCE) as disk:
        set_writeback(disk, 0)
        assert (writeback(disk), is_durable(disk)) == (1, False)


@pytest.mark.parametrize("limit", [{"operations_per_second": 200}, {"bytes_per_second": 200 * SECTOR}])
def test_a_limited_disk_is_no_faster_and_sleeps(path: Path, engine: Any, limit: Any) -> None:
    """20 go at once, then 200 a second: 60 take 0.2 s at least, however slow the host is."""
    with block_guest(path, engine=engine, poll_ns=1_000_000, size=256, **limit) as disk:
        requests = [disk.lay_out(BLOCK_REQUEST.READ, n, room_bytes=SECTOR) for n in range(60)]
        begin = time.monotonic()
        disk.send(*requests)
        answers = disk.finish(60)
        passed = time.monotonic() - begin
        assert [answer.status for _, answer in answers] == [BLOCK_STATUS.OK] * 60
        counts = disk.device.device.statistics()
        assert passed > 0.19
        assert counts["throttles"] > 0
        assert counts["poll_ns"] < passed * 1e9 / 2, "it looked for work that it knew it might not take"


def test_zeros_count(path: Path, engine: Any) -> None:
    """The file system may have to write them: 256 sectors are more than go at once, and pay for 1.2 s."""
    with block_guest(path, engine=engine, bytes_per_second=200 * SECTOR) as disk:
        begin = time.monotonic()
        assert disk.ranges(BLOCK_REQUEST.WRITE_ZEROES, (0, 128, 0), (128, 128, 0)).status == BLOCK_STATUS.OK
        assert disk.read(0, SECTOR).data == bytes(SECTOR)
        assert time.monotonic() - begin > 1


def test_a_limited_disk_can_be_reset(path: Path) -> None:
    with block_guest(path, operations_per_second=1, size=256) as disk:
        disk.send(*(disk.lay_out(BLOCK_REQUEST.READ, n, room_bytes=SECTOR) for n in range(20)))
        begin = time.monotonic()
        disk.device.set_status(0)
        assert time.monotonic() - begin < 10, "it waited for what the limit held back"


def test_requests_that_follow_one_another_are_one_operation(path: Path, engine: Any) -> None:
    """Each has its own data and its own answer, whatever its pieces; others between them end it."""
    data = path.read_bytes()
    with block_guest(path, engine=engine, size=256) as disk:
        reads = [disk.lay_out(BLOCK_REQUEST.READ, 2 * n, room_bytes=2 * SECTOR, pieces=[n * 50]) for n in range(8)]
        writes = [disk.lay_out(BLOCK_REQUEST.WRITE, 100 + n, data=bytes([n]) * SECTOR) for n in range(4)]
        apart = [disk.lay_out(BLOCK_REQUEST.READ, 3 * n, room_bytes=SECTOR) for n in range(4)]
        disk.send(*reads, *writes, *apart)
        answers = dict(disk.finish(16))
        for n, request in enumerate(reads):
            assert answers[request].data == data[2 * n * SECTOR : 2 * (n + 1) * SECTOR]
            assert answers[request].used_bytes == 2 * SECTOR + 1
        assert {answers[request].used_bytes for request in writes} == {1}
        assert {answer.status for answer in answers.values()} == {BLOCK_STATUS.OK}
        assert disk.device.device.statistics()["merges"] == (3 if engine == "auto" else 7 + 3), "no cached reads"
    assert path.read_bytes()[100 * SECTOR : 104 * SECTOR] == b"".join(bytes([n]) * SECTOR for n in range(4))


def test_of_one_operation_what_was_done_is_done(path: Path, engine: Any) -> None:
    """A file that ends in the midst of it fails those behind alone, and says how far it came."""
    with block_guest(path, engine=engine) as disk:
        os.truncate(path, 3 * SECTOR + 100)
        reads = [disk.lay_out(BLOCK_REQUEST.READ, n, room_bytes=SECTOR) for n in range(6)]
        disk.send(*reads)
        answers = dict(disk.finish(6))
        assert disk.device.device.statistics()["merges"] == (2 if engine == "auto" else 5), "no cached reads"
        assert [answers[request].status for request in reads] == [0, 0, 0, 1, 1, 1]
        assert [answers[request].used_bytes for request in reads] == [513, 513, 513, 101, 1, 1]


@pytest.mark.parametrize("kind", ["read", "write", "flush"])
def test_the_request_that_is_to_fail_fails(path: Path, engine: Any, kind: str) -> None:
    before = path.read_bytes()
    with block_guest(path, engine=engine, failures={kind: 3}) as disk:
        do = {
            "read": lambda: disk.read(0, SECTOR),
            "write": lambda: disk.write(0, before[:SECTOR]),
            "flush": disk.flush,
        }
        for other in do.keys() - {kind}:
            assert [do[other]().status for _ in range(4)] == [BLOCK_STATUS.OK] * 4
        failed = [do[kind]().status for _ in range(5)]
        assert failed == [0, 0, BLOCK_STATUS.IO_ERROR, 0, 0]
        assert disk.device.device.statistics()["errors"] == 1
