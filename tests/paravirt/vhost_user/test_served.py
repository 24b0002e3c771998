"""A disk that another program serves: its life, and the death of that program."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.devices.virtio_block import BLOCK_FEATURE, BLOCK_REQUEST, BLOCK_STATUS
from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt.vhost_user.connection import Connection
from paravirt.vhost_user.errors import PeerError, PeerGone
from paravirt.vhost_user.messages import CONFIG, FEATURE_PROTOCOL, NEED_REPLY, VERSION, ProtocolFeature, Request
from tests.support.block_driver import SECTOR, BlockDriver
from tests.support.served_disk import PATIENCE_S, SECTORS, Served, wait_taken
from tests.support.vhost_peer import FEATURES, PROTOCOL, VhostPeer, reply
from tests.support.waiting import wait_for


def test_reads_and_writes(served: Served) -> None:
    served.peer()
    assert int.from_bytes(served.plug().config()[:8], "little") == SECTORS
    disk = served.start()
    assert disk.read(3, SECTOR).data == served.sector(3)
    assert disk.write(5, b"x" * SECTOR).status == BLOCK_STATUS.OK
    assert served.sector(5) == b"x" * SECTOR
    assert disk.flush().status == BLOCK_STATUS.OK


def test_many_rounds_of_the_ring(served: Served) -> None:
    """More chains than positions of 16 bits would take too long; more than the ring has, many times, do."""
    served.peer()
    served.plug()
    disk = served.start(size=8)
    for turn in range(100):
        assert disk.read(turn, SECTOR).data == served.sector(turn)
    wait_for(lambda: served.statistics()["in_flight"] == 0, "the notes say that something is in flight")


@pytest.mark.parametrize("more", [ProtocolFeature.STATUS, ProtocolFeature.RESET_DEVICE, ProtocolFeature(0)])
def test_reset_and_again(served: Served, more: ProtocolFeature) -> None:
    peer = served.peer(protocol=PROTOCOL | more)
    served.plug()
    for turn in range(3):
        disk = served.start()
        assert disk.read(turn, SECTOR).data == served.sector(turn)
    served.plugged.set_status(0)
    assert peer.status == 0
    assert not served.failures


def test_without_acknowledgements(served: Served) -> None:
    served.peer(protocol=ProtocolFeature.CONFIG)
    served.plug()
    assert served.start().read(1, SECTOR).data == served.sector(1)


def test_what_is_not_understood_is_not_offered(served: Served) -> None:
    served.peer(features=FEATURES | 1 << 36 | 1 << 33 | BLOCK_FEATURE.CONFIG_WCE)
    offered = served.plug().native.offered[0]
    assert not offered & (1 << 36 | 1 << 33 | BLOCK_FEATURE.CONFIG_WCE | 1 << 30)
    assert offered & BLOCK_FEATURE.FLUSH


@pytest.mark.parametrize("indirect", [False, True])
def test_rings_that_the_peer_does_not_know(served: Served, indirect: bool) -> None:
    """The driver's are its own affair: packed, with indirect tables, with event indexes."""
    peer = served.peer(features=FEATURES & ~(VIRTIO_FEATURE.INDIRECT_DESC | VIRTIO_FEATURE.EVENT_IDX))
    served.plug()
    disk = served.start(packed=not indirect, indirect=indirect)
    for turn in range(300):
        assert disk.read(turn % SECTORS, SECTOR).data == served.sector(turn % SECTORS)
    assert peer.accepted == VIRTIO_FEATURE.VERSION_1 | BLOCK_FEATURE.FLUSH | FEATURE_PROTOCOL


def test_read_only_must_be_the_servers(served: Served) -> None:
    served.peer()
    with pytest.raises(PeerError, match="export it read-only"):
        served.plug(read_only=True)


def test_read_only(served: Served) -> None:
    served.peer(features=FEATURES | BLOCK_FEATURE.RO)
    assert served.plug(read_only=True).native.offered[0] & BLOCK_FEATURE.RO


def test_nobody_there(served: Served) -> None:
    with pytest.raises(PeerGone, match="nothing listens at .*disk.sock; start .* paravirt device block --socket /"):
        served.plug()


def test_a_file_instead_of_a_socket(tmp_path: Path) -> None:
    (tmp_path / "disk.img").touch()
    with pytest.raises(PeerGone, match="thing: .*disk.img is no socket; give one's path, and start what serves it"):
        Connection(tmp_path / "disk.img", "thing")
    with pytest.raises(PeerGone, match="the path has [0-9]+ bytes and a socket's at most 107; give a shorter one"):
        Connection(tmp_path / ("x" * 107), "thing")


# ---- death ----


def lay_out(disk: BlockDriver, count: int) -> list[Any]:
    return [disk.lay_out(BLOCK_REQUEST.READ, n, room_bytes=SECTOR) for n in range(count)]


def check_answers(served: Served, requests: list[Any], answers: list[Any]) -> None:
    got = {id(request): answer for request, answer in answers}
    for number, request in enumerate(requests):
        assert got[id(request)].status == BLOCK_STATUS.OK
        assert got[id(request)].data == served.sector(number), f"request {number}"


