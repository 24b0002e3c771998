"""The vsock: connections from both sides, data both ways, credit, ends of every kind."""

from __future__ import annotations

import fcntl
import hashlib
import random
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from hypercall_abi.devices.virtio_vsock import VSOCK_CONFIG, VSOCK_FEATURE, VSOCK_SHUTDOWN
from tests.support.fake_guest import Segment
from tests.support.vsock_driver import BUFFER, CID, OP, Packet, VsockDriver, line, vsock_guest

pytestmark = pytest.mark.usefixtures("ring_format")

BOTH = VSOCK_SHUTDOWN.RECEIVE | VSOCK_SHUTDOWN.SEND


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[VsockDriver]:
    with vsock_guest(tmp_path / "v") as driver:
        yield driver


def test_configuration(driver: VsockDriver) -> None:
    assert VSOCK_CONFIG.parse(driver.device.config()).guest_cid == CID


def test_host_connects(driver: VsockDriver) -> None:
    peer, host_port = driver.host_connects(1234)
    with peer:
        peer.sendall(b"question")
        assert driver.expect(OP.DATA, 1234).data == b"question"
        driver.send(Packet(OP.DATA, 1234, host_port, b"answer"))
        assert peer.recv(100) == b"answer"
    assert driver.expect(OP.SHUTDOWN, 1234).flags == BOTH
    driver.send(Packet(OP.RESET, 1234, host_port))
    driver.wait_statistics("open_connections", 0)
    assert driver.statistics()["connections"] == 1


def test_without_features(tmp_path: Path) -> None:
    """A driver that agrees on no kind of socket has streams (virtio 5.10.3.2)."""
    with vsock_guest(tmp_path / "v", without=VSOCK_FEATURE.STREAM | VSOCK_FEATURE.NO_IMPLIED_STREAM) as driver:
        peer, host_port = driver.host_connects(1234)
        with peer:
            driver.send(Packet(OP.DATA, 1234, host_port, b"answer"))
            assert peer.recv(100) == b"answer"


@pytest.mark.parametrize("pause", [False, True])
def test_a_line_that_will_have_no_end(driver: VsockDriver, pause: bool) -> None:
    """Who has sent all gets an answer, and does not keep its place."""
    with driver.program() as peer:
        peer.sendall(b"CONNECT 7")
        if pause:
            driver.wait_statistics("open_connections", 1)
        peer.shutdown(socket.SHUT_WR)
        assert line(peer).startswith(b"ERROR write CONNECT")
        driver.wait_statistics("open_connections", 0)


def test_data_behind_the_line_is_the_stream(driver: VsockDriver) -> None:
    with driver.program() as peer:
        peer.sendall(b"CONNECT 7\nhello")
        peer.shutdown(socket.SHUT_WR)
        host_port = driver.expect(OP.REQUEST, 7).host_port
        driver.send(Packet(OP.RESPONSE, 7, host_port))
        assert driver.expect(OP.DATA, 7).data == b"hello"
        assert driver.expect(OP.SHUTDOWN, 7).flags == VSOCK_SHUTDOWN.SEND
        assert line(peer) == b"OK %d\n" % host_port
        driver.send(Packet(OP.DATA, 7, host_port, b"and back"))
        driver.send(Packet(OP.SHUTDOWN, 7, host_port, flags=BOTH))
        driver.expect(OP.RESET, 7)
        assert peer.recv(100) == b"and back"
        assert peer.recv(100) == b""


@pytest.mark.parametrize(
    "text", [b"HELLO\n", b"CONNECT\n", b"CONNECT x\n", b"CONNECT 4294967296\n", b"CONNECT -1\n", b"C" * 40, b"\n"]
)
def test_a_wrong_line_is_told(driver: VsockDriver, text: bytes) -> None:
    with driver.program() as peer:
        peer.sendall(text)
        assert line(peer).startswith(b"ERROR ")
    driver.wait_statistics("open_connections", 0)
    assert driver.take() == []


def test_a_line_in_pieces(driver: VsockDriver) -> None:
    with driver.program() as peer:
        for byte in b"CONNECT 99":
            peer.sendall(bytes([byte]))
        peer.sendall(b"\n")
        driver.expect(OP.REQUEST, 99)


def test_nobody_listens_in_the_guest(driver: VsockDriver) -> None:
    with driver.program() as peer:
        peer.sendall(b"CONNECT 5\n")
        request = driver.expect(OP.REQUEST, 5)
        driver.send(Packet(OP.RESET, 5, request.host_port))
        assert line(peer) == b"ERROR nobody in the guest listens at port 5\n"
        assert peer.recv(1) == b""


def test_guest_connects(driver: VsockDriver) -> None:
    with driver.listener(80) as listener, driver.guest_connects(listener, 3000, 80) as peer:
        driver.send(Packet(OP.DATA, 3000, 80, b"GET"))
        assert peer.recv(100) == b"GET"
        peer.sendall(b"200")
        assert driver.expect(OP.DATA, 3000).data == b"200"


