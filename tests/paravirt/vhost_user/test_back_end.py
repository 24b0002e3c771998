"""Our devices as other hypervisors have them: our own front end, session after session, in one process or two."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.devices.virtio_block import BLOCK_STATUS
from paravirt.attachments.block_served import ServedDisk
from paravirt.attachments.net import Net
from paravirt.cli import main
from paravirt.config import Disk
from paravirt.devices.block import BlockDevice
from paravirt.devices.block_served import ServedBlockDevice
from paravirt.devices.net_served import ServedNetDevice
from paravirt.vhost_user.back_end import BackEnd
from paravirt.vhost_user.kinds import serve_entropy, serve_net
from paravirt.vhost_user.messages import U64, VRING_STATE, Request
from tests.support.block_driver import SECTOR, BlockDriver
from tests.support.fake_guest import FakeGuest, Segment
from tests.support.front_end import FrontEndPuppet
from tests.support.net_driver import HEADER, MAC, NetDriver, frame
from tests.support.served_device import InProcess, InThread, wait_for

SECTORS = 2048


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(7).randbytes(SECTORS * SECTOR))
    return path


@pytest.fixture
def guest() -> Iterator[FakeGuest]:
    with FakeGuest() as guest:
        yield guest


def front_end(guest: FakeGuest, path: Path, kept: ExitStack, *, read_only: bool = False) -> Any:
    device = ServedBlockDevice("disk", ServedDisk("disk", path, read_only), guest.regions, lambda error: None)
    plugged = guest.plug(device)
    kept.callback(plugged.unplug)
    return plugged


def serves(image: Path, *, engine: Any = "auto", queues: int = 2, poll_ns: int = 0, **options: Any) -> InThread:
    device = BlockDevice("disk", Disk("disk", image, **options), engine, poll_ns, queues=queues)
    return InThread(BackEnd(device, image.with_name("disk.sock")))


@pytest.mark.parametrize("engine", ["auto", "threads"])
@pytest.mark.parametrize("indirect", [False, True])
def test_one_driver_after_the_other(guest: FakeGuest, image: Path, engine: str, indirect: bool) -> None:
    """Each finds what the one before has written, over two sessions with two drivers each."""
    data = image.read_bytes()
    with serves(image, engine=engine) as back_end:
        for session in range(2):
            with ExitStack() as kept:
                plugged = front_end(guest, image.with_name("disk.sock"), kept)
                assert plugged.native.queue_count == 2
                for turn in range(2):
                    drivers = [BlockDriver(plugged, each, indirect=indirect) for each in plugged.start()]
                    for number, driver in enumerate(drivers):
                        sector = 8 * (4 * session + 2 * turn + number)
                        before = data[sector * SECTOR : (sector + 1) * SECTOR]
                        assert driver.read(sector, SECTOR).data == before
                        assert driver.write(sector, before[::-1]).status == BLOCK_STATUS.OK
                        assert driver.read(sector, SECTOR).data == before[::-1]
                        assert driver.flush().status == BLOCK_STATUS.OK
        assert back_end.sessions == 2
        statistics = back_end.device.statistics()
        assert statistics["written_bytes"] == 8 * SECTOR
    assert not image.with_name("disk.sock").exists()


def test_nothing_is_left_behind(guest: FakeGuest, image: Path) -> None:
    fds = set(os.listdir("/proc/self/fd"))
    maps = Path("/proc/self/maps").read_text().count("memfd:fake-guest")
    with serves(image) as back_end:
        for _ in range(2):
            with ExitStack() as kept:
                plugged = front_end(guest, image.with_name("disk.sock"), kept)
                BlockDriver(plugged, plugged.start()[0]).read(0, SECTOR)
        wait_for(lambda: back_end.machine.memory.count == 0, "guest memory stays mapped")
    assert set(os.listdir("/proc/self/fd")) == fds
    assert Path("/proc/self/maps").read_text().count("memfd:fake-guest") == maps


def test_read_only(guest: FakeGuest, image: Path) -> None:
    with serves(image, read_only=True), ExitStack() as kept:
        plugged = front_end(guest, image.with_name("disk.sock"), kept, read_only=True)
        driver = BlockDriver(plugged, plugged.start()[0])
        assert driver.write(0, bytes(SECTOR)).status == BLOCK_STATUS.IO_ERROR
        assert driver.read(0, SECTOR).data == image.read_bytes()[:SECTOR]


def test_killed_under_load(guest: FakeGuest, image: Path) -> None:
    """Requests that were in flight when it died are answered by the next one."""
    rng = random.Random(5)
    wanted = bytearray(image.read_bytes())
    path = image.with_name("disk.sock")
    with InProcess(path, "block", "--disk", f"{image},queues=1") as process, ExitStack() as kept:
        plugged = front_end(guest, path, kept)
        driver = BlockDriver(plugged, plugged.start(size=64)[0])
        for turn in range(4):
            sectors = rng.sample(range(SECTORS), 20)
            requests = []
            for sector in sectors:
                data = rng.randbytes(SECTOR)
                wanted[sector * SECTOR : (sector + 1) * SECTOR] = data
                requests.append(driver.lay_out(1, sector, data))
            driver.send(*requests)
            process.kill()
            process.start()
            assert all(answer.status == BLOCK_STATUS.OK for _, answer in driver.finish(20))
            wait_for(lambda turn=turn: plugged.device.statistics()["reconnects"] == turn + 1, "not found again")  # type: ignore[misc]
        assert driver.flush().status == BLOCK_STATUS.OK
        status, said = process.stop()
    assert (status, said) == (143, "paravirt: terminated\n")
    assert not path.exists()
    assert image.read_bytes() == wanted


def test_a_request_that_breaks_a_rule(guest: FakeGuest, image: Path, caplog: pytest.LogCaptureFixture) -> None:
    """BLK-3, found behind the socket: the driver is told on this side of it, each time, and mends it by a reset."""
    with serves(image) as back_end, ExitStack() as kept:
        plugged = front_end(guest, image.with_name("disk.sock"), kept)
        for turn in range(1, 4):
            driver = BlockDriver(plugged, plugged.start()[0])
            assert driver.read(0, SECTOR).status == BLOCK_STATUS.OK
            driver.driver.add([Segment(guest.take(SECTOR), SECTOR, True)])  # no header
            driver.driver.publish()
            assert plugged.wait_fault() == "HOST"
            assert caplog.text.count("broke rule BLK-3") == turn
            assert caplog.text.count("its back end says that a queue is in error") == turn
        assert back_end.sessions == 3
        assert BlockDriver(plugged, plugged.start()[0]).read(0, SECTOR).status == BLOCK_STATUS.OK


@pytest.mark.parametrize("packed", [False, True])
def test_frames(tmp_path: Path, guest: FakeGuest, packed: bool) -> None:
    """Both ways, over two pairs of which the second is used when the driver asks for it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(20)
    path = tmp_path / "lan.sock"
    with ours, its, InThread(serve_net(Net("lan", f"fd:{its.fileno()}"), path)) as back_end:
        for seed in range(3):
            net = Net("lan", f"vhost:{path}", MAC)
            plugged = guest.plug(ServedNetDevice("lan", net, guest.service, guest.regions, lambda error: None))
            driver = NetDriver(plugged, *plugged.start(packed=packed)[:2])
            driver.transmit(frame(60, seed))
            driver.sent()
            assert ours.recv(2048) == frame(60, seed)
            driver.offer((HEADER + 1514,))
            ours.send(frame(200, seed))
            (got,) = driver.take()
            assert got[HEADER:] == frame(200, seed)
            plugged.unplug()
        assert back_end.queue_number == 1
        assert back_end.device.statistics()["sent_frames"] == 3


