"""The virtio console: output within a budget, input as it comes and as there is room."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercall_abi.devices.virtio_console import CONSOLE_CONFIG, CONSOLE_FEATURE
from paravirt._native import lib
from paravirt.devices.console import INPUT, OUTPUT, ConsoleDevice
from paravirt.services.console import Console
from tests.support.fake_guest import Driver, FakeGuest, PluggedDevice, Segment

pytestmark = pytest.mark.usefixtures("ring_format")


class Screen:
    """Takes output up to a budget, as a machine does."""

    def __init__(self, budget: int = 1 << 20) -> None:
        self.text = b""
        self.budget = budget

    def write(self, data: bytes) -> bool:
        if len(self.text) + len(data) > self.budget:
            return False
        self.text += data
        return True


@pytest.fixture
def guest() -> Iterator[FakeGuest]:
    with FakeGuest() as guest:
        yield guest


def plug(guest: FakeGuest, screen: Screen, source: bytes | int = b"") -> PluggedDevice:
    console = Console(None, source)
    fd = source if isinstance(source, int) else None
    return guest.plug(ConsoleDevice("console", guest.service, screen.write, console.read, input_fd=fd))


def send(driver: Driver, *pieces: bytes) -> None:
    driver.add([Segment(driver.guest.place(piece), len(piece)) for piece in pieces])
    driver.publish()


def rooms(driver: Driver, count: int, size: int) -> dict[int, int]:
    """Gives `count` chains of room; head → GPA."""
    given = {}
    for _ in range(count):
        gpa = driver.guest.take(size)
        given[driver.add([Segment(gpa, size, True)])] = gpa
    driver.publish()
    return given


def receive(driver: Driver, given: dict[int, int], size_bytes: int) -> bytes:
    """What comes until there are `size_bytes` of it."""
    data = b""
    while len(data) < size_bytes:
        for head, length in driver.wait().items():
            data += driver.guest.read(given[head], length)
    return data


def test_output(guest: FakeGuest) -> None:
    screen = Screen()
    driver = plug(guest, screen).start()[OUTPUT]
    send(driver, b"Hello, ", b"world", b"\n")
    assert list(driver.wait().values()) == [0]
    assert screen.text == b"Hello, world\n"


def test_long_output(guest: FakeGuest) -> None:
    screen = Screen(4 << 20)
    driver = plug(guest, screen).start()[OUTPUT]
    text = bytes(range(256)) * 5000
    send(driver, text[:100_000], text[100_000:])
    driver.wait()
    assert screen.text == text


def test_output_beyond_the_budget(guest: FakeGuest) -> None:
    """It is thrown away, and the driver gets its buffers back."""
    screen = Screen(100)
    driver = plug(guest, screen).start()[OUTPUT]
    send(driver, b"a" * 90)
    send(driver, b"b" * 90)
    send(driver, b"c" * 10)
    assert len(driver.wait(3)) == 3
    assert screen.text == b"a" * 90 + b"c" * 10


def test_endless_output_costs_no_more_than_the_budget(guest: FakeGuest) -> None:
    """A chain of the same megabytes again and again."""
    screen = Screen(64 << 10)
    driver = plug(guest, screen).start()[OUTPUT]
    gpa = guest.take(4 << 20)
    driver.add([Segment(gpa, 4 << 20)] * 60)
    driver.publish()
    driver.wait()
    assert len(screen.text) == 64 << 10


def test_room_in_the_output_queue(guest: FakeGuest) -> None:
    screen = Screen()
    driver = plug(guest, screen).start()[OUTPUT]
    gpa = guest.place(b"mine")
    driver.add([Segment(gpa, 4, True)])
    driver.publish()
    assert list(driver.wait().values()) == [0]
    assert (screen.text, guest.read(gpa, 4)) == (b"", b"mine")


def test_input_that_was_there(guest: FakeGuest) -> None:
    driver = plug(guest, Screen(), b"one two three").start()[INPUT]
    given = rooms(driver, 4, 5)
    assert receive(driver, given, 13) == b"one two three"
    time.sleep(0.01)
    assert driver.collect() == {}  # the fourth waits


def test_input_that_comes(guest: FakeGuest) -> None:
    reader, writer = os.pipe()
    try:
        device = plug(guest, Screen(), reader)
        driver = device.start()[INPUT]
        given = rooms(driver, 8, 16)
        time.sleep(0.01)
        assert driver.collect() == {}
        for text in (b"a", b"second", b"the third is longer than the room"):
            os.write(writer, text)
            assert receive(driver, given, len(text)) == text
    finally:
        os.close(reader)
        os.close(writer)


def test_input_waits_for_room(guest: FakeGuest) -> None:
    reader, writer = os.pipe()
    try:
        device = plug(guest, Screen(), reader)
        driver = device.start()[INPUT]
        os.write(writer, b"early")
        time.sleep(0.01)
        cpu = time.process_time()
        time.sleep(0.05)
        assert time.process_time() - cpu < 0.04  # no one turns round and round
        assert receive(driver, rooms(driver, 1, 3), 3) == b"ear"
        assert receive(driver, rooms(driver, 1, 3), 2) == b"ly"
    finally:
        os.close(reader)
        os.close(writer)


def test_end_of_input(guest: FakeGuest) -> None:
    reader, writer = os.pipe()
    driver = plug(guest, Screen(), reader).start()[INPUT]
    given = rooms(driver, 3, 8)
    os.write(writer, b"last")
    os.close(writer)
    assert receive(driver, given, 4) == b"last"
    time.sleep(0.02)
    cpu = time.process_time()
    time.sleep(0.05)
    assert time.process_time() - cpu < 0.04
    assert driver.collect() == {}
    os.close(reader)


@pytest.mark.parametrize("name", ["file", "/dev/null"])
def test_input_of_any_kind(guest: FakeGuest, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    expected = b"from a file" if name == "file" else b""
    fd = os.open(tmp_path / name, os.O_RDONLY)
    try:
        driver = plug(guest, Screen(), fd).start()[INPUT]
        assert receive(driver, rooms(driver, 2, 64), len(expected)) == expected
    finally:
        guest.service.close()
        os.close(fd)


def test_reset_takes_the_room_back(guest: FakeGuest) -> None:
    """Input after a reset goes to the new driver's room, not to the old one's."""
    reader, writer = os.pipe()
    try:
        device = plug(guest, Screen(), reader)
        old = rooms(device.start()[INPUT], 1, 8)
        time.sleep(0.01)
        driver = device.start()[INPUT]
        os.write(writer, b"new")
        assert receive(driver, rooms(driver, 1, 8), 3) == b"new"
        assert guest.read(next(iter(old.values())), 8) == bytes(8)
    finally:
        os.close(reader)
        os.close(writer)


def test_emergency_write(guest: FakeGuest) -> None:
    screen = Screen()
    device = plug(guest, screen)
    device.start()
    assert device.native.offered[0] & CONSOLE_FEATURE.EMERGENCY_WRITE
    for character in b"!?":
        data = character.to_bytes(4, "little")
        assert lib.pv_device_config_write(device.native, CONSOLE_CONFIG.offset("emergency"), data, 4) == 0
    assert screen.text == b"!?"


class Broken(Screen):
    """A sink that raises."""

    def write(self, data: bytes) -> bool:
        raise BrokenPipeError("nobody listens")


def test_sink_that_raises(guest: FakeGuest, caplog: pytest.LogCaptureFixture) -> None:
    device = plug(guest, Broken())
    drivers = device.start()
    assert lib.pv_device_config_write(device.native, CONSOLE_CONFIG.offset("emergency"), b"!\0\0\0", 4) == 0
    assert device.wait_fault() == "HOST"
    assert "nobody listens" in caplog.text
    send(drivers[OUTPUT], b"more")
    time.sleep(0.01)
    assert drivers[OUTPUT].collect() == {}


def test_no_room_does_not_end_the_input_and_any_descriptor_will_do() -> None:
    read_end, write_end = os.pipe()
    high = fcntl.fcntl(read_end, fcntl.F_DUPFD_CLOEXEC, 1500)
    try:
        console = Console(None, high)
        os.write(write_end, b"input")
        assert console.read(0) == b""
        assert console.read(10) == b"input"
    finally:
        for fd in (read_end, write_end, high):
            os.close(fd)
