"""virtio-net: queues that were not agreed on, that are reset, or whose driver broke a rule."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from hypercall_abi import STATUS
from hypercall_abi.devices.virtio_net import NET_CONTROL_STATUS, NET_FEATURE
from paravirt._native import lib
from paravirt.attachments.net import Net
from paravirt.devices.net import NetDevice
from tests.support.fake_guest import Driver, FakeGuest, PluggedDevice, Segment
from tests.support.net_driver import HEADER, MAC, NetDriver, control, frame, net_guest
from tests.support.threads import asleep

pytestmark = pytest.mark.usefixtures("ring_format")

FIRST, SECOND = "net net", "net1 net"  # threads


@contextmanager
def several_pairs(pairs: int) -> Iterator[tuple[PluggedDevice, list[socket.socket]]]:
    """A network with so many pairs that nobody has started, and the other ends of its links."""
    with ExitStack() as stack:
        ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(pairs)]
        for pair in ends:
            for end in pair:
                stack.enter_context(end).settimeout(20)
        guest = stack.enter_context(FakeGuest())
        link = "fd:" + "+".join(str(its.fileno()) for _, its in ends)
        yield guest.plug(NetDevice("net", Net("net", link, MAC, pairs=pairs), 0)), [ours for ours, _ in ends]


def enabled(driver: Driver) -> Driver:
    """A new driver of a queue that was reset."""
    fresh = type(driver)(driver.device, driver.index, driver.size, int(driver.device.native.state.accepted[0]))
    fresh.set_up()
    return fresh


@pytest.mark.parametrize("pairs", [2, 3])
def test_a_control_queue_that_was_not_agreed_on(pairs: int) -> None:
    """A driver may enable it all the same: nobody takes what lies there, and nobody looks for it."""
    with several_pairs(pairs) as (plugged, ends):
        drivers = plugged.start(without=NET_FEATURE.CTRL_VQ | NET_FEATURE.MQ, size=16)
        drivers[2 * pairs].add((Segment(plugged.guest.place(bytes(4)), 4),))
        drivers[2 * pairs].publish()
        for n, ours in enumerate(ends):
            driver = NetDriver(plugged, drivers[2 * n], drivers[2 * n + 1])
            driver.transmit(frame(60, n))
            assert ours.recv(4096) == frame(60, n)
            driver.sent()
        asleep(f"net{pairs - 1} net")
        assert drivers[2 * pairs].collect() == {}
        assert not plugged.needs_reset


@pytest.mark.parametrize("pairs", [2, 3])
def test_control_behind_the_first_pair_has_one_thread(pairs: int) -> None:
    with several_pairs(pairs) as (plugged, _):
        drivers = plugged.start(without=NET_FEATURE.MQ, size=16)
        for _ in range(50):
            assert control(drivers[2], plugged.guest, 1) == NET_CONTROL_STATUS.ERROR
        for queue in (3, 2 * pairs):  # of no pair, and not for control
            drivers[queue].add((Segment(plugged.guest.place(bytes(64)), 64),))
            drivers[queue].publish()
        asleep(SECOND)
        asleep(f"net{pairs - 1} net")
        assert not plugged.needs_reset


def test_a_receive_queue_that_was_reset_wakes_nobody() -> None:
    with net_guest(poll_ns=0) as (driver, link):
        driver.offer([1600], [1600])
        link.send(frame(60))
        driver.take()
        assert lib.pv_device_queue_reset(driver.device.native, 0) == STATUS.OK
        link.send(frame(61))
        asleep(FIRST)
        driver.transmit(frame(62))
        assert link.recv(4096) == frame(62)
        asleep(FIRST)
        fresh = NetDriver(driver.device, enabled(driver.receive), driver.send)
        fresh.offer([1600])
        assert fresh.take()[0][HEADER:] == frame(61)


def test_a_send_queue_that_was_reset_wakes_nobody() -> None:
    with net_guest(poll_ns=0) as (driver, link):
        for n in range(60):  # more than the link takes
            driver.transmit(frame(20_000, n))
        asleep(FIRST)
        assert lib.pv_device_queue_reset(driver.device.native, 1) == STATUS.OK
        link.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                link.recv(1 << 16)
        asleep(FIRST)
        link.settimeout(20)
        fresh = NetDriver(driver.device, driver.receive, enabled(driver.send))
        fresh.transmit(frame(60))
        assert link.recv(4096) == frame(60)


def test_after_a_fault_the_thread_sleeps() -> None:
    with net_guest(poll_ns=0) as (driver, _):
        driver.offer([11], [1600])
        assert driver.device.wait_fault() == "NET-2"
        asleep(FIRST)


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_the_other_end_goes_away_and_sending_finds_it(kind: socket.SocketKind) -> None:
    with net_guest(kind) as (driver, link):
        link.close()
        driver.transmit(frame(60))
        driver.sent()
        driver.transmit(frame(60))
        driver.sent()
        asleep(FIRST)
        assert driver.device.device.statistics()["links_lost"] == 1


def test_empty_datagrams_are_no_frames() -> None:
    with net_guest(socket.SOCK_DGRAM) as (driver, link):
        driver.offer([1600])
        for _ in range(5):
            link.send(b"")
        link.send(frame(60))
        assert driver.take()[0][HEADER:] == frame(60)
