"""Mapped disks without a guest: where files are mapped, flushes and their order, failures, requests that are none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.devices.virtio_pmem import PMEM_CONFIG, PMEM_REQUEST, PMEM_RESULT, PMEM_TYPE
from hypercall_abi.virtqueue import VIRTIO_STATUS
from paravirt._native import ffi, lib
from paravirt.attachments.pmem import Pmem, parse_pmem
from paravirt.boot.manifest import PlannedDevice
from paravirt.devices.pmem import PmemDevice
from paravirt.errors import ConfigError, DiskBusy, DiskEmpty, DiskNotFound, DiskOddSize, DiskUnreadable
from paravirt.mapped import MappedDisks
from tests.support.fake_guest import PATIENCE_S, Segment
from tests.support.pmem_driver import mapped_disk, pmem_guest

PAGE = 4096
LARGE = 2 << 20
SIZE = LARGE + PAGE
FLUSH, OK, FAILED = PMEM_TYPE.FLUSH, PMEM_RESULT.OK, PMEM_RESULT.FAILED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


class Sync:
    """In place of fdatasync: what the file held at each, and a gate that holds them up."""

    def __init__(self, path: Path) -> None:
        self.seen: list[bytes] = []
        self.fail = False
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.go.set()
        self._path = path
        self.function = ffi.callback("int(int)", self._sync)

    def _sync(self, _fd: int) -> int:
        self.begun.release()
        self.go.wait(PATIENCE_S)
        self.seen.append(self._path.read_bytes()[:8])
        if self.fail:
            ffi.errno = 5
        return -1 if self.fail else 0


def plan(*disks: Pmem) -> list[PlannedDevice]:
    return [PlannedDevice(PmemDevice.type, disk.name, disk) for disk in disks]


# ---- what the user gives ----


def test_as_it_is_written() -> None:
    assert parse_pmem("a=b") == Pmem("a", Path("b"))
    assert parse_pmem("a=b,c=d,ro") == Pmem("a", Path("b,c=d"), read_only=True)


@pytest.mark.parametrize("text", ["", "a", "a=", "a=,ro", "=b", "a=b,rw"])
def test_as_it_is_not_written(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_pmem(text)


# ---- regions ----


def test_regions_lie_above_ram_from_large_pages_on(path: Path, tmp_path: Path) -> None:
    """PMEM-1."""
    other = tmp_path / "other"
    other.write_bytes(bytes(PAGE))
    ranges = [(0, 3 << 30), (1 << 32, (1 << 30) + PAGE)]
    disks = MappedDisks(plan(Pmem("one", path), Pmem("two", other)), ranges)
    try:
        one, two = disks
        assert one.gpa >= (5 << 30) + PAGE and one.gpa % LARGE == two.gpa % LARGE == 0
        assert two.gpa >= one.gpa + one.size_bytes
        assert (one.size_bytes, two.size_bytes) == (SIZE, PAGE)
        assert int(ffi.cast("uintptr_t", one.hva)) % LARGE == 0
        assert disks["two"] is two
    finally:
        disks.close()


def test_what_is_mapped_is_the_file(path: Path) -> None:
    with mapped_disk(path) as disks:
        (disk,) = disks
        bytes_ = ffi.buffer(ffi.cast("uint8_t *", disk.hva), SIZE)
        assert bytes_[:] == path.read_bytes()
        bytes_[SIZE - 3 : SIZE] = b"end"
    assert path.read_bytes().endswith(b"end")


def test_the_last_page_of_a_read_only_file_is_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(b"x" * (PAGE + 1))
    with mapped_disk(path, read_only=True) as disks:
        (disk,) = disks
        assert disk.size_bytes == 2 * PAGE
        assert ffi.buffer(ffi.cast("uint8_t *", disk.hva), 2 * PAGE)[PAGE:] == b"x" + bytes(PAGE - 1)
        assert not disk.loss()
    with pytest.raises(DiskOddSize, match=r"has 4097 bytes, not a multiple of 4096; fill it up by: truncate -s 8192"):
        MappedDisks(plan(Pmem("odd", path)), [(0, LARGE)])


def test_files_that_cannot_be_mapped(tmp_path: Path) -> None:
    """Each says that it is about a mapped disk; those before it are given back."""
    empty, good = tmp_path / "empty", tmp_path / "good"
    empty.touch()
    good.write_bytes(bytes(PAGE))
    wrong: dict[Path, type[Exception]] = {
        empty: DiskEmpty,
        tmp_path / "none": DiskNotFound,
        tmp_path: DiskUnreadable,
        Path("/dev/null"): DiskUnreadable,
    }
    for path, kind in wrong.items():
        with pytest.raises(kind, match=r"^mapped disk 'bad': "):
            MappedDisks(plan(Pmem("good", good), Pmem("bad", path)), [(0, LARGE)])
        with mapped_disk(good) as disks:
            assert disks["disk"].size_bytes == PAGE


def test_a_writer_is_alone_and_readers_are_many(path: Path) -> None:
    with (
        mapped_disk(path, read_only=True),
        mapped_disk(path, read_only=True),
        pytest.raises(DiskBusy, match="in use by another process"),
        mapped_disk(path),
    ):
        pass


# ---- flushes ----


def test_what_the_driver_reads(path: Path) -> None:
    with pmem_guest(path, read_only=True) as disk:
        config = PMEM_CONFIG.parse(disk.device.config())
        native = disk.device.native
        assert (config.start_gpa, config.size_bytes) == (native.region_gpa, native.region_bytes)
        assert native.read_only == 1
        assert lib.pv_memory_at(ffi.addressof(disk.guest.native, "memory"), config.start_gpa, 1) == ffi.NULL  # PMEM-2


def test_a_flush_is_answered_after_the_sync(path: Path) -> None:
    """PMEM-4: the sync begins after the request was made, and the answer comes after the sync."""
    sync = Sync(path)
    with pmem_guest(path, sync=sync.function) as disk:
        mapped = disk.device.device.mapped  # type: ignore[attr-defined]
        for word in (b"first...", b"second.."):
            ffi.buffer(ffi.cast("uint8_t *", mapped.hva), 8)[:] = word
            sync.go.clear()
            disk.send(FLUSH)
            assert sync.begun.acquire(timeout=PATIENCE_S)
            assert not disk.driver.collect(), "answered before it was done"
            sync.go.set()
            assert disk.finish() == [OK]
        assert sync.seen == [b"first...", b"second.."]


def test_flushes_that_wait_are_answered_by_one_sync(path: Path) -> None:
    """But not by the one that was under way when they came."""
    sync = Sync(path)
    with pmem_guest(path, sync=sync.function) as disk:
        sync.go.clear()
        disk.send(FLUSH)
        assert sync.begun.acquire(timeout=PATIENCE_S)
        disk.send(*[FLUSH] * 10)
        sync.go.set()
        assert disk.finish(11) == [OK] * 11
        assert len(sync.seen) == disk.statistics["syncs"] == 2


def test_after_a_sync_that_failed_every_flush_fails(path: Path) -> None:
    """PMEM-4: and the kernel is not asked again, since it would say that all is well."""
    sync = Sync(path)
    with pmem_guest(path, sync=sync.function) as disk:
        assert disk.flush() == OK
        sync.fail = True
        assert disk.flush() == FAILED
        sync.fail = False
        assert disk.flush() == FAILED
        disk.driver = disk.device.start()[0]  # a reset forgives nothing
        assert disk.flush() == FAILED
        assert len(sync.seen) == 2
        assert (disk.statistics["requests"], disk.statistics["errors"]) == (4, 3)


def test_a_flush_of_a_file_that_was_cut_fails(path: Path) -> None:
    with pmem_guest(path) as disk:
        assert disk.flush() == OK
        os.truncate(path, PAGE)
        assert disk.flush() == FAILED
        os.truncate(path, SIZE)  # what was lost does not come back
        assert disk.flush() == FAILED


def test_a_flush_of_what_is_read_only_syncs_nothing(path: Path) -> None:
    sync = Sync(path)
    with pmem_guest(path, read_only=True, sync=sync.function) as disk:
        assert disk.flush() == OK
        assert not sync.seen


def test_more_requests_than_a_batch_in_order(path: Path) -> None:
    with pmem_guest(path) as disk:
        kinds = [FLUSH if n % 3 else 7 for n in range(30)]
        disk.send(*kinds)
        assert disk.finish(30) == [OK if kind == FLUSH else FAILED for kind in kinds]  # PMEM-5


def test_a_reset_waits_for_the_sync(path: Path) -> None:
    sync = Sync(path)
    with pmem_guest(path, sync=sync.function) as disk:
        sync.go.clear()
        disk.send(FLUSH)
        assert sync.begun.acquire(timeout=PATIENCE_S)
        ended: list[int] = []
        reset = threading.Thread(target=lambda: ended.append(disk.device.set_status(0)))
        reset.start()
        assert not ended
        sync.go.set()
        reset.join(PATIENCE_S)
        assert ended == [0]


def _pieces(room: int, asked: int) -> dict[str, list[Segment]]:
    return {
        "no type": [Segment(room, 4, True)],
        "half a type": [Segment(asked, 3), Segment(room, 4, True)],
        "no room": [Segment(asked, 4)],
        "half a room": [Segment(asked, 4), Segment(room, 3, True)],
    }


@pytest.mark.parametrize("what", ["no type", "half a type", "no room", "half a room"])
def test_broken_requests(path: Path, what: str) -> None:
    """PMEM-5: the device stops, with the rule's id, and a reset mends it."""
    with pmem_guest(path) as disk:
        asked = disk.guest.place(PMEM_REQUEST.build({"type": FLUSH}))
        disk.driver.add(_pieces(disk.guest.take(8), asked)[what])
        disk.driver.publish()
        assert disk.device.wait_fault() == "PMEM-5"
        disk.driver = disk.device.start()[0]
        assert disk.flush() == OK


