"""A guest that is a station on a network: over a socket, over a TAP device, over passt."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hypercall_abi.devices.virtio_net import NET_FEATURE
from paravirt import Machine
from paravirt.attachments.net import Net
from tests.support.net_peer import NetPeer
from tests.support.station import ECHO_PORT, END_PORT, GUEST, ask_mac, datagram, echo, udp_is_right
from tests.support.station_guest import running
from tests.support.tap import await_up, needed_tap
from tests.support.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.kvm


@contextmanager
def station(net: Net, words: str = "", transport: str = "calls") -> Iterator[Machine]:
    """The guest `net`."""
    with running("net", net, words, transport) as guest:
        yield guest.machine


@pytest.mark.parametrize(("transport", "words"), [("calls", ""), ("calls", "virtio.wait=poll"), ("mmio", "")])
def test_over_a_socket(transport: str, words: str) -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    with ours, its, station(Net("lan", f"fd:{its.fileno()}"), words, transport=transport) as machine:
        ours.send(ask_mac())
        answer = ours.recv(2048)
        mac = answer[6:12]
        assert answer[20:22] == b"\0\2"  # a reply
        assert answer[28:32] == socket.inet_aton(GUEST)
        for size in (1, 56, 1472):
            ours.send(echo(mac, bytes(size), size))
            assert ours.recv(2048)[34:36] == b"\0\0"
            ours.send(datagram(mac, ECHO_PORT, bytes(range(256)) * 5 + bytes(size % 7)))
            answer = ours.recv(2048)
            assert answer[42:].startswith(bytes(range(256)) * 5)
            assert udp_is_right(answer[14:])
        ours.send(datagram(mac, END_PORT, b""))
        (counts,) = machine.devices.statistics()
        assert counts.fault is None


def test_a_cable_that_is_pulled() -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    with ours, its, station(Net("lan", f"fd:{its.fileno()}")) as machine:

        def dropped() -> int:
            return machine.devices.statistics()[0].more["receive_dropped_down"]

        ours.send(ask_mac())
        mac = ours.recv(2048)[6:12]
        machine.devices.set_link("lan", False)
        ours.send(datagram(mac, ECHO_PORT, b"nobody hears this"))
        wait_for(lambda: dropped() == 1, "the frame does not arrive")
        machine.devices.set_link("lan", True)
        ours.send(datagram(mac, ECHO_PORT, b"heard"))
        assert ours.recv(2048)[42:] == b"heard"
        ours.send(datagram(mac, END_PORT, b""))


@contextmanager
def tap(*, pairs: int = 1) -> Iterator[Net]:
    """A network that is plugged into a TAP device of its own."""
    with needed_tap("pv0", pairs=pairs):
        yield Net("lan", "tap:pv0", pairs=pairs)


def exchange(to: tuple[str, int], payload: bytes) -> bytes:
    """What comes back of a UDP datagram; it is sent again while the way is not known yet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(1)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            link.sendto(payload, to)
            try:
                return link.recv(65536)
            except OSError:
                assert time.monotonic() < deadline, "no answer"


@pytest.mark.rights
@pytest.mark.parametrize("pairs", [1, 3])
def test_over_tap(pairs: int) -> None:
    with tap(pairs=pairs) as net, station(net, f"pairs={pairs}") as machine:
        assert exchange((GUEST, ECHO_PORT), b"hello") == b"hello"
        large = bytes(range(256)) * 5
        for n in range(50):  # from sockets of their own, so that they spread over the queues
            assert exchange((GUEST, ECHO_PORT), large + bytes([n])) == large + bytes([n])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.sendto(b"", (GUEST, END_PORT))
        (counts,) = machine.devices.statistics()
        assert counts.fault is None


@pytest.mark.rights
def test_ping_over_tap() -> None:
    with tap() as net, station(net):
        await_up("pv0")
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as link:
            link.settimeout(PATIENCE_S)
            for size in (1, 56, 1472):
                request = echo(b"", bytes(size), size)[28:]  # behind Ethernet and IPv4, which the host makes
                link.sendto(request, (GUEST, 0))
                answer = link.recv(2048)[20:]
                assert answer[:2] == b"\0\0"
                assert answer[4:] == request[4:]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.sendto(b"", (GUEST, END_PORT))


def free_port() -> int:
    """A UDP port of this host's that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind(("127.0.0.1", 0))
        return int(link.getsockname()[1])


def test_over_passt() -> None:
    echo_port, end_port = free_port(), free_port()
    forward = (f"udp:{echo_port}:{ECHO_PORT}", f"udp:{end_port}:{END_PORT}")
    with station(Net("lan", "user", forward=forward)):
        assert exchange(("127.0.0.1", echo_port), b"through passt") == b"through passt"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.sendto(b"", ("127.0.0.1", end_port))


@pytest.mark.parametrize("transport", ["calls", "mmio"])
def test_over_vhost_user(tmp_path: Path, transport: str) -> None:
    """Another program carries the frames; it dies, and the next one carries on."""
    path = tmp_path / "lan.sock"
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    with ours, its, ExitStack() as peers:
        peer = peers.enter_context(NetPeer(path, its))
        with station(Net("lan", f"vhost:{path}"), transport=transport) as machine:
            for life in range(3):
                ours.send(ask_mac())
                mac = ours.recv(2048)[6:12]
                for size in (1, 1000):
                    ours.send(datagram(mac, ECHO_PORT, bytes(range(256)) + bytes(size)))
                    answer = ours.recv(2048)
                    assert answer[42:].startswith(bytes(range(256)))
                    assert peer.accepted & NET_FEATURE.CSUM, "the peer would complete the checksum"
                peer.die()
                peer = peers.enter_context(NetPeer(path, its))
                wait_for(lambda: machine.devices.statistics()[0].more["reconnects"] > life, "it was not found")  # noqa: B023
            ours.send(datagram(mac, END_PORT, b""))
            (counts,) = machine.devices.statistics()
            assert counts.fault is None


def test_pairs_over_vhost_user(tmp_path: Path) -> None:
    path = tmp_path / "lan.sock"
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    with ours, its, NetPeer(path, its, pairs=3) as peer, station(Net("lan", f"vhost:{path}", pairs=3), "pairs=3"):
        ours.send(ask_mac())
        mac = ours.recv(2048)[6:12]
        wait_for(lambda: sum(queue.enabled for queue in peer.queues.values()) == 6, "the guest does not use all pairs")
        ours.send(datagram(mac, ECHO_PORT, b"hello"))
        assert ours.recv(2048)[42:47] == b"hello"
        ours.send(datagram(mac, END_PORT, b""))
