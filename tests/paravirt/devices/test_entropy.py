"""The entropy device, the plainest of the slow ones; and what they have in common: turns, failures, resets."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from paravirt._native import lib
from paravirt.devices.base import TURN_CHAINS
from paravirt.devices.entropy import CHAIN_BYTES, EntropyDevice
from paravirt.devices.queue import Chain
from tests.support.fake_guest import FakeGuest, PluggedDevice, Segment

pytestmark = pytest.mark.usefixtures("ring_format")

MIB = 1 << 20


@pytest.fixture
def guest() -> Iterator[FakeGuest]:
    with FakeGuest() as guest:
        yield guest


@pytest.fixture
def entropy(guest: FakeGuest) -> PluggedDevice:
    return guest.plug(EntropyDevice("entropy", guest.service))


def test_fills_buffers(guest: FakeGuest, entropy: PluggedDevice) -> None:
    driver = entropy.start()[0]
    rooms = [guest.take(size) for size in (64, 100, 1)]
    heads = [driver.add([Segment(rooms[0], 64, True)]), driver.add([Segment(rooms[1], 100, True)])]
    driver.publish()
    assert driver.wait(2) == {heads[0]: 64, heads[1]: 100}
    first, second = guest.read(rooms[0], 64), guest.read(rooms[1], 100)
    assert len(set(first)) > 30 and len(set(second)) > 40
    assert first != second[:64]
    assert guest.read(rooms[2], 1) == b"\0"


def test_large_room_is_filled_in_part(guest: FakeGuest, entropy: PluggedDevice) -> None:
    driver = entropy.start()[0]
    room = guest.take(MIB)
    head = driver.add([Segment(room, MIB, True)] * 3)
    driver.publish()
    assert driver.wait() == {head: CHAIN_BYTES}
    assert any(guest.read(room + CHAIN_BYTES - 16, 16))
    assert not any(guest.read(room + CHAIN_BYTES, MIB - CHAIN_BYTES))


def test_no_room(guest: FakeGuest, entropy: PluggedDevice) -> None:
    driver = entropy.start()[0]
    gpa = guest.place(b"mine")
    head = driver.add([Segment(gpa, 4)])
    driver.publish()
    assert driver.wait() == {head: 0}
    assert guest.read(gpa, 4) == b"mine"


def test_more_than_a_turn(guest: FakeGuest, entropy: PluggedDevice) -> None:
    """Nothing is forgotten between two turns, however many chains wait."""
    count = 2 * TURN_CHAINS + 7
    driver = entropy.start(size=256)[0]
    room = guest.take(16)
    for _ in range(5):
        for _ in range(count):
            driver.add([Segment(room, 16, True)])
        driver.publish()
        assert set(driver.wait(count).values()) == {16}
    assert entropy.device.statistics() == {"chains": 5 * count}


def test_chains_that_waited_for_the_driver(guest: FakeGuest, entropy: PluggedDevice) -> None:
    """A doorbell before DRIVER_OK is no reason to wait for another."""
    driver = entropy.start()[0]
    entropy.set_status(0)
    driver = entropy.start()[0]
    driver.add([Segment(guest.take(8), 8, True)])
    driver.show()
    assert lib.pv_device_notify(entropy.native, 0) == 0
    assert list(driver.wait().values()) == [8]


def test_fault(guest: FakeGuest, entropy: PluggedDevice) -> None:
    driver = entropy.start()[0]
    driver.add([Segment(0, 16, True)])  # no memory there
    driver.publish()
    assert entropy.wait_fault() == "VQ-3"
    driver = entropy.start()[0]
    driver.add([Segment(guest.take(16), 16, True)])
    driver.publish()
    assert list(driver.wait().values()) == [16]


class Failing(EntropyDevice):
    """Fails as a bug would."""

    def handle(self, queue: int, chain: Chain) -> int:
        raise ZeroDivisionError("a bug")


def test_exception_stops_the_device_alone(
    guest: FakeGuest, entropy: PluggedDevice, caplog: pytest.LogCaptureFixture
) -> None:
    failing = guest.plug(Failing("failing", guest.service))
    broken, sound = failing.start()[0], entropy.start()[0]
    broken.add([Segment(guest.take(8), 8, True)])
    broken.publish()
    assert failing.wait_fault() == "HOST"
    assert "device 'failing' failed and is stopped" in caplog.text
    assert "a bug" in caplog.text
    sound.add([Segment(guest.take(8), 8, True)])
    sound.publish()
    assert list(sound.wait().values()) == [8]


class Slow(EntropyDevice):
    """Is in the middle of something when the reset comes."""

    def __init__(self, name: str, guest: FakeGuest) -> None:
        super().__init__(name, guest.service)
        self.inside, self.go_on = threading.Event(), threading.Event()

    def handle(self, queue: int, chain: Chain) -> int:
        self.inside.set()
        assert self.go_on.wait(10)
        return super().handle(queue, chain)


def test_reset_waits_for_the_service_thread(guest: FakeGuest) -> None:
    slow = Slow("slow", guest)
    plugged = guest.plug(slow)
    driver = plugged.start()[0]
    room = guest.take(4096)
    for _ in range(8):
        driver.add([Segment(room, 4096, True)])
    driver.publish()
    assert slow.inside.wait(10)
    reset = threading.Thread(target=plugged.set_status, args=(0,))
    reset.start()
    time.sleep(0.02)
    assert reset.is_alive()
    slow.go_on.set()
    reset.join(10)
    assert not reset.is_alive()
    guest.write(room, bytes(4096))
    time.sleep(0.01)
    assert guest.read(room, 4096) == bytes(4096)


def test_many_lives(guest: FakeGuest) -> None:
    start = guest._next_gpa
    for number in range(100):
        guest._next_gpa = start
        plugged = guest.plug(EntropyDevice("entropy", guest.service))
        driver = plugged.start()[0]
        if number % 2:
            driver.add([Segment(guest.take(8), 8, True)])
            driver.publish()
        if number % 4 == 1:
            assert list(driver.wait().values()) == [8]
        plugged.unplug()
    assert len([t for t in threading.enumerate() if t.name == "devices"]) == 1


def test_doorbells_without_chains(guest: FakeGuest, entropy: PluggedDevice) -> None:
    entropy.start()
    for _ in range(1000):
        os.eventfd_write(int(entropy.native.queues[0].doorbell_fd), 1)
    assert not entropy.needs_reset
