"""The balloon device, with a driver in Python: lists that are good and bad, reports, statistics, another wish."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi.devices.virtio_balloon import BALLOON_CONFIG, BALLOON_STAT
from hypercall_abi.virtqueue import VIRTIO_STATUS
from paravirt._native import ffi, lib
from paravirt.devices.balloon import DEFLATE, INFLATE, STATISTICS, BalloonDevice
from tests.support.fake_guest import Driver, FakeGuest, PluggedDevice, Segment
from tests.support.waiting import wait_for

PAGE = 4096
PAGES = 16
MEMORY_BYTES = 8 << 20
OLD_REPORTS, REPORTS = 3, 4


@pytest.fixture
def guest() -> Iterator[FakeGuest]:
    with FakeGuest(MEMORY_BYTES) as guest:
        yield guest


@pytest.fixture
def balloon(guest: FakeGuest) -> PluggedDevice:
    return guest.plug(BalloonDevice("balloon", guest.service, guest.native, 3 * PAGE))


def full_pages(guest: FakeGuest) -> int:
    """The number of the first of PAGES that are full of 0x55."""
    gpa = guest.take(PAGES * PAGE, PAGE)
    guest.write(gpa, b"\x55" * PAGES * PAGE)
    return gpa // PAGE


def gone(guest: FakeGuest, first: int) -> list[int]:
    """Which of them read as zero; the others are whole."""
    found = []
    for index in range(PAGES):
        data = guest.read((first + index) * PAGE, PAGE)
        assert data in (bytes(PAGE), b"\x55" * PAGE)
        if data[0] == 0:
            found.append(index)
    return found


def send(driver: Driver, numbers: Sequence[int]) -> None:
    data = driver.guest.place(struct.pack(f"<{len(numbers)}I", *numbers))
    driver.add([Segment(data, 4 * len(numbers))])
    driver.publish()


def held_bytes(guest: FakeGuest) -> int:
    return int(guest.native.state.balloon_bytes)


def test_lists(guest: FakeGuest, balloon: PluggedDevice) -> None:
    drivers = balloon.start()
    first = full_pages(guest)
    send(drivers[INFLATE], [first + 1, first + 2, first + 7, first + 6])
    drivers[INFLATE].wait()
    assert gone(guest, first) == [1, 2, 6, 7]
    assert held_bytes(guest) == 4 * PAGE
    send(drivers[DEFLATE], [first + 1, first + 6])
    drivers[DEFLATE].wait()
    assert held_bytes(guest) == 2 * PAGE
    balloon.set_status(0)
    assert held_bytes(guest) == 0, "a driver that begins anew has nothing in it"


def test_a_list_longer_than_a_piece(guest: FakeGuest, balloon: PluggedDevice) -> None:
    drivers = balloon.start()
    first = full_pages(guest)
    send(drivers[INFLATE], [first + n % 3 for n in range(1300)])
    drivers[INFLATE].wait()
    assert gone(guest, first) == [0, 1, 2]


BAD = {
    "a page beyond memory": [(0x10_0000 + MEMORY_BYTES) // PAGE],
    "a page below memory": [0],
    "a run over the end": [(0x10_0000 + MEMORY_BYTES) // PAGE + n for n in (-1, 0, 1)],
    "the largest number": [0xFFFF_FFFF],
    "more than there are": [0x200] * (MEMORY_BYTES // PAGE + 1),
}


@pytest.mark.parametrize("numbers", BAD.values(), ids=BAD)
@pytest.mark.parametrize("queue", [INFLATE, DEFLATE])
def test_bad_lists_stop_the_device(guest: FakeGuest, balloon: PluggedDevice, queue: int, numbers: list[int]) -> None:
    """BAL-1."""
    send(balloon.start()[queue], numbers)
    assert balloon.wait_fault() == "BAL-1"
    drivers = balloon.start()
    send(drivers[INFLATE], [full_pages(guest)])
    assert drivers[INFLATE].wait()


def test_half_a_number(guest: FakeGuest, balloon: PluggedDevice) -> None:
    driver = balloon.start()[INFLATE]
    driver.add([Segment(guest.place(bytes(6)), 6)])
    driver.publish()
    assert balloon.wait_fault() == "BAL-1"


@pytest.mark.parametrize("queue", [OLD_REPORTS, REPORTS])
def test_reports(guest: FakeGuest, balloon: PluggedDevice, queue: int) -> None:
    """Whole pages of a buffer, and of a part of a page nothing."""
    driver = balloon.start()[queue]
    first = full_pages(guest)
    segments = [
        Segment(first * PAGE, 2 * PAGE, True),
        Segment((first + 4) * PAGE + 8, 2 * PAGE, True),
        Segment((first + 8) * PAGE + 8, PAGE - 8, True),
    ]
    head = driver.add(segments)
    driver.publish()
    assert driver.wait() == {head: 0}
    assert gone(guest, first) == [0, 1, 5]
    assert guest.native.reported_bytes == 3 * PAGE


def test_statistics(guest: FakeGuest, balloon: PluggedDevice) -> None:
    """The driver's buffer stays until newer ones are wanted."""
    driver = balloon.start()[STATISTICS]
    told = struct.pack("<HQHQHQ", BALLOON_STAT.FREE_MEMORY, 1 << 40, BALLOON_STAT.MAJOR_FAULTS, 7, 999, 1) + b"abc"
    head = driver.add([Segment(guest.place(told), len(told))])
    driver.publish()
    wait_for(lambda: "guest_free_memory_bytes" in balloon.device.statistics(), "the guest's statistics did not come")
    found = balloon.device.statistics()
    assert (found["guest_free_memory_bytes"], found["guest_major_faults"]) == (1 << 40, 7)
    assert not any("999" in name for name in found)
    balloon.device.statistics()
    assert driver.wait() == {head: 0}


