"""TCP and UDP with a guest that has lwIP over our driver: over passt, over TAP devices, over a bad wire."""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from hypercall_abi.devices.virtio_net import NET_HEADER_FLAG
from paravirt.attachments.net import Net
from tests.support.built import GUESTS
from tests.support.capture_judge import judge_capture
from tests.support.lossy_wire import LossyWire
from tests.support.station import END_PORT, GUEST, checksum
from tests.support.station_guest import Station, running
from tests.support.tap import await_up, needed_tap, set_mtu
from tests.support.waiting import wait_for
from tests.support.web_client import (
    DISCARD_PORT,
    ECHO_PORT,
    PAGE_PORT,
    SOURCE_PORT,
    Address,
    connect,
    discard,
    echo,
    get,
    noise,
    pattern,
    read_all,
    reset,
    source,
)

pytestmark = pytest.mark.kvm
MIB = 1 << 20
BULK_BYTES = 32 * MIB if os.environ.get("PARAVIRT_ACCEL") == "kvm" else MIB
NO_OFFLOADS = "virtio.refuse=0x1983"  # checksums and large segments, both ways
ETH_P_ALL, SOL_PACKET, PACKET_VNET_HDR = 3, 263, 15
TIMEOUT_S = 110.0  # the machine's: the test's is over soon after


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    how = "guest_drivers/guests/web/fetch_lwip build/lwip && make -s -C guest_drivers"
    assert (GUESTS / "web.elf").exists(), f"the guest `web` is not built; ./dev test does it, or: {how}"


@dataclass
class Web:
    """The guest `web`, and where its ports are for us."""

    station: Station
    ports: dict[str, Address]

    def at(self, port: int, protocol: str = "tcp") -> Address:
        return self.ports.get(f"{protocol}:{port}", (GUEST, port))

    def end(self) -> Counter[str]:
        """Asks it to end; what it says to have counted."""
        console = self.station.console
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:

            def told() -> bool:
                link.sendto(b"", self.at(END_PORT, "udp"))
                return b" dropped\n" in console

            wait_for(told, "it does not end")
        return Counter({name: int(number) for number, name in re.findall(r"(\d+) (\w+)", console.decode())})


def free_ports(kind: socket.SocketKind, count: int) -> list[int]:
    """Ports of this host's that nobody has."""
    with ExitStack() as stack:
        links = [stack.enter_context(socket.socket(socket.AF_INET, kind)) for _ in range(count)]
        for link in links:
            link.bind(("127.0.0.1", 0))
        return [link.getsockname()[1] for link in links]


@contextmanager
def web(net: Net, words: str = "", transport: str = "calls", ports: dict[str, Address] | None = None) -> Iterator[Web]:
    with running("web", net, words, transport, TIMEOUT_S) as station:
        yield Web(station, ports or {})


@contextmanager
def passt_web(words: str = "", transport: str = "calls", capture: Path | None = None) -> Iterator[Web]:
    """Behind passt, its ports forwarded from some of ours."""
    theirs = {
        "tcp": (socket.SOCK_STREAM, (ECHO_PORT, DISCARD_PORT, SOURCE_PORT, PAGE_PORT)),
        "udp": (socket.SOCK_DGRAM, (ECHO_PORT, END_PORT)),
    }
    forward: tuple[str, ...] = ()
    ports: dict[str, Address] = {}
    for protocol, (kind, numbers) in theirs.items():
        for ours, port in zip(free_ports(kind, len(numbers)), numbers, strict=True):
            forward += (f"{protocol}:{ours}:{port}",)
            ports[f"{protocol}:{port}"] = ("127.0.0.1", ours)
    with web(Net("lan", "user", forward=forward, capture=capture), words, transport, ports) as guest:
        yield guest


@contextmanager
def tap_web(words: str = "", *, pairs: int = 1, mtu: int = 1500, capture: Path | None = None) -> Iterator[Web]:
    """At a TAP device."""
    with needed_tap("pv0", pairs=pairs):
        set_mtu("pv0", mtu)
        with web(Net("lan", "tap:pv0", pairs=pairs, capture=capture), f"pairs={pairs} {words}") as guest:
            yield guest


def at_once(*works: Callable[[], object]) -> None:
    """All of them, each in a thread of its own."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def talk(guest: Web, seed: int, size_bytes: int) -> None:
    """All services, one after the other."""
    discard(guest.at(DISCARD_PORT), noise(seed, size_bytes))
    source(guest.at(SOURCE_PORT), seed, size_bytes)
    echo(guest.at(ECHO_PORT), noise(seed + 1, size_bytes))


def echo_datagram(to: Address, data: bytes) -> None:
    """Sent again while the way is not known yet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(0.2)
        back = b""

        def came() -> bool:
            nonlocal back
            link.sendto(data, to)
            try:
                back = link.recv(65536)
            except TimeoutError:
                return False
            return True

        wait_for(came, "no answer")
        assert back == data


# ---- over passt ----