def test_random_bytes(tmp_path: Path) -> None:
    """Two front ends one after the other, each with memory in pieces that come and go."""
    with ExitStack() as kept:
        served = kept.enter_context(InThread(serve_entropy("random", tmp_path / "s")))
        got = set()
        for _ in range(2):
            with FrontEndPuppet(tmp_path / "s") as front_end:
                front_end.begin()
                (slots,) = U64.unpack(front_end.ask(Request.GET_MAX_MEM_SLOTS))
                assert slots == 8
                assert front_end.add_region()
                front_end.describe()
                assert front_end.kick()
                for count in range(1, 4):
                    at = front_end.offer_room(64)
                    wait_for(lambda count=count: front_end.used() == count, "no random bytes")  # type: ignore[misc]
                    got.add(bytes(front_end.memory[at : at + 64]))
                assert front_end.add_region()  # as QEMU does
                assert front_end.remove_region()
                assert served.queues[0].running
                assert front_end.remove_region()
                assert not served.queues[0].running
        assert len(got) == 6
        assert bytes(64) not in got


def test_memory_that_changes(image: Path) -> None:
    """The table comes again while the queue is in use, with more in it: requests go on."""
    with serves(image) as _, FrontEndPuppet(image.with_name("disk.sock")) as front_end:
        front_end.start()
        for turn in range(1, 9):
            at = front_end.offer_read(turn)
            if turn % 2:
                assert front_end.share()
            wait_for(lambda turn=turn: front_end.used() == turn, "no answer")  # type: ignore[misc]
            assert front_end.memory[at : at + SECTOR] == image.read_bytes()[turn * SECTOR : (turn + 1) * SECTOR]
        number, base = VRING_STATE.unpack(front_end.ask(Request.GET_VRING_BASE, VRING_STATE.pack(0, 0)))
        assert (number, base) == (0, 8)
        front_end.describe(base=base)
        assert front_end.kick()
        front_end.offer_read(1)
        wait_for(lambda: front_end.used() == 9, "no answer after it was stopped and started")


