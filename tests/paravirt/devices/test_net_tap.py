"""virtio-net over a TAP device: checksums and large segments are the kernel's work, both ways."""

from __future__ import annotations

import os
import platform
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.devices.virtio_net import (
    NET_CONTROL_STATUS,
    NET_FEATURE,
    NET_HEADER,
    NET_HEADER_FLAG,
    NET_SEGMENTATION,
)
from paravirt._native import ffi, lib
from paravirt.attachments.net import Net
from paravirt.devices.net import NetDevice, whole
from paravirt.errors import HostCallFailed
from tests.paravirt.devices.test_net import counted, until
from tests.support.fake_guest import FakeGuest, Segment
from tests.support.net_driver import HEADER, MAC, NetDriver, control, frame, header
from tests.support.station import GUEST, OURS, checksum
from tests.support.tap import await_up, needed_tap
from tests.support.threads import asleep

pytestmark = pytest.mark.rights

SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETH_P_ALL, ETH_P_IP = 3, 0x0800
TCP_START, TCP_SUM = 34, 16
SEGMENT = 1000


BURST = 30
SECOND = "net1 net"  # a thread
LARGE = NET_FEATURE.GUEST_TSO4 | NET_FEATURE.GUEST_TSO6


@contextmanager
def tap_guest(
    *, without: int = 0, pairs: int = 1, net: dict[str, Any] | None = None, memory_bytes: int = 8 << 20
) -> Iterator[tuple[NetDriver, socket.socket]]:
    """A driver of a network on a TAP device, and a packet socket at the device's other side."""
    with needed_tap("pv0", pairs=pairs), FakeGuest(memory_bytes) as guest:
        host = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        host.bind(("pv0", ETH_P_ALL))
        host.settimeout(20)
        plugged = guest.plug(NetDevice("net", Net("net", "tap:pv0", MAC, pairs=pairs, **net or {}), 20_000))
        drivers = plugged.start(without=without)
        await_up("pv0")
        with host:
            yield NetDriver(plugged, *drivers), host


def large_segment(size_bytes: int, source: str, to: str) -> bytes:
    """A TCP segment larger than a frame, its checksum that of the pseudo-header alone."""
    length = 20 + size_bytes
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, 64, 6, 0)
    addresses = socket.inet_aton(source) + socket.inet_aton(to)
    ip = ip[:10] + struct.pack(">H", checksum(ip + addresses)) + addresses
    pseudo = ~checksum(addresses + struct.pack(">HH", 6, length)) & 0xFFFF
    tcp = struct.pack(">HHIIBBHHH", 5000, 5001, 1, 1, 0x50, 0x10, 1000, pseudo, 0)
    return MAC + bytes.fromhex("020000000099") + b"\x08\x00" + ip + tcp + bytes(n & 0xFF for n in range(size_bytes))


def chains_of(driver: NetDriver) -> Iterator[bytes]:
    """What comes in, chain by chain."""
    while True:
        yield from driver.take()


def wanted(host: socket.socket, data: bytes) -> bytes:
    """The next frame of the host's with that protocol: the kernel sends some of its own."""
    while True:
        got = host.recv(1 << 17)
        if got[12:14] == data[12:14]:
            return got


def test_frames_pass_both_ways() -> None:
    with tap_guest() as (driver, host):
        for size in (60, 1514):
            driver.transmit(frame(size))
            assert wanted(host, frame(size)) == frame(size)
        driver.offer(*[[1600]] * 40)
        host.send(frame(700))
        got = next(chain for chain in chains_of(driver) if chain[HEADER + 12 :][:2] == frame(700)[12:14])
        assert got[HEADER:] == frame(700)
        assert NET_HEADER.parse(got[:HEADER]).chains == 1


def test_a_large_segment_to_send() -> None:
    with tap_guest() as (driver, host):
        data = large_segment(4000, GUEST, OURS)
        fields: dict[str, Any] = {
            "flags": NET_HEADER_FLAG.NEEDS_CHECKSUM,
            "segmentation": NET_SEGMENTATION.TCP4,
            "header_bytes": 54,
            "segment_bytes": SEGMENT,
            "checksum_start": TCP_START,
            "checksum_offset": TCP_SUM,
        }
        driver.transmit(data, head=header(**fields))
        assert wanted(host, data)[54:] == data[54:]
        driver.sent()
        counted(driver, "sent_bytes", len(data))
        driver.transmit(data, head=header(**fields | {"checksum_start": 60_000}))  # the kernel's to judge
        counted(driver, "send_dropped_refused", 1)
        assert not driver.device.needs_reset