@pytest.mark.parametrize(
    ("words", "transport"), [("", "calls"), ("ip=dhcp", "calls"), ("virtio.wait=poll", "calls"), ("", "mmio")]
)
def test_services_over_passt(words: str, transport: str) -> None:
    with passt_web(words, transport) as guest:
        status, headers, page = get(guest.at(PAGE_PORT))
        assert status == "HTTP/1.1 200 OK"
        assert int(headers["Content-Length"]) == len(page)
        assert b"<td>Address<td>10.0.2.15<" in page
        talk(guest, 1, 100_001)
        echo_datagram(guest.at(ECHO_PORT, "udp"), b"hello")
        counts = guest.end()
        assert counts["connections"] == 4
        assert counts["dropped"] == 0


def test_bulk_over_passt() -> None:
    with passt_web() as guest:
        discard(guest.at(DISCARD_PORT), noise(2, BULK_BYTES))
        source(guest.at(SOURCE_PORT), 2, BULK_BYTES)
        guest.end()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /?a=b HTTP/1.0\r\n\r\n", "200 OK"),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
        (b"GET /nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"DELETE / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"GET / HTTP/1.1\r\nX: " + 100_000 * b"y" + b"\r\n\r\n", "200 OK"),
    ],
)
def test_requests_for_the_page(request_: bytes, status: str) -> None:
    with passt_web() as guest:
        line, headers, body = get(guest.at(PAGE_PORT), request_)
        assert line == f"HTTP/1.1 {status}"
        assert len(body) == (0 if request_.startswith(b"HEAD") else int(headers["Content-Length"]))
        guest.end()


def test_many_requests_for_one_page() -> None:
    """From browsers that do not wait for one another."""
    with passt_web() as guest:
        at_once(*[lambda: get(guest.at(PAGE_PORT)) for _ in range(20)])
        _, _, page = get(guest.at(PAGE_PORT))
        assert b"shown<td>21 times" in page
        guest.end()


def test_a_capture_is_right(tmp_path: Path) -> None:
    """Every checksum of a session, by a program that is nobody's here."""
    path = tmp_path / "lan.pcapng"
    with passt_web(capture=path) as guest:
        talk(guest, 3, 200_000)
        echo_datagram(guest.at(ECHO_PORT, "udp"), b"hello")
        guest.end()
    judge_capture(path)


# ---- over a TAP device ----


