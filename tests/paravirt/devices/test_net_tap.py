"""virtio-net over a TAP device: checksums and large segments are the kernel's work, both ways."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hypercall_abi.devices.virtio_net import NET_FEATURE, NET_HEADER, NET_HEADER_FLAG, NET_SEGMENTATION
from paravirt.attachments.net import Net
from paravirt.devices.net import NetDevice
from tests.paravirt.devices.test_net import counted
from tests.support.fake_guest import FakeGuest
from tests.support.net_driver import HEADER, MAC, NetDriver, frame, header
from tests.support.station import GUEST, OURS, checksum
from tests.support.tap import NoTap, await_up, tap_device

SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETH_P_ALL, ETH_P_IP = 3, 0x0800
TCP_START, TCP_SUM = 34, 16
SEGMENT = 1000


@contextmanager
def tap_guest(*, without: int = 0, pairs: int = 1) -> Iterator[tuple[NetDriver, socket.socket]]:
    """A driver of a network on a TAP device, and a packet socket at the device's other side."""
    try:
        with tap_device("pv0", pairs=pairs), FakeGuest() as guest:
            host = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            host.bind(("pv0", ETH_P_ALL))
            host.settimeout(20)
            plugged = guest.plug(NetDevice("net", Net("net", "tap:pv0", MAC, pairs=pairs), 20_000))
            drivers = plugged.start(without=without)
            await_up("pv0")
            with host:
                yield NetDriver(plugged, drivers[0], drivers[1]), host
    except NoTap as why:
        pytest.skip(str(why))


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
    large = NET_FEATURE.GUEST_TSO4 | NET_FEATURE.GUEST_TSO6
    with tap_guest(without=0 if takes else large) as (driver, host):
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
