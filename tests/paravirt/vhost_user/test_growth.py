"""A served disk whose file grows: front ends that can be told are, others find it when they come again."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hypercall_abi.devices.virtio_block import BLOCK_STATUS
from paravirt.attachments.block_served import ServedDisk
from paravirt.config import Disk
from paravirt.devices.block_served import ServedBlockDevice
from paravirt.vhost_user.disk_back_end import DiskBackEnd
from paravirt.vhost_user.kinds import serve_block
from paravirt.vhost_user.messages import CONFIG, HEADER, U64, VERSION, BackendRequest, ProtocolFeature, Request
from tests.support.block_driver import SECTOR, BlockDriver
from tests.support.fake_guest import FakeGuest
from tests.support.front_end import Ended, FrontEndPuppet
from tests.support.served_device import InThread, wait_for

SECTORS = 64
MORE = random.Random(8).randbytes(SECTORS * SECTOR)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SECTORS * SECTOR))
    return path


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def back_end(image: Path, at: Path) -> Iterator[DiskBackEnd]:
    made = serve_block(Disk("disk", image), at)
    made.look_s = 0.01  # type: ignore[misc]
    with InThread(made):
        yield made


def grow(image: Path) -> None:
    with image.open("ab") as file:
        file.write(MORE)


def sectors(front_end: FrontEndPuppet) -> int:
    answer = front_end.ask(Request.GET_CONFIG, CONFIG.pack(0, 8, 0) + bytes(8))
    return int(struct.unpack_from("<Q", answer, CONFIG.size)[0])


@pytest.mark.usefixtures("back_end")
def test_our_driver_is_told(image: Path, at: Path) -> None:
    """It may read what is new at once."""
    with ExitStack() as kept:
        guest = kept.enter_context(FakeGuest())
        device = ServedBlockDevice("disk", ServedDisk("disk", at), guest.regions, lambda error: None)
        plugged = guest.plug(device)
        kept.callback(plugged.unplug)
        driver = BlockDriver(plugged, plugged.start()[0])
        assert driver.read(SECTORS, SECTOR).status == BLOCK_STATUS.IO_ERROR
        for turn in range(1, 4):
            grow(image)
            wanted = (turn + 1) * SECTORS
            wait_for(lambda wanted=wanted: struct.unpack("<Q", device.config()[:8])[0] == wanted, "not told")  # type: ignore[misc]
            assert driver.read(turn * SECTORS, SECTOR).data == MORE[:SECTOR]


@pytest.mark.usefixtures("back_end")
def test_who_gave_a_channel(image: Path, at: Path) -> None:
    ours, theirs = socket.socketpair()
    with FrontEndPuppet(at) as front_end, ours, theirs:
        front_end.start()
        assert front_end.told(Request.SET_BACKEND_REQ_FD, b"", [theirs.fileno()])
        ours.settimeout(20)
        assert sectors(front_end) == SECTORS
        grow(image)
        assert ours.recv(64) == HEADER.pack(BackendRequest.CONFIG_CHANGE, VERSION, 0)
        assert sectors(front_end) == 2 * SECTORS
        front_end.offer_read(SECTORS)
        wait_for(lambda: front_end.used() == 1, "no answer")


def test_who_gave_none(back_end: DiskBackEnd, image: Path, at: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line for each new size; whoever comes next has all of it."""
    with FrontEndPuppet(at) as front_end:
        front_end.start()
        for count in (1, 2):
            grow(image)
            wait_for(lambda count=count: caplog.text.count("cannot be told") == count, "no line")  # type: ignore[misc]
        assert f"its file has {3 * SECTORS * SECTOR} bytes now" in caplog.text
        assert sectors(front_end) == SECTORS
    with FrontEndPuppet(at) as front_end:
        front_end.begin()
        assert sectors(front_end) == 3 * SECTORS
    assert caplog.text.count("cannot be told") == 2
    assert back_end.device.statistics()["requests"] == 0


@pytest.mark.usefixtures("back_end")
def test_without_the_feature(at: Path) -> None:
    """A channel that was not agreed upon is refused."""
    ours, theirs = socket.socketpair()
    with FrontEndPuppet(at) as front_end, ours, theirs:
        front_end.ask(Request.GET_PROTOCOL_FEATURES)
        front_end.say(Request.SET_PROTOCOL_FEATURES, U64.pack(ProtocolFeature.REPLY_ACK | ProtocolFeature.CONFIG))
        assert not front_end.told(Request.SET_BACKEND_REQ_FD, b"", [theirs.fileno()])


@pytest.mark.parametrize("way", ["closed", "full"])
def test_who_does_not_listen(
    back_end: DiskBackEnd, image: Path, at: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Nobody waits for such a front end: its session ends."""
    ours, theirs = socket.socketpair()
    with FrontEndPuppet(at) as front_end, ours, theirs:
        front_end.start()
        if way == "full":
            theirs.setblocking(False)
            with pytest.raises(BlockingIOError):
                while theirs.send(bytes(1 << 16)):
                    pass
        assert front_end.told(Request.SET_BACKEND_REQ_FD, b"", [theirs.fileno()])
        if way == "full":
            os.set_blocking(theirs.fileno(), True)  # it is asked for each message
        else:
            ours.close()
        grow(image)
        with pytest.raises(Ended):
            front_end.answer()
    assert "does not hear that its configuration changed" in caplog.text
    wait_for(lambda: back_end.session is None, "the session does not end")