def test_nobody_listens_at_the_host(driver: VsockDriver) -> None:
    driver.send(Packet(OP.REQUEST, 3000, 80))
    assert driver.expect(OP.RESET, 3000).host_port == 80
    assert driver.statistics()["resets_refused"] == 1


def test_half_close_by_the_guest(driver: VsockDriver) -> None:
    peer, host_port = driver.host_connects(1)
    with peer:
        driver.send(Packet(OP.DATA, 1, host_port, b"last words"))
        driver.send(Packet(OP.SHUTDOWN, 1, host_port, flags=VSOCK_SHUTDOWN.SEND))
        assert peer.recv(100) == b"last words"
        assert peer.recv(100) == b""
        peer.sendall(b"still here")
        assert driver.expect(OP.DATA, 1).data == b"still here"


def test_the_guest_receives_no_more(driver: VsockDriver) -> None:
    peer, host_port = driver.host_connects(1)
    with peer:
        driver.send(Packet(OP.SHUTDOWN, 1, host_port, flags=VSOCK_SHUTDOWN.RECEIVE))
        driver.reclaim()
        with pytest.raises(BrokenPipeError):
            peer.sendall(bytes(1 << 20))
        driver.send(Packet(OP.DATA, 1, host_port, b"but sends"))
        assert peer.recv(100) == b"but sends"


def test_slow_reader_of_the_host(driver: VsockDriver) -> None:
    """The guest's credit ends with the buffers; nothing is lost, and the sum is right."""
    peer, host_port = driver.host_connects(1)
    source = random.Random(1).randbytes(2 << 20)
    sent, forwarded, stalled = 0, 0, False
    received = hashlib.sha256()
    with peer:
        while sent < len(source):
            for packet in driver.take():
                forwarded = packet.forwarded_bytes
            room = min(BUFFER - (sent - forwarded), 4096, len(source) - sent)
            if room:
                driver.send(Packet(OP.DATA, 1, host_port, source[sent : sent + room]))
                sent += room
                continue
            driver.reclaim()
            stalled = True
            received.update(peer.recv(100_000))
        driver.send(Packet(OP.SHUTDOWN, 1, host_port, flags=BOTH))
        driver.send(Packet(OP.RESET, 1, host_port))
        while data := peer.recv(100_000):
            received.update(data)
    assert stalled
    assert received.digest() == hashlib.sha256(source).digest()
    driver.wait_statistics("open_connections", 0)


def test_what_a_guest_is_done_with_is_not_spoken_of(tmp_path: Path) -> None:
    """Its last bytes wait for their reader; its ports may be those of another connection by then."""
    with vsock_guest(tmp_path / "v", rooms=1) as driver:
        peer, host_port = driver.host_connects(1)
        sent = 0
        with peer:
            while sent - waiting(peer) < BUFFER - 16_384:  # beyond what the socket takes
                driver.send(Packet(OP.DATA, 1, host_port, bytes(8192)))
                driver.reclaim()
                sent += 8192
            driver.send(Packet(OP.SHUTDOWN, 1, host_port, flags=VSOCK_SHUTDOWN.SEND))
            driver.send(Packet(OP.RESET, 1, host_port))
            driver.reclaim()
            driver.take()  # news of credit from before
            peer.shutdown(socket.SHUT_WR)  # the host looks at its socket
            driver.give(8)
            for port in (998, 999):  # answered behind whatever there was to be said
                driver.send(Packet(OP.DATA, port, 80))
                packet = driver.next()
                assert (packet.name, packet.port) == ("RESET", port)
            while sent:
                data = peer.recv(100_000)
                assert data
                sent -= len(data)
            assert peer.recv(1) == b""
        driver.wait_statistics("open_connections", 0)


def waiting(peer: socket.socket) -> int:
    """Bytes that a socket has for its reader."""
    return int(struct.unpack("i", fcntl.ioctl(peer, termios.FIONREAD, bytes(4)))[0])


def test_slow_reader_of_the_guest(driver: VsockDriver) -> None:
    """Not a byte beyond the guest's credit (VSK-5); what waits stays in the program's socket."""
    peer, host_port = driver.host_connects(1, buffer_bytes=1000)
    with peer:
        peer.sendall(bytes(range(250)) * 20)
        got = b""
        while len(got) < 1000:
            got += driver.expect(OP.DATA, 1).data
        assert len(got) == 1000
        driver.expect(OP.CREDIT_REQUEST, 1)
        driver.send(Packet(OP.CREDIT_UPDATE, 1, host_port, buffer_bytes=1000))
        for forwarded in range(500, 4001, 500):
            driver.send(Packet(OP.CREDIT_UPDATE, 1, host_port, buffer_bytes=1000, forwarded_bytes=forwarded))
            while len(got) < 1000 + forwarded:
                packet = driver.next()
                assert packet.operation in (OP.DATA, OP.CREDIT_REQUEST)
                got += packet.data
            assert len(got) == 1000 + forwarded
        assert got == bytes(range(250)) * 20


