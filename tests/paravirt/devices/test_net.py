"""virtio-net over socket pairs: framing, merged chains, what does not fit, and hostile chains."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hypercall_abi.devices.virtio_net import (
    NET_CONFIG,
    NET_CONTROL_STATUS,
    NET_FEATURE,
    NET_HEADER,
    NET_HEADER_FLAG,
    NET_SEGMENTATION,
)
from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt.attachments.net import Net
from paravirt.devices.net import NetDevice
from paravirt.errors import OutputError
from tests.support.fake_guest import FakeGuest, Segment
from tests.support.net_driver import HEADER, MAC, NetDriver, control, frame, header, net_guest
from tests.support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("ring_format")

KINDS = [socket.SOCK_SEQPACKET, socket.SOCK_DGRAM]


def until(condition: Callable[[], bool]) -> None:
    """Waits for `condition`."""
    wait_for(condition, "what was waited for did not come")


def counted(driver: NetDriver, name: str, count: int) -> None:
    """Waits until the statistic `name` is that."""
    until(lambda: driver.device.device.statistics()[name] == count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [14, 60, 1514, 9000, 65_000])
def test_frames_are_sent_as_they_are(kind: socket.SocketKind, size: int) -> None:
    with net_guest(kind) as (driver, link):
        driver.transmit(frame(size))
        assert link.recv(1 << 17) == frame(size)
        driver.sent()
        counted(driver, "sent_frames", 1)
        counted(driver, "sent_bytes", size)


@pytest.mark.parametrize("pieces", [(12,), (5,), (1, 1, 30), (13, 200), (12, 14)])
def test_framing_is_free(pieces: tuple[int, ...]) -> None:
    with net_guest() as (driver, link):
        driver.transmit(frame(500), pieces=pieces)
        assert link.recv(4096) == frame(500)
        driver.offer([*pieces, 1600])
        link.send(frame(400))
        (got,) = driver.take()
        assert got[HEADER:] == frame(400)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_received_in_order(kind: socket.SocketKind, packed: bool) -> None:
    with net_guest(kind, packed=packed) as (driver, link):
        driver.offer(*[[1600]] * 40)
        for n in range(40):
            link.send(frame(60 + n, n))
        got = driver.take(40)
        assert [data[HEADER:] for data in got] == [frame(60 + n, n) for n in range(40)]
        assert all(data[:HEADER] == header(chains=1) for data in got)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("without", [0, VIRTIO_FEATURE.IN_ORDER])
def test_a_frame_lies_in_several_chains(packed: bool, without: int) -> None:
    with net_guest(packed=packed, without=without) as (driver, link):
        driver.offer(*[[100]] * 12)
        link.send(frame(1000))
        got = driver.take(11)
        assert NET_HEADER.parse(got[0][:HEADER]).chains == 11
        assert b"".join(got)[HEADER:] == frame(1000)
        link.send(frame(60, 9))
        assert driver.take()[0] == header(chains=1) + frame(60, 9)


def test_without_merging_a_frame_has_one_chain() -> None:
    with net_guest(without=NET_FEATURE.MRG_RXBUF) as (driver, link):
        driver.offer([100], [100])
        link.send(frame(89))  # with its header a byte too long
        counted(driver, "receive_dropped_size", 1)
        link.send(frame(88))
        assert driver.take()[0] == header(chains=1) + frame(88)


def test_what_does_not_fit_is_dropped_whole() -> None:
    with net_guest() as (driver, link):
        driver.offer([64], [64])
        link.send(frame(200))
        counted(driver, "receive_dropped_size", 1)
        link.send(frame(60))
        got = b"".join(driver.take(2))
        assert got == header(chains=2) + frame(60)


def test_without_room_frames_wait_in_the_link() -> None:
    with net_guest() as (driver, link):
        for n in range(5):
            link.send(frame(100, n))
        for n in range(5):
            driver.offer([1600])
            assert driver.take()[0][HEADER:] == frame(100, n)
        assert not any(n for name, n in driver.device.device.statistics().items() if "dropped" in name)


@pytest.mark.parametrize("packed", [False, True])
def test_a_full_link_makes_the_driver_wait(packed: bool) -> None:
    with net_guest(poll_ns=0, packed=packed) as (driver, link):
        for n in range(60):
            driver.transmit(frame(20_000, n))
        assert [link.recv(1 << 16) for _ in range(60)] == [frame(20_000, n) for n in range(60)]
        driver.sent(60)
        counted(driver, "sent_frames", 60)


def test_a_stream_has_lengths_between_frames() -> None:
    with net_guest(socket.SOCK_STREAM) as (driver, link):
        driver.transmit(frame(300))
        assert link.recv(4096) == (300).to_bytes(4, "big") + frame(300)
        driver.offer(*[[1600]] * 3)
        stream = b"".join(len(f).to_bytes(4, "big") + f for f in (frame(60), frame(1514, 1), frame(61, 2)))
        for at in range(0, len(stream), 77):  # in pieces that know no frames
            link.send(stream[at : at + 77])
        assert [data[HEADER:] for data in driver.take(3)] == [frame(60), frame(1514, 1), frame(61, 2)]


def test_a_full_stream_makes_the_driver_wait() -> None:
    with net_guest(socket.SOCK_STREAM, poll_ns=0) as (driver, link):
        for n in range(60):
            driver.transmit(frame(20_000, n))
        expected = b"".join((20_000).to_bytes(4, "big") + frame(20_000, n) for n in range(60))
        got = b""
        while len(got) < len(expected):
            got += link.recv(1 << 20)
        assert got == expected
        driver.sent(60)


@pytest.mark.parametrize("length", [0, 1 << 20, 0xFFFF_FFFF])
def test_a_stream_out_of_step_is_lost(length: int) -> None:
    with net_guest(socket.SOCK_STREAM) as (driver, link):
        driver.offer([1600])
        link.send(length.to_bytes(4, "big") + bytes(100))
        counted(driver, "links_lost", 1)
        driver.transmit(frame(60))
        driver.sent()
        counted(driver, "send_dropped_refused", 1)


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_the_other_end_goes_away(kind: socket.SocketKind) -> None:
    with net_guest(kind) as (driver, link):
        driver.offer([1600])
        link.close()
        counted(driver, "links_lost", 1)
        driver.transmit(frame(60))
        driver.sent()
        counted(driver, "send_dropped_refused", 1)
        assert not driver.device.needs_reset


def test_an_empty_message_is_no_frame_and_no_end() -> None:
    with net_guest(socket.SOCK_SEQPACKET) as (driver, link):
        driver.offer([1600], [1600], [1600])
        link.send(b"")
        link.send(frame(60))
        assert driver.take()[0][HEADER:] == frame(60)
        link.send(b"")
        link.send(frame(61))
        link.shutdown(socket.SHUT_WR)
        assert driver.take()[0][HEADER:] == frame(61)
        counted(driver, "links_lost", 1)


def test_a_link_that_is_down() -> None:
    with net_guest() as (driver, link):
        device = driver.device.device
        assert isinstance(device, NetDevice)
        assert NET_CONFIG.parse(driver.device.config()).status == 1
        before = driver.device.native.state.generation
        device.set_up(False)
        assert NET_CONFIG.parse(driver.device.config()).status == 0
        assert driver.device.native.state.generation == before + 1
        os.eventfd_read(driver.device.interrupt_fd)  # the driver was told
        driver.transmit(frame(60))
        driver.sent()
        driver.offer([1600])
        link.send(frame(60))
        counted(driver, "send_dropped_down", 1)
        counted(driver, "receive_dropped_down", 1)
        device.set_up(True)
        driver.transmit(frame(61))
        assert link.recv(4096) == frame(61)
        link.send(frame(62))
        assert driver.take()[0][HEADER:] == frame(62)


@pytest.mark.parametrize("size", [1, 11])
def test_a_chain_to_send_without_a_header(size: int) -> None:
    with net_guest() as (driver, _):
        driver.send.add((Segment(driver.guest.place(bytes(size)), size),))
        driver.send.publish()
        assert driver.device.wait_fault() == "NET-1"


def test_a_chain_to_receive_without_room_for_a_header() -> None:
    with net_guest() as (driver, _):
        driver.offer([11])
        assert driver.device.wait_fault() == "NET-2"


@pytest.mark.parametrize(
    "head",
    [
        header(flags=NET_HEADER_FLAG.NEEDS_CHECKSUM),
        header(segmentation=NET_SEGMENTATION.TCP4),
        header(segmentation=3),
        header(segmentation=0x81),
    ],
)
def test_a_header_that_was_not_agreed_on(head: bytes) -> None:
    with net_guest() as (driver, _):  # a socket takes finished frames alone
        driver.transmit(frame(60), head=head)
        assert driver.device.wait_fault() == "NET-3"


def test_a_queue_is_reset_and_used_again() -> None:
    with net_guest() as (driver, link):
        for n in range(3):
            driver.device.set_status(0)
            receive, send = driver.device.start()
            again = NetDriver(driver.device, receive, send)
            again.offer(*[[1600]] * 8)
            again.transmit(frame(60, n))
            assert link.recv(4096) == frame(60, n)
            link.send(frame(61, n))
            assert again.take()[0][HEADER:] == frame(61, n)


def test_several_pairs_and_control() -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    with FakeGuest() as guest:
        link = "fd:" + "+".join(str(its.fileno()) for _, its in pairs)
        plugged = guest.plug(NetDevice("net", Net("net", link, MAC, pairs=3), 0))
        assert NET_CONFIG.parse(plugged.config()).pairs == 3
        drivers = plugged.start(size=16)
        for n, (ours, _) in enumerate(pairs):
            ours.settimeout(20)
            driver = NetDriver(plugged, drivers[2 * n], drivers[2 * n + 1])
            driver.transmit(frame(60, n))
            assert ours.recv(4096) == frame(60, n)
            driver.offer([1600])
            ours.send(frame(61, n))
            assert driver.take()[0][HEADER:] == frame(61, n)
        for count, status in ((3, "OK"), (1, "OK"), (0, "ERROR"), (4, "ERROR")):
            assert control(drivers[6], guest, count) == getattr(NET_CONTROL_STATUS, status)
        assert control(drivers[6], guest, 1, kind=9) == NET_CONTROL_STATUS.ERROR
        assert control(drivers[6], guest, 1, command=1) == NET_CONTROL_STATUS.ERROR
    for pair in pairs:
        for end in pair:
            end.close()


def test_control_without_pairs_lies_behind_the_first() -> None:
    ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    with FakeGuest() as guest:
        link = "fd:" + "+".join(str(its.fileno()) for _, its in ends)
        plugged = guest.plug(NetDevice("net", Net("net", link, MAC, pairs=2), 0))
        drivers = plugged.start(without=NET_FEATURE.MQ, size=16)
        assert control(drivers[2], guest, 1) == NET_CONTROL_STATUS.ERROR
        assert not plugged.needs_reset
    for pair in ends:
        for end in pair:
            end.close()


def test_a_limit_of_frames_holds_them_back_and_loses_none() -> None:
    with net_guest(net={"frames_per_second": 200}) as (driver, link):
        driver.offer(*[[200]] * 50)
        began = time.monotonic()
        for n in range(50):  # 20 go at once, the others take 150 ms and more
            driver.transmit(frame(60, n))
            link.send(frame(60, n))
        assert [link.recv(4096) for _ in range(50)] == [frame(60, n) for n in range(50)]
        assert [data[HEADER:] for data in driver.take(50)] == [frame(60, n) for n in range(50)]
        driver.sent(50)
        assert time.monotonic() - began > 0.1
        assert not any(n for name, n in driver.device.device.statistics().items() if "dropped" in name)


def test_a_limit_of_bytes_is_for_each_direction() -> None:
    with net_guest(net={"bytes_per_second": 100_000}) as (driver, link):
        began = time.monotonic()
        for n in range(15):  # 10 000 go at once
            driver.transmit(frame(2_000, n))
        assert [link.recv(4096) for _ in range(15)] == [frame(2_000, n) for n in range(15)]
        assert time.monotonic() - began > 0.1
        driver.offer([1600])
        link.send(frame(60))
        assert driver.take()[0][HEADER:] == frame(60)


def packets(path: Path) -> list[tuple[int, bytes]]:
    """Direction and bytes of the packets in a capture, and of each section's end that its counts are right."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert struct.unpack_from("<I", data, at + size - 4) == (size,)
        if kind == 1:
            assert struct.unpack_from("<H", data, at + 8) == (1,)  # Ethernet
        elif kind == 6:
            captured, original = struct.unpack_from("<II", data, at + 20)
            assert captured == original
            tail = at + size - 16
            assert struct.unpack_from("<HH", data, tail) == (2, 4)
            found.append((struct.unpack_from("<I", data, tail + 4)[0], data[at + 28 : at + 28 + captured]))
        elif kind == 5:
            assert struct.unpack_from("<HHQHHQ", data, at + 20) == (4, 8, len(found), 5, 8, 0)
        at += size
    return found


