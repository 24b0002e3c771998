"""A driver that breaks the rules of vsock: it is answered by RESET or stopped, and the others are served on."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.devices.virtio_vsock import VSOCK_HEADER
from paravirt._native import lib
from tests.support.fake_guest import Segment
from tests.support.threads import asleep
from tests.support.vsock_driver import BUFFER, CID, HOST, OP, Packet, VsockDriver, line, vsock_guest


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[VsockDriver]:
    with vsock_guest(tmp_path / "v") as driver:
        yield driver


def check_alive(driver: VsockDriver, port: int = 9999) -> None:
    """A connection can still be made and used."""
    peer, host_port = driver.host_connects(port)
    with peer:
        driver.send(Packet(OP.DATA, port, host_port, b"alive"))
        assert peer.recv(10) == b"alive"
    driver.expect(OP.SHUTDOWN, port)
    driver.send(Packet(OP.RESET, port, host_port))


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": 0},
        {"type": 2},
        {"type": 0xFFFF},
        {"destination_cid": 3},
        {"destination_cid": 0},
        {"destination_cid_high": 1},
        {"source_cid": HOST},
        {"source_cid": CID + 1},
        {"source_cid_high": 0xFFFF_FFFF},
        {"operation": 0},
        {"operation": 8},
        {"operation": 0xFFFF},
        {"operation": OP.DATA},
        {"operation": OP.RESPONSE},
        {"operation": OP.SHUTDOWN},
        {"operation": OP.CREDIT_UPDATE},
        {"operation": OP.CREDIT_REQUEST},
    ],
    ids=str,
)
def test_packets_of_nothing_are_reset(driver: VsockDriver, wrong: dict[str, Any]) -> None:
    """VSK-3; with the addresses swapped, whatever they are."""
    with driver.listener(80):
        driver.send(Packet(OP.REQUEST, 55, 80), **wrong)
        answer = driver.expect(OP.RESET, 55)
        assert answer.host_port == 80
        # A RESET is not answered, or two sides could go on for ever.
        driver.send(Packet(OP.RESET, 55, 80), **{key: value for key, value in wrong.items() if key != "operation"})
        check_alive(driver)
    statistics = driver.statistics()
    assert statistics["resets_unknown"] + statistics["resets_protocol"] == 1


@pytest.mark.parametrize("operation", [0, OP.REQUEST, OP.RESPONSE, 8, 0xFFFF])
def test_packets_at_the_wrong_time_end_their_connection(driver: VsockDriver, operation: int) -> None:
    peer, host_port = driver.host_connects(1)
    with peer:
        driver.send(Packet(operation, 1, host_port))
        driver.expect(OP.RESET, 1)
        assert peer.recv(1) == b""
        check_alive(driver)


@pytest.mark.parametrize("operation", [OP.REQUEST, OP.SHUTDOWN, OP.DATA, OP.CREDIT_UPDATE, OP.CREDIT_REQUEST])
def test_a_request_is_answered_by_nothing_else(driver: VsockDriver, operation: int) -> None:
    with driver.program() as peer:
        peer.sendall(b"CONNECT 1\n")
        driver.send(Packet(operation, 1, driver.expect(OP.REQUEST, 1).host_port))
        driver.expect(OP.RESET, 1)
        assert peer.recv(1) == b""


def test_data_beyond_the_credit(driver: VsockDriver) -> None:
    """VSK-4: not a byte of it is delivered, and no more than the buffer is kept."""
    peer, host_port = driver.host_connects(1)
    with peer:
        while driver.statistics()["resets_credit"] == 0:
            driver.send(Packet(OP.DATA, 1, host_port, bytes(4096)))
            driver.reclaim()
        sent = driver.statistics()["from_guest_bytes"]
        driver.expect(OP.RESET, 1)
        got = 0
        while data := peer.recv(1 << 20):
            got += len(data)
        assert sent - BUFFER <= got <= sent
        check_alive(driver)


def test_more_than_the_credit_in_one_packet(driver: VsockDriver) -> None:
    peer, host_port = driver.host_connects(1)
    with peer:
        driver.send(Packet(OP.DATA, 1, host_port, bytes(BUFFER + 1)))
        driver.expect(OP.RESET, 1)
        assert peer.recv(1) == b""


def test_data_after_the_end(driver: VsockDriver) -> None:
    peer, host_port = driver.host_connects(1)
    with peer:
        driver.send(Packet(OP.SHUTDOWN, 1, host_port, flags=2))
        driver.send(Packet(OP.DATA, 1, host_port, b"once more"))
        driver.expect(OP.RESET, 1)
        assert peer.recv(10) == b""


@pytest.mark.parametrize("credit", [{"forwarded_bytes": 1}, {"forwarded_bytes": 0xFFFF_FFFF}, {"buffer_bytes": 0}])
def test_credit_that_makes_no_sense_gets_no_data(driver: VsockDriver, credit: dict[str, Any]) -> None:
    with driver.program() as peer:
        peer.sendall(b"CONNECT 1\ndata")
        host_port = driver.expect(OP.REQUEST, 1).host_port
        driver.send(Packet(OP.RESPONSE, 1, host_port, **{"buffer_bytes": 1} | credit))
        assert line(peer).startswith(b"OK ")
        driver.expect(OP.CREDIT_REQUEST, 1)
        check_alive(driver)
        driver.send(Packet(OP.CREDIT_UPDATE, 1, host_port))
        assert driver.expect(OP.DATA, 1).data == b"data"


@pytest.mark.parametrize("size", [1, 43])
def test_no_header_is_a_fault(driver: VsockDriver, size: int) -> None:
    driver.send_raw(bytes(size))
    assert driver.device.wait_fault() == "VSK-1"


@pytest.mark.parametrize("more", [1, 0xFFFF_FFFF])
def test_a_length_beyond_the_chain_is_a_fault(driver: VsockDriver, more: int) -> None:
    driver.send(Packet(OP.DATA, 1, 1, b"data"), size_bytes=min(4 + more, 0xFFFF_FFFF))
    assert driver.device.wait_fault() == "VSK-1"


def test_a_chain_that_is_only_written_is_a_fault(driver: VsockDriver) -> None:
    driver.transmit.add([Segment(driver.guest.take(100), 100, True)])
    driver.transmit.publish()
    assert driver.device.wait_fault() == "VSK-1"


@pytest.mark.parametrize("room", [1, VSOCK_HEADER.size])
def test_no_room_for_a_header_and_a_byte_is_a_fault(tmp_path: Path, room: int) -> None:
    with vsock_guest(tmp_path / "v", rooms=0) as driver:
        driver.receive.add([Segment(driver.guest.take(room), room, True)])
        driver.receive.publish()
        driver.send(Packet(OP.REQUEST, 1, 80))
        assert driver.device.wait_fault() == "VSK-2"


def test_no_room_for_an_event_is_a_fault(driver: VsockDriver) -> None:
    driver.events.add([Segment(driver.guest.take(3), 3, True)])
    driver.events.publish()
    driver.device.device.reset_transport()  # type: ignore[attr-defined]
    assert driver.device.wait_fault() == "VSK-2"


def test_after_a_fault_the_thread_sleeps_and_a_reset_helps(driver: VsockDriver) -> None:
    driver.send_raw(b"x")
    driver.send_raw(b"y")
    assert driver.device.wait_fault() == "VSK-1"
    asleep("sock socks")
    second = VsockDriver(driver.device, driver.device.start(), driver.path)
    second.give(8)
    check_alive(second)


def test_any_framing(driver: VsockDriver) -> None:
    """Header and data in any pieces, both ways."""
    peer, host_port = driver.host_connects(1)
    with peer:
        fields = {"source_cid": CID, "source_cid_high": 0, "destination_cid": HOST, "destination_cid_high": 0}
        fields |= {"source_port": 1, "destination_port": host_port, "size_bytes": 11, "type": 1, "operation": OP.DATA}
        whole = VSOCK_HEADER.build(fields | {"flags": 0, "buffer_bytes": BUFFER, "forwarded_bytes": 0}) + b"hello world"
        gpa = driver.guest.place(whole)
        cuts = [0, 1, 20, 43, 46, 50, len(whole)]
        driver.transmit.add([Segment(gpa + a, b - a) for a, b in zip(cuts, cuts[1:], strict=False)])
        driver.transmit.publish()
        assert peer.recv(100) == b"hello world"
        driver.transmit.wait()


def test_requests_without_end(tmp_path: Path) -> None:
    """More connections than there may be, and nobody takes the answers: bounded, and the rest is refused."""
    most = int(lib.PV_VSOCK_CONNECTIONS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        with vsock_guest(tmp_path / "v", rooms=2) as driver:
            flood(driver, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_descriptor_is_left(driver: VsockDriver) -> None:
    """That is no refusal by whoever would listen, and it passes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with driver.listener(80) as listener:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            driver.send(Packet(OP.REQUEST, 1, 80))
            driver.expect(OP.RESET, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        statistics = driver.statistics()
        assert (statistics["resets_full"], statistics["resets_refused"]) == (1, 0)
        driver.guest_connects(listener, 2, 80).close()


def flood(driver: VsockDriver, most: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{driver.path}_80")
        listener.listen(most + 64)
        for port in range(most + 10):
            driver.send(Packet(OP.REQUEST, port, 80))
            driver.poll()
        driver.reclaim()
        answers: dict[int, int] = {}
        while len(answers) < most + 10:
            for packet in driver.take():
                answers[packet.operation << 32 | packet.port] = 1
        refused = [key for key in answers if key >> 32 == OP.RESET]
        assert len(refused) >= 10
        statistics = driver.statistics()
        assert statistics["connections"] + statistics["resets_full"] + statistics["resets_refused"] == most + 10


def test_answers_that_nobody_takes_stop_the_guest_itself(tmp_path: Path) -> None:
    """RESETs wait in a bounded number; then the guest's packets wait, and nothing is lost."""
    with vsock_guest(tmp_path / "v", size=256, rooms=0) as driver:
        for port in range(250):
            driver.send(Packet(OP.DATA, port, 80))
        driver.reclaim(most=0)
        for port in range(250, 490):
            driver.send(Packet(OP.DATA, port, 80))
        driver.give(16)
        answered = {driver.expect(OP.RESET).port for _ in range(490)}
        assert answered == set(range(490))