def test_credit_request_is_answered(driver: VsockDriver) -> None:
    peer, host_port = driver.host_connects(1)
    with peer:
        driver.send(Packet(OP.DATA, 1, host_port, bytes(100)))
        driver.send(Packet(OP.CREDIT_REQUEST, 1, host_port))
        answer = driver.expect(OP.CREDIT_UPDATE, 1)
        assert (answer.buffer_bytes, answer.forwarded_bytes) == (BUFFER, 100)


def test_no_room_for_packets(tmp_path: Path) -> None:
    """The guest gives buffers one by one: all comes, in order."""
    with vsock_guest(tmp_path / "v", rooms=1) as driver:
        peer, _ = driver.host_connects(1)
        with peer:
            source = random.Random(2).randbytes(60_000)
            peer.sendall(source)
            got = b""
            while len(got) < len(source):
                got += driver.expect(OP.DATA, 1).data
            assert got == source
            peer.sendall(source[:50])
            assert driver.expect(OP.DATA, 1).data == source[:50]


def test_host_closes_with_data_on_its_way(driver: VsockDriver) -> None:
    peer, host_port = driver.host_connects(1, buffer_bytes=10)
    peer.sendall(b"0123456789abcdef")
    peer.close()
    assert driver.expect(OP.DATA, 1).data == b"0123456789"
    seen = [driver.next(), driver.next()]
    assert {packet.operation for packet in seen} == {OP.SHUTDOWN, OP.CREDIT_REQUEST}
    driver.send(Packet(OP.DATA, 1, host_port, b"nobody reads this"))
    driver.send(Packet(OP.CREDIT_UPDATE, 1, host_port, forwarded_bytes=10))
    assert driver.expect(OP.DATA, 1).data == b"abcdef"
    assert driver.expect(OP.SHUTDOWN, 1).flags == BOTH


def test_many_connections(driver: VsockDriver) -> None:
    with ExitStack() as stack:
        peers = {}
        for port in range(1000, 1200):
            peers[port] = driver.host_connects(port)
            stack.enter_context(peers[port][0])
        for port, (peer, _) in peers.items():
            peer.sendall(b"%d" % port)
        seen: dict[int, bytes] = {}
        while len(seen) < len(peers):
            packet = driver.expect(OP.DATA)
            seen[packet.port] = packet.data
        assert seen == {port: b"%d" % port for port in peers}
        assert driver.statistics()["open_connections"] == 200
        for port, (peer, host_port) in peers.items():
            driver.send(Packet(OP.DATA, port, host_port, b"to %d" % port))
            assert peer.recv(100) == b"to %d" % port


def test_reset_of_the_device(driver: VsockDriver) -> None:
    """Programs see their connections end; the next driver begins anew."""
    peer, _ = driver.host_connects(1)
    waiting = driver.program()
    waiting.sendall(b"CONNECT 2\n")
    driver.expect(OP.REQUEST, 2)
    drivers = driver.device.start()
    with peer, waiting:
        assert peer.recv(1) == b""
        assert waiting.recv(1) == b""
    assert driver.statistics()["open_connections"] == 0
    second = VsockDriver(driver.device, drivers, driver.path)
    second.give(8)
    other, _ = second.host_connects(1)
    other.close()


def test_unplugged_with_connections(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with vsock_guest(path) as driver:
        peer, _ = driver.host_connects(1)
        peer.sendall(b"unread or not")
    with peer, suppress(ConnectionResetError):  # what the socket says if it was not read
        assert peer.recv(1) == b""
    assert not path.exists()


def test_programs_wait_for_the_guest(tmp_path: Path) -> None:
    """Who connects before the guest gives room is served when it does."""
    with vsock_guest(tmp_path / "v", rooms=0) as driver, driver.program() as peer:
        peer.sendall(b"CONNECT 1\n")
        driver.give(4)
        driver.expect(OP.REQUEST, 1)


def test_the_guest_does_not_answer(tmp_path: Path) -> None:
    with vsock_guest(tmp_path / "v", patience_ns=1) as driver, driver.program() as peer:
        peer.sendall(b"CONNECT 1\n")
        driver.expect(OP.REQUEST, 1)
        assert line(peer) == b"ERROR the guest does not answer\n"
        driver.expect(OP.RESET, 1)
        assert driver.statistics()["resets_late"] == 1


def test_reset_of_the_transport(driver: VsockDriver) -> None:
    peer, _ = driver.host_connects(1)
    driver.device.device.reset_transport()  # type: ignore[attr-defined]
    with peer:
        assert peer.recv(1) == b""
    gpa = driver.guest.place(b"\xff" * 4)
    driver.events.add([Segment(gpa, 4, True)])
    driver.events.publish()
    assert list(driver.events.wait().values()) == [4]
    assert driver.guest.read(gpa, 4) == bytes(4)
    assert driver.statistics()["open_connections"] == 0