def test_another_wish(guest: FakeGuest, balloon: PluggedDevice) -> None:
    balloon.start()
    assert isinstance(balloon.device, BalloonDevice)
    assert BALLOON_CONFIG.parse(balloon.config()).wanted_pages == 3
    actual = ffi.new("uint32_t *", 2)
    assert lib.pv_device_config_write(balloon.native, 4, actual, 4) == 0
    assert lib.pv_device_config_write(balloon.native, 0, actual, 4) < 0, "the wish is the device's"
    before = balloon.native.state.generation
    balloon.device.want(5 * PAGE)
    assert balloon.native.state.generation == before + 1
    config = BALLOON_CONFIG.parse(balloon.config())
    assert (config.wanted_pages, config.actual_pages) == (5, 2)
    assert balloon.device.statistics()["actual_bytes"] == 2 * PAGE
    assert balloon.native.state.interrupt_status & 2


@given(st.lists(st.integers(-2, PAGES + 1) | st.integers(0, (1 << 32) - 1), min_size=1, max_size=40))
def test_any_list(numbers: list[int]) -> None:
    """Nothing but pages that were named goes, and a bad number stops the device alone."""
    with FakeGuest(MEMORY_BYTES) as guest:
        balloon = guest.plug(BalloonDevice("balloon", guest.service, guest.native))
        driver = balloon.start()[INFLATE]
        first = full_pages(guest)
        named = [first + n if n < 2 * PAGES else n for n in numbers]
        good = [0x100 <= n < 0x100 + MEMORY_BYTES // PAGE for n in named]
        kept = [n for n in named if not first <= n < first + PAGES]
        if any(0x100 <= n < first for n in kept):
            return  # it would take the rings
        send(driver, named)
        if all(good):
            driver.wait()
            assert gone(guest, first) == sorted({n - first for n in named if first <= n < first + PAGES})
        else:
            assert balloon.wait_fault() == "BAL-1"
            assert set(gone(guest, first)) <= {n - first for n in named}
        assert not balloon.native.state.status & VIRTIO_STATUS.FAILED