@pytest.mark.parametrize("takes", [True, False])
def test_a_large_segment_to_receive(takes: bool) -> None:
    with tap_guest(without=0 if takes else LARGE) as (driver, host):
        data = large_segment(4000, OURS, GUEST)
        host.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        rooms = 12
        driver.offer(*[[1600]] * rooms)
        head = struct.pack("<BBHHHH", 1, NET_SEGMENTATION.TCP4, 54, SEGMENT, TCP_START, TCP_SUM)
        host.send(head + data)
        frames: list[tuple[Any, bytes]] = []
        chains = chains_of(driver)
        while sum(len(f) - 54 for _, f in frames) < 4000:
            first = next(chains)
            fields = NET_HEADER.parse(first[:HEADER])
            whole = b"".join((first[HEADER:], *(next(chains) for _ in range(fields.chains - 1))))
            if whole[12:14] == b"\x08\x00" and whole[23] == 6:
                frames.append((fields, whole))
            driver.offer(*[[1600]] * fields.chains)
        if takes:
            ((fields, whole),) = frames
            assert (fields.segmentation, fields.segment_bytes, fields.chains) == (NET_SEGMENTATION.TCP4, SEGMENT, 3)
            assert whole[54:] == data[54:]
        else:
            assert [len(whole) - 54 for _, whole in frames] == [SEGMENT] * 4
            assert {fields.segmentation for fields, _ in frames} == {NET_SEGMENTATION.NONE}
            assert b"".join(whole[54:] for _, whole in frames) == data[54:]


def test_checksums_that_were_not_agreed_on() -> None:
    """Without GUEST_CSUM all that comes is complete, and its header says nothing (virtio 5.1.6.4.1)."""
    with tap_guest(without=LARGE | NET_FEATURE.GUEST_CSUM) as (driver, host):
        data = large_segment(4000, OURS, GUEST)
        host.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        driver.offer(*[[1600]] * 12)
        host.send(struct.pack("<BBHHHH", 1, NET_SEGMENTATION.TCP4, 54, SEGMENT, TCP_START, TCP_SUM) + data)
        chains, payload = chains_of(driver), b""
        while len(payload) < 4000:
            chain = next(chains)
            if chain[HEADER + 12 :][:2] == b"\x08\x00" and chain[HEADER + 23] == 6:
                assert chain[:HEADER] == header(chains=1)
                ip, tcp = chain[HEADER + 14 :][:20], chain[HEADER + 34 :]
                assert checksum(ip[12:20] + struct.pack(">HH", 6, len(tcp)) + tcp) == 0
                payload += tcp[20:]
            driver.offer([1600])
        assert payload == data[54:]


def test_a_header_length_is_a_hint() -> None:
    """The kernel refuses one beyond the frame; a frame is sent all the same (virtio 5.1.6.2.2)."""
    with tap_guest() as (driver, host):
        for length in (0, 60, 61, 0xFFFF):
            driver.transmit(frame(60, length), head=header(header_bytes=length))
            assert wanted(host, frame(60)) == frame(60, length)


def test_a_large_segment_that_finds_too_little_room_is_counted() -> None:
    with tap_guest() as (driver, host):
        host.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        head = struct.pack("<BBHHHH", 1, NET_SEGMENTATION.TCP4, 54, SEGMENT, TCP_START, TCP_SUM)
        driver.offer([1600])
        while not driver.device.device.statistics()["receive_dropped_size"]:
            host.send(head + large_segment(4000, OURS, GUEST))
            if driver.receive.collect():  # one of the kernel's own took the room
                driver.offer([1600])


def ours(driver: NetDriver, count: int) -> list[bytes]:
    """That many of the test's frames, among the kernel's own."""
    found: list[bytes] = []
    for chain in chains_of(driver):
        found += [chain[HEADER:]] if chain[HEADER + 12 :][:2] == frame(60)[12:14] else []
        driver.offer([1600])
        if len(found) == count:
            break
    return found


def bursts_work() -> bool:
    """Whether the kernel has all that they take."""
    version = tuple(int(number) for number in platform.release().split(".")[:2])
    aio = lib.pv_aio_create(lib.PV_AIO_URING, 1)
    lib.pv_aio_destroy(aio)
    return version >= (6, 4) and aio != ffi.NULL


@pytest.mark.parametrize("exact", [False, True])
def test_many_frames_at_once_stay_in_their_order(exact: bool, tmp_path: Path) -> None:
    frames = [frame(60 + 13 * n, n) for n in range(BURST)]
    net = {"capture": tmp_path / "capture"} if exact else {}
    with tap_guest(without=LARGE, net=net) as (driver, host):
        for data in frames:
            gpa = driver.guest.place(header() + data)
            driver.send.add((Segment(gpa, HEADER), Segment(gpa + HEADER, len(data))))
        driver.send.publish()
        assert [wanted(host, data) for data in frames] == frames
        driver.sent(BURST)
        for data in frames:
            host.send(data)
        driver.offer(*[[1600]] * 60)
        assert ours(driver, BURST) == frames
        counts = driver.device.device.statistics()
        assert (counts["sent_frames"], counts["sent_bytes"]) == (BURST, sum(map(len, frames)))
        assert exact or counts["bursts"] >= 2 or not bursts_work()
        assert not exact or counts["bursts"] == 0