def test_a_request_in_pieces(path: Path) -> None:
    with pmem_guest(path) as disk:
        asked, room = disk.guest.place(PMEM_REQUEST.build({"type": FLUSH})), disk.guest.place(b"\xa5" * 16)
        ends = [Segment(room + 4 * n, 1, True) for n in range(4)]
        disk.driver.add([Segment(asked, 1), Segment(asked + 1, 3), *ends])
        disk.driver.publish()
        assert list(disk.driver.wait().values()) == [4]
        assert [disk.guest.read(room + 4 * n, 2) for n in range(4)] == [b"\x00\xa5"] * 4


# ---- accesses where no memory is ----


def access(native: Any, gpa: int, write: bool) -> int | None:
    """The device whose pages are lost, None to go on."""
    out = ffi.new("struct pv_exit *")
    if lib.pv_region_access(native, gpa, write, out):
        return None
    assert out.kind == lib.PV_EXIT_REGION
    return int(out.reason)


@pytest.fixture
def plugged() -> Callable[[Any], None]:
    def plug(disk: Any) -> None:
        native = disk.guest.native
        native.devices[0], native.device_count = disk.device.native, 1

    return plug


def test_a_store_to_what_is_read_only_faults_its_device(path: Path, plugged: Callable[[Any], None]) -> None:
    """PMEM-3: where the guest's own tables let it pass."""
    with pmem_guest(path, read_only=True) as disk:
        plugged(disk)
        gpa = disk.device.native.region_gpa
        assert access(disk.guest.native, gpa - 1, True) is None
        assert access(disk.guest.native, gpa + SIZE, True) is None
        assert not disk.device.native.state.status & VIRTIO_STATUS.NEEDS_RESET
        assert access(disk.guest.native, gpa + SIZE - 1, True) is None
        assert disk.device.wait_fault() == "PMEM-3"
        assert access(disk.guest.native, gpa, False) == 0
        disk.guest.native.device_count = 0


def test_what_is_not_there_ends_the_machine(path: Path, plugged: Callable[[Any], None]) -> None:
    """PMEM-6."""
    with pmem_guest(path) as disk:
        plugged(disk)
        gpa = disk.device.native.region_gpa
        assert access(disk.guest.native, gpa, True) == access(disk.guest.native, gpa + SIZE - 1, False) == 0
        assert access(disk.guest.native, gpa + SIZE, False) is None
        disk.guest.native.device_count = 0
