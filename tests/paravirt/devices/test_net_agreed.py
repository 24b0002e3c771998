"""virtio-net: what the link says or sends, and the driver did not agree on."""

from __future__ import annotations

import socket

import pytest

from hypercall_abi.devices.virtio_net import NET_FEATURE, NET_HEADER_FLAG
from paravirt._native import lib
from paravirt.attachments.net import Net
from paravirt.devices.net import NetDevice
from tests.paravirt.devices.test_net import counted
from tests.support.fake_guest import FakeGuest
from tests.support.net_driver import HEADER, MAC, NetDriver, frame, header, net_guest

pytestmark = pytest.mark.usefixtures("ring_format")


def test_what_is_longer_than_the_mtu_is_dropped() -> None:
    """A payload beyond mtu, a VLAN's tag not counted, does not reach a driver that agreed on MTU (virtio 5.1.4.1)."""
    tagged = frame(1519)[:12] + b"\x81\x00" + frame(1519)[14:]
    with net_guest(net={"mtu": 1500}) as (driver, link):
        driver.offer([4000], [4000])
        link.send(frame(1515))
        link.send(tagged)
        counted(driver, "receive_dropped_size", 2)
        for data in (frame(1514), tagged[:1518]):
            link.send(data)
            assert driver.take()[0][HEADER:] == data
    with net_guest(net={"mtu": 1500}, without=NET_FEATURE.MTU) as (driver, link):
        driver.offer([4000])
        link.send(frame(1515))
        assert driver.take()[0][HEADER:] == frame(1515)


class KernelsOwn(NetDevice):
    """As if the descriptor were a TAP device's queue: headers are in front of frames, and say what the test says."""

    def _open(self) -> list[int]:
        self._link, self._mtu = lib.PV_NET_LINK_TAP, 1500
        return list(self.net.fds)


@pytest.mark.parametrize("agreed", [False, True])
def test_flags_that_were_not_agreed_on(agreed: bool) -> None:
    """The kernel says VALID of a frame of this machine's; flags are zero without GUEST_CSUM (virtio 5.1.6.4.1)."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its, FakeGuest() as guest:
        plugged = guest.plug(KernelsOwn("net", Net("net", f"fd:{its.fileno()}", MAC), 0))
        driver = NetDriver(plugged, *plugged.start(without=0 if agreed else NET_FEATURE.GUEST_CSUM))
        driver.offer([1, 3, 1600])
        ours.send(header(flags=NET_HEADER_FLAG.VALID) + frame(60))
        flags = NET_HEADER_FLAG.VALID if agreed else 0
        assert driver.take()[0] == header(flags=flags, chains=1) + frame(60)