def test_a_frame_that_is_too_large_for_a_burst_is_counted() -> None:
    import subprocess

    with tap_guest(without=LARGE) as (driver, host):
        subprocess.run(["ip", "link", "set", "pv0", "mtu", "9000"], check=True)
        driver.offer(*[[9000]] * 8)
        host.send(frame(5000))
        counted(driver, "receive_dropped_size", 1)
        host.send(frame(1514))
        assert ours(driver, 1) == [frame(1514)]


def test_a_frame_that_is_too_large_for_a_burst_fits_in_no_room() -> None:
    """Not in one that is told to be larger than any frame, either: buffers of a chain may lie over one another."""
    import subprocess

    with tap_guest(without=LARGE, memory_bytes=128 << 20) as (driver, host):
        subprocess.run(["ip", "link", "set", "pv0", "mtu", "9000"], check=True)
        guest = driver.device.guest
        whole = Segment(guest.base_gpa, 128 << 20, True)
        for _ in range(8):  # the kernel sends some of its own
            driver.receive.add([Segment(guest.take(4096), 4096, True), *[whole] * 40], indirect=True)
        driver.receive.publish()
        host.send(frame(5000))
        counted(driver, "receive_dropped_size", 1)


def test_what_was_read_for_a_driver_that_is_gone_is_counted() -> None:
    with tap_guest(without=LARGE) as (driver, host):
        for _ in range(20):
            host.send(frame(60))
        driver.offer([1600], [1600])  # read one by one at first: there is more room than frames then
        driver.take(2)
        plugged = driver.device
        plugged.set_status(0)
        receive, send = plugged.start(without=LARGE)
        counts = plugged.device.statistics()
        assert counts["receive_dropped_reset"] == 1
        assert counts["received_frames"] == 2
        again = NetDriver(plugged, receive, send)
        again.offer(*[[1600]] * 30)
        until(lambda: plugged.device.statistics()["received_frames"] >= 19)


def test_a_pair_that_is_not_in_use_may_have_room() -> None:
    """Drivers give it before they ask for the pair."""
    with tap_guest(without=LARGE, pairs=2) as (first, host):
        receive, send, controls = first.others
        second = NetDriver(first.device, receive, send)
        second.offer(*[[1600]] * 30)
        second.transmit(frame(60))
        counted(second, "send_dropped_refused", 1)
        asleep(SECOND)
        for pairs in (2, 1, 2):
            assert control(controls, first.guest, pairs) == NET_CONTROL_STATUS.OK
            asleep(SECOND)
        second.transmit(frame(61))
        assert wanted(host, frame(61)) == frame(61)
        assert first.device.device.statistics()["links_lost"] == 0


def test_queues_that_cannot_be_detached() -> None:
    with ExitStack() as stack:
        stack.enter_context(needed_tap("pv0"))
        fds = []
        for name in (b"pv0", b"pv1"):  # the second is made by being opened
            fds.append(int(lib.pv_net_tap_open(name, False)))
            stack.callback(os.close, fds[-1])
        guest = stack.enter_context(FakeGuest())
        net = Net("net", f"fd:{fds[0]}+{fds[1]}", MAC, pairs=2)
        with pytest.raises(
            HostCallFailed, match="its queues cannot be detached: .*; make the TAP device with multi_queue"
        ):
            guest.plug(NetDevice("net", net))


def test_frames_while_the_interface_is_down() -> None:
    import subprocess

    with tap_guest() as (driver, host):
        subprocess.run(["ip", "link", "set", "pv0", "down"], check=True)
        driver.transmit(frame(60))
        counted(driver, "send_dropped_refused", 1)
        subprocess.run(["ip", "link", "set", "pv0", "up"], check=True)
        await_up("pv0")
        driver.transmit(frame(61))
        driver.sent(2)
        counted(driver, "sent_frames", 1)
        assert host.fileno() >= 0


def test_what_the_kernel_drops_is_counted() -> None:
    with tap_guest() as (driver, host):
        counts = driver.device.device.statistics
        for _ in range(100_000):  # no room at all: the queue of the device is full at some time
            host.send(frame(60))
            if counts()["receive_dropped_kernel"]:
                break
        assert counts()["receive_dropped_kernel"]


def test_what_the_kernel_drops_is_found_among_many_interfaces() -> None:
    import subprocess

    with tap_guest():
        names = [f"pv{number}" for number in range(1, 61)]
        for name in names:
            subprocess.run(["ip", "tuntap", "add", name, "mode", "tap"], check=True)
        fd = os.open("/proc/thread-self/net/dev", os.O_RDONLY)
        try:
            lines = whole(fd).decode().splitlines()
        finally:
            os.close(fd)
        found = [line.partition(":")[0].strip() for line in lines[2:]]
        assert sorted(found) == sorted(["lo", "pv0", *names])