def test_a_capture_has_what_passed(tmp_path: Path) -> None:
    path = tmp_path / "lan.pcapng"
    with net_guest(net={"capture": path}) as (driver, link):
        for n in range(5):
            driver.transmit(frame(60 + n, n), pieces=(20, 30))
            assert link.recv(4096) == frame(60 + n, n)
            driver.offer([40], [100])
            link.send(frame(80 + n, n))
            driver.take(2)
    assert packets(path) == [packet for n in range(5) for packet in ((2, frame(60 + n, n)), (1, frame(80 + n, n)))]


def test_a_capture_that_cannot_be_written(tmp_path: Path) -> None:
    guest = net_guest(net={"capture": tmp_path / "no" / "lan.pcapng"})
    with pytest.raises(OutputError, match="cannot write the capture of 'net'"):
        guest.__enter__()


def test_a_reader_that_does_not_read_does_not_keep_the_machine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with net_guest(net={"capture": path}) as (driver, link):
        for n in range(8):  # more than a pipe holds
            driver.transmit(frame(20_000, n))
            assert link.recv(1 << 16) == frame(20_000, n)
    assert "is not complete: Connection timed out" in caplog.text
    os.close(reader)


def test_a_reader_that_goes_away_costs_the_capture_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with net_guest(net={"capture": path}) as (driver, link):
        os.close(reader)
        driver.transmit(frame(60))
        assert link.recv(4096) == frame(60)
        counted(driver, "capture_lost", 1)
    assert "is not complete" in caplog.text
