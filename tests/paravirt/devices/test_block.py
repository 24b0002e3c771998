"""Block requests, one by one, with both engines: what they do, what they answer, what they refuse."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.devices.virtio_block import (
    BLOCK_CONFIG,
    BLOCK_FEATURE,
    BLOCK_HEADER,
    BLOCK_REQUEST,
    BLOCK_STATUS,
)
from hypercall_abi.virtqueue import VIRTIO_FEATURE
from tests.support.block_driver import SECTOR, UNTOUCHED, BlockDriver, block_guest, pack_ranges
from tests.support.fake_guest import Segment

pytestmark = pytest.mark.usefixtures("ring_format")

SECTORS = 256
OK, IO_ERROR, UNSUPPORTED = BLOCK_STATUS.OK, BLOCK_STATUS.IO_ERROR, BLOCK_STATUS.UNSUPPORTED
DISCARD, WRITE_ZEROES = BLOCK_REQUEST.DISCARD, BLOCK_REQUEST.WRITE_ZEROES
UNMAP = 1


@pytest.fixture
def contents() -> bytes:
    return random.Random(1).randbytes(SECTORS * SECTOR)


@pytest.fixture
def path(tmp_path: Path, contents: bytes) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(contents)
    return path


@pytest.fixture
def disk(path: Path, engine: Any) -> Iterator[BlockDriver]:
    with block_guest(path, engine=engine) as driver:
        yield driver


def test_engine_is_the_one_asked_for(disk: BlockDriver, engine: str) -> None:
    assert engine in ("auto", disk.device.device.engine)  # type: ignore[attr-defined]


def test_read(disk: BlockDriver, contents: bytes) -> None:
    answer = disk.read(3, 2 * SECTOR)
    assert answer.status == OK
    assert answer.data == contents[3 * SECTOR : 5 * SECTOR]
    assert answer.used_bytes == 2 * SECTOR + 1  # BLK-5


def test_write(disk: BlockDriver, path: Path, contents: bytes) -> None:
    data = bytes(range(256)) * 4
    answer = disk.write(7, data)
    assert (answer.status, answer.used_bytes) == (OK, 1)  # BLK-5
    assert path.read_bytes() == contents[: 7 * SECTOR] + data + contents[9 * SECTOR :]


def test_flush(disk: BlockDriver) -> None:
    assert disk.flush().status == OK


def test_get_id(disk: BlockDriver) -> None:
    """BLK-11."""
    answer = disk.request(BLOCK_REQUEST.GET_ID, room_bytes=20)
    assert answer.data == b"disk" + bytes(16)
    assert (answer.status, answer.used_bytes) == (OK, 21)


@pytest.mark.parametrize("room", [0, 3, 40])
def test_get_id_fills_the_room_there_is(disk: BlockDriver, room: int) -> None:
    answer = disk.request(BLOCK_REQUEST.GET_ID, room_bytes=room)
    expected = (b"disk" + bytes(16))[:room]
    assert answer.data == expected + bytes([UNTOUCHED]) * (room - len(expected))
    assert (answer.status, answer.used_bytes) == (OK, len(expected) + 1)


@pytest.mark.parametrize("kind", [2, 3, 5, 9, 12, 14, 0x8000_0000, 0xFFFF_FFFF])
def test_unknown_type(disk: BlockDriver, kind: int) -> None:
    """BLK-6"""
    assert disk.request(kind, data=bytes(SECTOR)).status == UNSUPPORTED


@pytest.mark.parametrize("sizes", [(512,), (1, 511), (4096, 512, 3), (7, 9, 1000, 8), (513, 4095)])
def test_segments_of_any_size(disk: BlockDriver, contents: bytes, sizes: tuple[int, ...]) -> None:
    total = sum(sizes) + -sum(sizes) % SECTOR
    assert disk.read(1, total, sizes).data == contents[SECTOR : SECTOR + total]
    data = random.Random(2).randbytes(total)
    assert disk.write(100, data, sizes).status == OK
    assert disk.read(100, total).data == data


def test_many_segments(disk: BlockDriver, contents: bytes) -> None:
    assert disk.read(0, 60 * 16 + 64, [16] * 60).data == contents[:1024]


@pytest.mark.parametrize("cut", [1, 8, 15, 16])
def test_header_and_data_share_segments(disk: BlockDriver, path: Path, cut: int) -> None:
    """The driver cuts as it likes (virtio 2.7.4.1): header and data in one stream, status behind the data."""
    guest, data = disk.guest, random.Random(cut).randbytes(SECTOR)
    stream = guest.place(BLOCK_HEADER.build({"type": BLOCK_REQUEST.WRITE, "priority": 0, "sector": 9}) + data)
    status = guest.place(bytes([UNTOUCHED]))
    head = disk.driver.add([Segment(stream, cut), Segment(stream + cut, 16 + SECTOR - cut), Segment(status, 1, True)])
    disk.driver.publish()
    assert disk.driver.wait() == {head: 1}
    assert guest.read(status, 1)[0] == OK
    assert path.read_bytes()[9 * SECTOR : 10 * SECTOR] == data


def test_status_shares_a_segment_with_data(disk: BlockDriver, contents: bytes) -> None:
    guest = disk.guest
    header = guest.place(BLOCK_HEADER.build({"type": BLOCK_REQUEST.READ, "priority": 0, "sector": 2}))
    room = guest.place(bytes([UNTOUCHED]) * (SECTOR + 1))
    head = disk.driver.add([Segment(header, 16), Segment(room, SECTOR + 1, True)])
    disk.driver.publish()
    assert disk.driver.wait() == {head: SECTOR + 1}
    assert guest.read(room, SECTOR + 1) == contents[2 * SECTOR : 3 * SECTOR] + bytes([OK])


EDGES = [
    (0, SECTORS, True),
    (SECTORS - 1, 1, True),
    (SECTORS - 1, 2, False),
    (SECTORS, 1, False),
    (SECTORS + 1, 1, False),
    (1, SECTORS, False),
    (1 << 55, 1, False),
    (1 << 63, 1, False),
    ((1 << 64) - 1, 1, False),
    ((1 << 64) - 1, 2, False),
    ((1 << 64) - SECTORS, SECTORS, False),
]


@pytest.mark.parametrize(("sector", "sectors", "good"), EDGES)
def test_capacity(disk: BlockDriver, path: Path, contents: bytes, sector: int, sectors: int, good: bool) -> None:
    """BLK-1"""
    answer = disk.read(sector, sectors * SECTOR)
    assert answer.status == (OK if good else IO_ERROR)
    if not good:
        assert answer.used_bytes == 1
        assert set(answer.data) == {UNTOUCHED}
    assert disk.write(sector, bytes(sectors * SECTOR)).status == answer.status
    if not good:
        assert disk.ranges(DISCARD, (sector, sectors, 0)).status == IO_ERROR
        assert disk.ranges(WRITE_ZEROES, (sector, sectors, 0)).status == IO_ERROR
        assert path.read_bytes() == contents
    assert path.stat().st_size == len(contents)


@pytest.mark.parametrize("size", [1, 511, 513, 1000])
def test_odd_lengths(disk: BlockDriver, path: Path, contents: bytes, size: int) -> None:
    """BLK-4"""
    answer = disk.read(0, size)
    assert (answer.status, answer.used_bytes, set(answer.data)) == (IO_ERROR, 1, {UNTOUCHED})
    assert disk.write(0, bytes(size)).status == IO_ERROR
    assert path.read_bytes() == contents


@pytest.mark.parametrize(("sector", "status"), [(0, OK), (SECTORS, OK), (SECTORS + 1, IO_ERROR)])
def test_nothing_to_transfer(disk: BlockDriver, sector: int, status: int) -> None:
    assert disk.read(sector, 0).status == status
    assert disk.write(sector, b"").status == status


def test_discard_and_write_zeroes(disk: BlockDriver, path: Path, contents: bytes) -> None:
    assert disk.ranges(WRITE_ZEROES, (1, 1, 0), (0, 0, 0), (10, 20, UNMAP), (SECTORS, 0, 0)).status == OK
    assert disk.ranges(DISCARD, (40, 8, 0), (64, 8, 0)).status == OK
    expected = bytearray(contents)
    for sector, sectors in ((1, 1), (10, 20)):
        expected[sector * SECTOR : (sector + sectors) * SECTOR] = bytes(sectors * SECTOR)
    result = path.read_bytes()
    for sector, sectors in ((40, 8), (64, 8)):  # whatever is there now, the rest is as it was
        expected[sector * SECTOR : (sector + sectors) * SECTOR] = result[sector * SECTOR : (sector + sectors) * SECTOR]
    assert result == expected


@pytest.mark.parametrize(
    ("kind", "data", "status"),
    [
        (DISCARD, b"", IO_ERROR),
        (DISCARD, bytes(15), IO_ERROR),
        (DISCARD, bytes(17), IO_ERROR),
        (DISCARD, pack_ranges(*[(0, 1, 0)] * 17), IO_ERROR),
        (DISCARD, pack_ranges((0, 1, UNMAP)), UNSUPPORTED),  # virtio 5.2.6.2
        (DISCARD, pack_ranges((0, 1, 2)), UNSUPPORTED),
        (DISCARD, pack_ranges((0, 0x20_0001, 0)), IO_ERROR),
        (WRITE_ZEROES, pack_ranges((0, 1, 2)), UNSUPPORTED),
        (WRITE_ZEROES, pack_ranges((0, 1, 0), (0, 1, 0x8000_0000)), UNSUPPORTED),
        (WRITE_ZEROES, pack_ranges((0, 1, 0), (SECTORS, 1, 0)), IO_ERROR),
        (WRITE_ZEROES, pack_ranges((0, 0xFFFF_FFFF, 0)), IO_ERROR),
    ],
)
def test_refused_ranges(disk: BlockDriver, path: Path, contents: bytes, kind: int, data: bytes, status: int) -> None:
    """BLK-7 and the limits: nothing is touched, not even by the ranges that are good."""
    assert disk.request(kind, data=data).status == status
    assert path.read_bytes() == contents


def test_sixteen_ranges(disk: BlockDriver, path: Path) -> None:
    assert disk.ranges(WRITE_ZEROES, *[(n * 2, 1, 0) for n in range(16)]).status == OK
    data = path.read_bytes()
    assert all(data[n * SECTOR : (n + 1) * SECTOR] == bytes(SECTOR) for n in range(0, 32, 2))
    assert all(data[n * SECTOR : (n + 1) * SECTOR] != bytes(SECTOR) for n in range(1, 32, 2))


def test_read_only(path: Path, contents: bytes, engine: Any) -> None:
    """BLK-2"""
    with block_guest(path, engine=engine, read_only=True) as disk:
        offered = disk.device.native.offered[0]
        assert offered & BLOCK_FEATURE.RO
        assert not offered & (BLOCK_FEATURE.DISCARD | BLOCK_FEATURE.WRITE_ZEROES)
        assert disk.write(0, bytes(SECTOR)).status == IO_ERROR
        assert disk.write(0, b"").status == IO_ERROR
        assert disk.ranges(DISCARD, (0, 8, 0)).status == IO_ERROR
        assert disk.ranges(WRITE_ZEROES, (0, 8, 0)).status == IO_ERROR
        assert disk.read(0, SECTOR).data == contents[:SECTOR]
        assert disk.flush().status == OK
    assert path.read_bytes() == contents


def test_features_that_were_not_accepted(path: Path, contents: bytes, engine: Any) -> None:
    with block_guest(path, engine=engine, without=BLOCK_FEATURE.DISCARD | BLOCK_FEATURE.WRITE_ZEROES) as disk:
        assert disk.ranges(DISCARD, (0, 8, 0)).status == UNSUPPORTED
        assert disk.ranges(WRITE_ZEROES, (0, 8, 0)).status == UNSUPPORTED
    assert path.read_bytes() == contents


def test_durable_without_flush(path: Path, engine: Any) -> None:
    """BLK-9: a driver without FLUSH has its writes, and its zeros, on stable storage at once."""
    with block_guest(path, engine=engine, without=BLOCK_FEATURE.FLUSH) as disk:
        assert disk.write(5, b"\x11" * SECTOR).status == OK
        assert disk.ranges(WRITE_ZEROES, (6, 2, 0), (9, 1, UNMAP)).status == OK
        assert disk.ranges(DISCARD, (16, 8, 0)).status == OK
    data = path.read_bytes()
    assert data[5 * SECTOR : 8 * SECTOR] == b"\x11" * SECTOR + bytes(2 * SECTOR)
    assert data[9 * SECTOR : 10 * SECTOR] == bytes(SECTOR)


def test_truncated_file(disk: BlockDriver, path: Path, contents: bytes, engine: str) -> None:
    """What is missing fails, request by request; what is there is still there."""
    with path.open("r+b") as file:
        file.truncate(10 * SECTOR)
    assert disk.read(0, 10 * SECTOR).data == contents[: 10 * SECTOR]
    beyond = disk.read(10, SECTOR)
    assert (beyond.status, beyond.used_bytes) == (IO_ERROR, 1)
    # What is mapped has zeros behind the file's end, which are seen only in what was copied.
    assert set(beyond.data) <= {UNTOUCHED, *([0] if engine == "auto" else [])}
    across = disk.read(8, 4 * SECTOR)
    assert (across.status, across.used_bytes) == (IO_ERROR, 2 * SECTOR + 1)
    assert across.data[: 2 * SECTOR] == contents[8 * SECTOR : 10 * SECTOR]
    assert disk.read(9, SECTOR).status == OK
    assert not disk.device.needs_reset


def test_no_space(disk: BlockDriver, path: Path) -> None:
    """An error of the host's file system is that request's alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 * SECTOR, hard))
    try:
        assert disk.write(32, bytes(SECTOR)).status == IO_ERROR
        assert disk.write(31, b"\x22" * SECTOR).status == OK
        assert disk.write(31, bytes(2 * SECTOR)).status == IO_ERROR
        assert disk.read(40, SECTOR).status == OK
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert disk.write(32, bytes(SECTOR)).status == OK
    assert disk.device.device.statistics()["errors"] == 2