@pytest.mark.rights
@pytest.mark.parametrize(("mtu", "pairs"), [(1500, 1), (1500, 3), (9000, 1), (1280, 1)])
def test_bulk_over_tap(mtu: int, pairs: int) -> None:
    """Large segments come in from the host's kernel; what is larger than a buffer goes out in pieces."""
    with tap_web(pairs=pairs, mtu=mtu) as guest:
        discard(guest.at(DISCARD_PORT), noise(4, BULK_BYTES))
        (device,) = guest.station.machine.devices.statistics()
        assert device.more["received_frames"] < BULK_BYTES // mtu, "the host does not send large segments"
        source(guest.at(SOURCE_PORT), 4, BULK_BYTES)  # a slow guest gets an acknowledgement for each
        echo(guest.at(ECHO_PORT), noise(5, BULK_BYTES // 4))
        (device,) = guest.station.machine.devices.statistics()
        counts = guest.end()
        assert device.fault is None
        assert counts["merged"] > BULK_BYTES // 65536
        assert (counts["uncopied"] > 0) == (mtu > 2000)
        frames = BULK_BYTES // mtu
        assert counts["out"] > frames, "what was sent is not in segments of that size"


@pytest.mark.rights
@pytest.mark.parametrize("words", [NO_OFFLOADS, "virtio.refuse=0x8080", "virtio.wait=poll"])
def test_over_tap_without_help(words: str, tmp_path: Path) -> None:
    """Checksums are the guest's; frames are of one buffer; nobody sleeps."""
    path = tmp_path / "lan.pcapng"
    with tap_web(words, capture=path) as guest:
        talk(guest, 6, MIB)
        echo_datagram(guest.at(ECHO_PORT, "udp"), b"hello")
        assert guest.end()["merged"] == 0 or "wait" in words
    if words == NO_OFFLOADS:
        judge_capture(path)


@pytest.mark.rights
def test_checksums_that_are_left_to_the_host() -> None:
    """The kernel believes in frames for itself: who passes them on completes them, as is done here by hand."""
    with tap_web() as guest, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
        wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        wire.bind(("pv0", ETH_P_ALL))
        source(guest.at(SOURCE_PORT), 18, 60_001)
        guest.end()
        wire.setblocking(False)
        seen = 0
        while seen < 20:
            header, frame = (data := wire.recv(65536))[:10], data[10:]
            flags, _, _, _, start, offset = struct.unpack("<BBHHHH", header)
            if frame[23] != socket.IPPROTO_TCP or frame[26:30] != socket.inet_aton(GUEST):
                continue
            assert flags == NET_HEADER_FLAG.NEEDS_CHECKSUM
            sum_ = struct.pack(">H", checksum(frame[start:]))
            segment = frame[start : start + offset] + sum_ + frame[start + offset + 2 :]
            assert checksum(frame[26:34] + struct.pack(">HH", socket.IPPROTO_TCP, len(segment)) + segment) == 0
            seen += 1


@pytest.mark.rights
@pytest.mark.parametrize("size_bytes", [0, 1, 1472, 1473, 20_000, 60_000])
def test_datagrams_larger_than_a_frame(size_bytes: int) -> None:
    with tap_web() as guest:
        echo_datagram(guest.at(ECHO_PORT), noise(7, size_bytes))
        guest.end()


@pytest.mark.rights
@pytest.mark.parametrize("pairs", [1, 3])
def test_twenty_connections_at_once(pairs: int) -> None:
    with tap_web(pairs=pairs) as guest:
        at_once(*[partial(talk, guest, 100 + 2 * n, BULK_BYTES // 64) for n in range(20)])
        counts = guest.end()
        assert counts["connections"] == 60
        assert counts["reset"] == 0


@pytest.mark.rights
def test_connections_that_are_reset() -> None:
    """In the middle of everything, and to ports where nobody listens; others go on meanwhile."""
    with tap_web() as guest:
        others = threading.Thread(target=talk, args=(guest, 8, BULK_BYTES // 8))
        others.start()
        for turn in range(30):
            port = (ECHO_PORT, DISCARD_PORT, SOURCE_PORT)[turn % 3]
            link = connect(guest.at(port))
            link.sendall(b"%d 1\n" % (64 * MIB) + bytes(turn * 3000))
            if port != DISCARD_PORT:
                assert link.recv(1)
            reset(link)
            with socket.socket() as nobody, pytest.raises(ConnectionRefusedError):
                nobody.connect((GUEST, 81))
        others.join()
        talk(guest, 9, 100_000)
        wait_for(lambda: b", 1 open<" in get(guest.at(PAGE_PORT))[2], "connections are left")
        assert guest.end()["reset"] == 30


@pytest.mark.rights
def test_half_of_a_connection_is_closed() -> None:
    """What is under way then arrives, both ways, however late it is read."""
    with tap_web() as guest:
        data = noise(10, 300_000)
        links = [connect(guest.at(port)) for port in (ECHO_PORT, DISCARD_PORT, SOURCE_PORT)]
        words = (data[:100_000], data, b"300000 11\n")
        wanted = (data[:100_000], f"300000 {sha256(data).hexdigest()}\n".encode(), pattern(11, 300_000))
        for link, said in zip(links, words, strict=True):
            link.sendall(said)
            link.shutdown(socket.SHUT_WR)
        for link, answer in zip(links, wanted, strict=True):
            assert read_all(link) == answer
            link.close()
        guest.end()


@pytest.mark.rights
@pytest.mark.parametrize(
    ("port", "said", "begins"),
    [(SOURCE_PORT, b"1000 12\n", pattern(12, 1000)), (PAGE_PORT, b"GET / HTTP/1.0\r\n\r\n", b"HTTP")],
)
def test_the_end_comes_with_what_is_asked(port: int, said: bytes, begins: bytes) -> None:
    """In one segment: the guest, which answers what it has read and closes, has not read all, and knows of no end."""
    with tap_web() as guest:
        with connect(guest.at(port)) as link:
            link.send(said, socket.MSG_MORE)  # stays until there is more, which is the end
            link.shutdown(socket.SHUT_WR)
            assert read_all(link).startswith(begins)
        assert guest.end()["reset"] == 0


@pytest.mark.rights
def test_small_windows() -> None:
    """The receiver has little room, or does not read for a while, so that the window closes."""
    with tap_web() as guest:
        source(guest.at(SOURCE_PORT), 12, 200_000, receive_bytes=2304)
        echo(guest.at(ECHO_PORT), noise(13, 100_000), receive_bytes=2304)
        with connect(guest.at(SOURCE_PORT), 8192) as link:
            link.sendall(b"%d 14\n" % MIB)
            before = -1
            while (now := guest.station.machine.devices.statistics()[0].more["sent_bytes"]) != before:
                before = now
                time.sleep(0.3)  # it is a wait for silence
            assert read_all(link) == pattern(14, MIB)
        guest.end()


# ---- over a bad wire ----


@pytest.mark.rights
@pytest.mark.slow
def test_a_bad_wire() -> None:
    """Frames are lost, doubled, late and wrong; connections are none of it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, its, needed_tap("pv0"), LossyWire(ours, "pv0", lost=1, seed=1) as wire:
        with web(Net("lan", f"fd:{its.fileno()}", mtu=1500)) as guest:
            await_up("pv0")
            at_once(
                partial(discard, guest.at(DISCARD_PORT), noise(15, MIB)),
                partial(source, guest.at(SOURCE_PORT), 16, MIB // 2),
                partial(echo, guest.at(ECHO_PORT), noise(17, MIB // 4)),
            )
            guest.end()
        assert all(wire.counts.values()), wire.counts
