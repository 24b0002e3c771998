"""Packets of the guest's that go to a socket together, in more pieces than are gathered at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercall_abi.devices.virtio_vsock import VSOCK_HEADER, VSOCK_TYPE
from tests.support.fake_guest import Segment
from tests.support.vsock_driver import BUFFER, CID, HOST, OP, Packet, VsockDriver, vsock_guest

PACKET = 4096
PIECES = 100
TOGETHER = (20_000, 20_000, 20_000, 4_000)  # of those pieces, the last does not go with the others


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[VsockDriver]:
    with vsock_guest(tmp_path / "v", size=256) as driver:
        yield driver


def forwarded(driver: VsockDriver, port: int, host_port: int) -> int:
    """Bytes that the socket has taken."""
    driver.reclaim()
    driver.take()
    driver.send(Packet(OP.CREDIT_REQUEST, port, host_port))
    return driver.expect(OP.CREDIT_UPDATE, port).forwarded_bytes


def add_in_pieces(driver: VsockDriver, port: int, host_port: int, data: bytes) -> None:
    """A packet that lies in many pieces, not published yet."""
    fields = {"source_cid": CID, "source_cid_high": 0, "destination_cid": HOST, "destination_cid_high": 0}
    fields |= {"source_port": port, "destination_port": host_port, "size_bytes": len(data), "type": VSOCK_TYPE.STREAM}
    fields |= {"operation": OP.DATA, "flags": 0, "buffer_bytes": BUFFER, "forwarded_bytes": 0}
    header, gpa = driver.guest.place(VSOCK_HEADER.build(fields)), driver.guest.place(data)
    step = len(data) // PIECES
    pieces = [Segment(gpa + at, step) for at in range(0, len(data), step)]
    driver.transmit.add([Segment(header, VSOCK_HEADER.size), *pieces], indirect=True)


def test_a_full_socket_and_more_pieces_than_are_gathered(driver: VsockDriver) -> None:
    """What the socket does not take of the first packets lies in front of the packet that found no place with them."""
    full, host_port = driver.host_connects(1)
    sent = 0
    while forwarded(driver, 1, host_port) == sent:
        driver.send(Packet(OP.DATA, 1, host_port, bytes(PACKET)))
        sent += PACKET
    peer, host_port = driver.host_connects(2)
    expected = b""
    with full, peer:
        # As full as it can be while nothing waits for it.
        while len(expected) < sent - PACKET:
            driver.send(Packet(OP.DATA, 2, host_port, bytes([len(expected) // PACKET]) * PACKET))
            expected += bytes([len(expected) // PACKET]) * PACKET
            driver.reclaim()
        assert forwarded(driver, 2, host_port) == len(expected)
        driver.reclaim()
        for number, size in enumerate(TOGETHER):
            data = bytes((i * 7 + number) & 255 for i in range(size))
            add_in_pieces(driver, 2, host_port, data)
            expected += data
        driver.transmit.publish()
        got = b""
        while len(got) < len(expected):
            piece = peer.recv(len(expected) - len(got))
            assert piece, "the connection ended"
            got += piece
    assert got == expected