@pytest.mark.parametrize(("event_index", "indirect"), [(False, False), (False, True), (True, False), (True, True)])
def test_ring_features(path: Path, contents: bytes, engine: Any, event_index: bool, indirect: bool) -> None:
    without = 0 if event_index else VIRTIO_FEATURE.EVENT_IDX
    with block_guest(path, engine=engine, without=without, indirect=indirect) as disk:
        for sector in range(100):
            assert disk.read(sector, SECTOR).data == contents[sector * SECTOR : (sector + 1) * SECTOR]


def test_huge_request_in_steps(tmp_path: Path, engine: Any) -> None:
    """More than one step of the engine, in segments that are larger and smaller than a step."""
    size = 11 << 20
    data = random.Random(3).randbytes(size)
    (tmp_path / "large").write_bytes(bytes(size))
    with block_guest(tmp_path / "large", engine=engine, memory_bytes=40 << 20) as disk:
        assert disk.write(0, data, [5 << 20, 3 << 20, 100, 1 << 20]).status == OK
        answer = disk.read(0, size, [1, 9 << 20])
        assert answer.data == data
        assert answer.used_bytes == size + 1


def test_config(disk: BlockDriver) -> None:
    config = BLOCK_CONFIG.parse(disk.device.config())
    assert (config.capacity_sectors, config.block_bytes, config.seg_max) == (SECTORS, SECTOR, 254)
    assert config.max_discard_segments == config.max_write_zeroes_segments == 16
    assert config.write_zeroes_may_unmap == 1


def test_direct(path: Path, contents: bytes, engine: Any) -> None:
    """O_DIRECT: aligned requests pass the page cache by, the others go through it; both see the same disk."""
    with block_guest(path, engine=engine, direct=True) as disk:
        assert disk.read(8, 4096).data == contents[4096:8192]
        assert disk.write(9, b"\x33" * SECTOR).status == OK
        assert disk.read(8, 4096, [4095]).data == disk.read(8, 4096).data
        assert disk.ranges(WRITE_ZEROES, (9, 1, 0)).status == OK
        assert disk.read(8, 4096).data == contents[4096:4608] + bytes(SECTOR) + contents[5120:8192]
        assert disk.flush().status == OK
