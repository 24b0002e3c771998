"""A network that another program carries: frames, pairs of queues, and a link that is up while the program is there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.devices.virtio_net import NET_CONTROL_STATUS, NET_FEATURE
from paravirt.abi import parse
from paravirt.attachments.net import Net
from paravirt.devices.net_served import ServedNetDevice
from paravirt.vhost_user.errors import PeerError
from paravirt.vhost_user.messages import ProtocolFeature
from tests.support.fake_guest import FakeGuest, PluggedDevice
from tests.support.net_driver import HEADER, MAC, NetDriver, control, frame
from tests.support.net_peer import FEATURES, NetPeer
from tests.support.waiting import wait_for

ROOM = (HEADER + 1514,)


class Lan:
    """A fake guest, its network, and the one peer at a time that carries its frames to `ours`."""

    def __init__(self, place: Path, kept: ExitStack) -> None:
        self.path = place / "lan.sock"
        self._kept = kept
        self.ours, self._its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept.enter_context(self.ours)
        kept.enter_context(self._its)
        self.ours.settimeout(20)
        self.failures: list[BaseException] = []
        self.plugged: Any = None

    def peer(self, **options: Any) -> NetPeer:
        return self._kept.enter_context(NetPeer(self.path, self._its, **options))

    def plug(self, **options: Any) -> PluggedDevice:
        guest = self._kept.enter_context(FakeGuest())
        net = Net("lan", f"vhost:{self.path}", MAC, **options)
        device = ServedNetDevice("lan", net, guest.service, guest.regions, self.failures.append, reply_s=5)
        self.plugged = guest.plug(device)
        return self.plugged  # type: ignore[no-any-return]

    def start(self, **options: Any) -> NetDriver:
        return NetDriver(self.plugged, *self.plugged.start(**options)[:2])

    @property
    def up(self) -> bool:
        return bool(parse("net_config", self.plugged.config()).status)

    def exchange(self, driver: NetDriver, seed: int) -> None:
        """A frame each way."""
        driver.transmit(frame(60, seed))
        driver.sent()
        assert self.ours.recv(2048) == frame(60, seed)
        driver.offer(ROOM)
        self.ours.send(frame(200, seed))
        (got,) = driver.take()
        assert got[HEADER:] == frame(200, seed)


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    with ExitStack() as kept:
        yield Lan(tmp_path, kept)


@pytest.mark.parametrize("packed", [False, True])
def test_frames(lan: Lan, packed: bool) -> None:
    peer = lan.peer()
    lan.plug()
    driver = lan.start(packed=packed)
    for seed in range(100):
        lan.exchange(driver, seed)
    assert peer.carried == [100]
    assert lan.plugged.device.statistics()["chains"] == 200


def test_what_is_offered(lan: Lan) -> None:
    """Offloads are the peer's to offer, address and link are ours."""
    lan.peer(features=FEATURES | NET_FEATURE.HOST_TSO4 | 1 << 24)
    plugged = lan.plug(mtu=9000)
    offered = plugged.native.offered[0]
    assert offered & NET_FEATURE.HOST_TSO4
    assert not offered & (NET_FEATURE.GUEST_TSO4 | NET_FEATURE.MQ | 1 << 24)
    config = parse("net_config", plugged.config())
    assert (bytes(config.mac), config.status, config.mtu) == (MAC, 1, 9000)
    lan.start()


def test_the_link_is_up_while_it_is_there(lan: Lan) -> None:
    first = lan.peer()
    lan.plug()
    driver = lan.start()
    for turn in range(3):
        lan.exchange(driver, turn)
        assert lan.up
        first.die()
        wait_for(lambda: not lan.up, "the link stays up")
        driver.transmit(frame(60, 99))  # waits
        first = lan.peer()
        wait_for(lambda: lan.up, "the link stays down")
        assert lan.ours.recv(2048) == frame(60, 99)
        driver.sent()


def test_it_goes_before_the_driver_comes(lan: Lan) -> None:
    first = lan.peer()
    lan.plug()
    first.die()
    wait_for(lambda: not lan.plugged.device.config()[6], "its death was not seen")
    driver = lan.start()
    lan.peer()
    wait_for(lambda: lan.up, "the link stays down")
    lan.exchange(driver, 1)


def test_pairs(lan: Lan) -> None:
    """The peer works on as many as the driver asks for, one at first; without a doubt about the others."""
    peer = lan.peer(pairs=3)
    lan.plug(pairs=3)
    for _ in range(2):
        drivers = lan.plugged.start(size=16)
        assert len(drivers) == 7
        lan.exchange(NetDriver(lan.plugged, drivers[0], drivers[1]), 1)
        assert [number for number, queue in sorted(peer.queues.items()) if queue.enabled] == [0, 1]
        for count in (3, 2):
            assert control(drivers[6], lan.plugged.guest, count) == NET_CONTROL_STATUS.OK
            wait_for(lambda: sum(queue.enabled for queue in peer.queues.values()) == 2 * count, "it is not told")  # noqa: B023
        before = peer.carried[1]
        second = NetDriver(lan.plugged, drivers[2], drivers[3])
        second.transmit(frame(60, 7))
        second.sent()
        assert lan.ours.recv(2048) == frame(60, 7)
        assert peer.carried[1] == before + 1


@pytest.mark.parametrize(("pairs", "fields"), [(0, {}), (4, {}), (1, {"command": 1}), (1, {"kind": 1})])
def test_requests_that_are_refused(lan: Lan, pairs: int, fields: dict[str, int]) -> None:
    lan.peer(pairs=3)
    lan.plug(pairs=3)
    drivers = lan.plugged.start(size=16)
    assert control(drivers[6], lan.plugged.guest, pairs, **fields) == NET_CONTROL_STATUS.ERROR


@pytest.mark.parametrize("protocol", [ProtocolFeature.MQ, ProtocolFeature(0)])
def test_too_few_pairs(lan: Lan, protocol: ProtocolFeature) -> None:
    lan.peer(pairs=2, protocol=protocol)
    with pytest.raises(PeerError, match=r"pair\(s\) of queues, not 3; give pairs="):
        lan.plug(pairs=3)