@pytest.mark.parametrize("done", [(), (0, 1), (1, 2), (5, 3), (2, 0, 4), (7, 6, 5, 4, 3, 2, 1, 0)], ids=str)
def test_requests_in_flight_survive(served: Served, caplog: pytest.LogCaptureFixture, done: tuple[int, ...]) -> None:
    """Those that came back are not done again, in whichever order: their buffers may be others' by now."""
    first = served.peer(holding=True)
    served.plug()
    disk = served.start(size=64)
    requests = lay_out(disk, 8)
    disk.send(*requests)
    wait_for(lambda: len(first.heads) == 8, "the peer has not taken them")
    heads = list(first.heads)
    first.complete(*done)
    answers = disk.finish(len(done))
    with caplog.at_level(logging.WARNING):
        first.die()
        second = served.peer(holding=True)
        wait_for(lambda: served.statistics()["reconnects"] == 1, "the device did not find the new peer")
    left = [head for number, head in enumerate(heads) if number not in done]
    wait_for(lambda: len(second.heads) == len(left), "the new peer was not given what was in flight")
    assert second.heads == left, "in another order"
    second.complete(*range(len(left)))
    answers += disk.finish(8 - len(done))
    check_answers(served, requests, answers)
    assert [record.message.count("closed the connection") for record in caplog.records] == [1, 0], "said once each"
    second.holding = False
    assert disk.read(9, SECTOR).data == served.sector(9), "it goes on"


def test_requests_while_it_is_away(served: Served) -> None:
    """They wait, without a doorbell that anybody hears."""
    first = served.peer()
    served.plug()
    disk = served.start()
    assert disk.read(0, SECTOR).data == served.sector(0)
    first.die()
    requests = lay_out(disk, 4)
    disk.send(*requests)
    served.peer()
    check_answers(served, requests, disk.finish(4))


def test_it_dies_again_and_again(served: Served) -> None:
    peer = served.peer(holding=True)
    served.plug()
    disk = served.start(size=16)
    for turn in range(4):
        requests = lay_out(disk, 3)
        disk.send(*requests)
        wait_taken(peer, 3)
        peer.complete(2)
        answers = disk.finish(1)
        peer.die()
        peer = served.peer(holding=True)
        wait_taken(peer, 2)
        peer.complete(1, 0)
        check_answers(served, requests, answers + disk.finish(2))
        served.wait_reconnects(turn + 1)


def test_reset_while_it_is_away(served: Served) -> None:
    """A reset waits for nobody who is gone; the next driver has the next peer."""
    first = served.peer(holding=True)
    served.plug()
    disk = served.start()
    disk.send(*lay_out(disk, 2))
    wait_taken(first, 2)
    first.die()
    served.plugged.set_status(0)
    served.peer()
    assert served.start().read(4, SECTOR).data == served.sector(4)


def test_patience_ends(served: Served) -> None:
    """The driver is told (NEEDS_RESET); after its reset there is another attempt."""
    first = served.peer()
    served.plug(patience_s=0.3)
    served.start()
    first.die()
    assert served.plugged.wait_fault() == "HOST"
    served.plugged.set_status(0)
    served.peer()
    assert served.start().read(2, SECTOR).data == served.sector(2)


def test_another_one_that_offers_less(served: Served) -> None:
    first = served.peer()
    served.plug()
    served.start()
    first.die()
    served.peer(features=FEATURES & ~BLOCK_FEATURE.FLUSH)
    assert served.plugged.wait_fault() == "HOST"


# ---- the configuration ----


@pytest.mark.parametrize("flags", [VERSION, VERSION | NEED_REPLY])
def test_the_disk_grows(served: Served, flags: int) -> None:
    peer = served.peer()
    served.plug()
    served.start()
    served.data.extend(bytes(SECTOR))
    peer.change_config(flags)
    wait_for(lambda: int.from_bytes(served.plugged.config()[:8], "little") == SECTORS + 1, "the driver is not told")
    assert served.plugged.native.state.generation == 1


@pytest.mark.parametrize("when", ["parked", "serving"])
def test_the_disk_has_grown_while_it_was_away(served: Served, when: str) -> None:
    """Also where it went before the driver's queues were its own."""
    first = served.peer()
    device = served.plug().device
    if when == "serving":
        assert served.start().read(0, SECTOR).data == served.sector(0)
    first.die()
    served.data.extend(bytes(SECTOR))
    if when == "parked":
        wait_for(lambda: device._peer is None, "its death was not seen")  # type: ignore[attr-defined]
    served.peer()
    if when == "parked":
        served.start()
    wait_for(lambda: int.from_bytes(served.plugged.config()[:8], "little") == SECTORS + 1, "the driver is not told")


def test_it_changes_again_while_it_is_asked(served: Served) -> None:
    """A peer may wait for the answer to its news before it answers what it was asked."""
    peer = served.peer()
    served.plug()
    served.start()
    news: list[bytes] = []

    def change_again(asked: VhostPeer, payload: bytes) -> bytes:
        del asked.pranks[Request.GET_CONFIG]
        served.data.extend(bytes(SECTOR))
        before = asked.config()
        asked.change_config(VERSION | NEED_REPLY)
        assert asked.back_channel
        asked.back_channel.settimeout(PATIENCE_S)
        news.append(asked.back_channel.recv(20))
        return reply(Request.GET_CONFIG, payload[: CONFIG.size] + before[: len(payload) - CONFIG.size])

    peer.pranks[Request.GET_CONFIG] = change_again
    served.data.extend(bytes(SECTOR))
    peer.change_config()
    wait_for(lambda: news and served.plugged.config()[:8] == peer.config()[:8], "the driver is not told of the second")
    assert int.from_bytes(served.plugged.config()[:8], "little") == SECTORS + 2


def test_a_driver_that_breaks_its_ring(served: Served) -> None:
    """It is found out here: the peer, which never sees that ring, serves the next driver."""
    served.peer()
    served.plug()
    disk = served.start(packed=False)
    assert disk.read(0, SECTOR).data == served.sector(0)
    served.guest.write(disk.driver.available + 2, b"\x00\x80")
    os.eventfd_write(int(served.plugged.native.queues[0].doorbell_fd), 1)
    assert served.plugged.wait_fault() == "VQ-7"
    assert not served.failures
    assert served.start().read(1, SECTOR).data == served.sector(1)
    assert served.statistics()["reconnects"] == 0