@pytest.mark.parametrize("how", ["remove", "table"])
def test_memory_that_goes(image: Path, how: str) -> None:
    """A queue that is not in memory any more is where it was, and goes on from there; nothing is done twice."""
    with serves(image) as back_end, FrontEndPuppet(image.with_name("disk.sock")) as puppet:
        puppet.begin()
        assert puppet.add_region()
        puppet.describe()
        assert puppet.kick()
        for turn in range(1, 4):
            puppet.offer_read(turn)
            wait_for(lambda turn=turn: puppet.used() == turn, "no answer")  # type: ignore[misc]
            assert puppet.remove_region() if how == "remove" else puppet.told(Request.SET_MEM_TABLE, bytes(8))
            assert not back_end.queues[0].running
            assert puppet.add_region()
            assert puppet.told(Request.SET_VRING_ENABLE, VRING_STATE.pack(0, 1))
        assert puppet.remove_region()
        assert VRING_STATE.unpack(puppet.ask(Request.GET_VRING_BASE, VRING_STATE.pack(0, 0))) == (0, 3)
        assert back_end.device.statistics()["requests"] == 3


def test_no_interrupt_is_lost(image: Path) -> None:
    """What came back while the queue was not in use, or had another call: the driver is told when that is over."""

    def called() -> bool:
        try:
            return os.eventfd_read(puppet.call_fd) > 0
        except BlockingIOError:
            return False

    with serves(image) as _, FrontEndPuppet(image.with_name("disk.sock")) as puppet:
        puppet.start()
        assert called()
        assert puppet.share()
        assert called()
        assert puppet.told(Request.SET_VRING_CALL, U64.pack(0), [puppet.call_fd])
        assert called()
        assert puppet.told(Request.SET_VRING_CALL, U64.pack(1), [puppet.call_fd])
        assert puppet.told(Request.SET_VRING_ENABLE, VRING_STATE.pack(0, 0))
        assert not called()
        assert puppet.told(Request.SET_VRING_ENABLE, VRING_STATE.pack(0, 1))
        assert called()


@pytest.mark.parametrize("engine", ["auto", "threads"])
def test_another_kick(image: Path, engine: str) -> None:
    """Of a queue that is in use, and sleeps on the one before: doorbells come by the new one."""
    with serves(image, engine=engine), FrontEndPuppet(image.with_name("disk.sock")) as front_end:
        front_end.start()
        for turn in range(1, 4):
            front_end.offer_read(turn)
            wait_for(lambda turn=turn: front_end.used() == turn, "no answer")  # type: ignore[misc]
            os.close(front_end.kick_fd)
            front_end.kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            assert front_end.told(Request.SET_VRING_KICK, U64.pack(0), [front_end.kick_fd])


BAD = {
    "no file": (["block", "--disk", "{}/none.img"], 32, "none.img does not exist"),
    "served": (["block", "--disk", "vhost:x"], 2, "served by another program already"),
    "net served": (["net", "--net", "vhost:x"], 2, "served by another program already"),
    "no disk": (["block"], 2, "--disk"),
    "named": (["block", "--disk", "disk={}/none.img"], 2, "a NAME= is not written here: give /"),
    "disk option": (["block", "--disk", "/dev/null,foo=1"], 32, "'foo=1' is no further option of it; there are ,ro"),
    "net named": (["net", "--net", "lan=user"], 2, "is no link; give user, tap:INTERFACE, fd:NUMBER or loop,"),
    "net option": (["net", "--net", "user,patience=1"], 2, "is served; there are pairs=N, pps=N"),
    "mac": (["net", "--net", "loop,mac=02:00:00:00:00:01"], 2, "the mac is the front end's"),
    "mtu": (["net", "--net", "user,mtu=1500"], 2, "'mtu=1500': the mtu is the front end's"),
    "number": (["net", "--net", "fd:x"], 2, "is no link; write fd:NUMBER, or"),
    "no vsock": (["vsock"], 2, "--vsock"),
    "no interface": (["net", "--net", "tap:none0"], 38, "'none0' does not exist"),
    "poll": (["net", "--poll", "never"], 2, "never"),
    "no poll": (["entropy", "--poll", "off"], 2, "unrecognized arguments"),
    "option": (["vsock", "--vsock", "a,cid=x"], 2, "is not a vsock"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    words, status, text = BAD[name]
    arguments = [word.format(tmp_path) for word in words]
    assert main(["device", arguments[0], "--socket", str(tmp_path / "s"), *arguments[1:]]) == status
    said = capfd.readouterr().err
    assert text in said
    assert "NAME=LINK" not in said and "vhost:S" not in said, "they are for paravirt run"
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["x" * 120, "none/s", "file"])
def test_bad_sockets(tmp_path: Path, capfd: pytest.CaptureFixture[str], path: str) -> None:
    (tmp_path / "file").write_text("precious")
    assert main(["device", "entropy", "--socket", str(tmp_path / path)]) == 39
    assert "give" in capfd.readouterr().err
    assert (tmp_path / "file").read_text() == "precious"
