"""A virtio-vsock driver on the fake guest: packets as values, sent and received one by one.

It keeps no connections: what a driver would remember is the test's, and so is every mistake that a driver can make.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypercall_abi.devices.virtio_vsock import VSOCK_CID, VSOCK_HEADER, VSOCK_OPERATION, VSOCK_TYPE
from paravirt.attachments.vsock import Vsock
from paravirt.devices.vsock import VsockDevice

from .fake_guest import PATIENCE_S, Driver, FakeGuest, PluggedDevice, Segment
from .waiting import wait_for

CID = 42
HOST = VSOCK_CID.HOST
BUFFER = 64 << 10  # what the host gives each connection
OP = VSOCK_OPERATION
ROOM = 4096


@dataclass(frozen=True)
class Packet:
    """A header and its data, as the guest sees them: `port` is its own, `host_port` the other's."""

    operation: int
    port: int
    host_port: int
    data: bytes = b""
    flags: int = 0
    buffer_bytes: int = BUFFER
    forwarded_bytes: int = 0

    @property
    def name(self) -> str:
        return VSOCK_OPERATION.name_of(self.operation)


class VsockDriver:
    """Drives the three queues of a started vsock."""

    def __init__(self, device: PluggedDevice, drivers: list[Driver], path: Path) -> None:
        self.device, self.guest, self.path = device, device.guest, path
        self.receive, self.transmit, self.events = drivers
        self._rooms: dict[int, int] = {}
        self._spare: list[int] = []
        self._sending: dict[int, int] = {}
        self._buffers: list[int] = []
        self._packets: deque[Packet] = deque()

    # ---- to the host ----

    def send(self, packet: Packet, **wrong: Any) -> None:
        """Sends `packet`; `wrong` overrides fields of its header."""
        fields = {
            "source_cid": CID,
            "source_cid_high": 0,
            "destination_cid": HOST,
            "destination_cid_high": 0,
            "source_port": packet.port,
            "destination_port": packet.host_port,
            "size_bytes": len(packet.data),
            "type": VSOCK_TYPE.STREAM,
            "operation": packet.operation,
            "flags": packet.flags,
            "buffer_bytes": packet.buffer_bytes,
            "forwarded_bytes": packet.forwarded_bytes,
        }
        self.send_raw(VSOCK_HEADER.build(fields | wrong) + packet.data)

    def send_raw(self, data: bytes) -> None:
        """A chain of one buffer, whatever it holds; waits while the queue is full."""
        assert len(data) <= BUFFER + 64
        self.reclaim(most=self.transmit.size - 2)
        gpa = self._buffers.pop() if self._buffers else self.guest.take(BUFFER + 64)
        self.guest.write(gpa, data)
        self._sending[self.transmit.add([Segment(gpa, len(data))])] = gpa
        self.transmit.publish()

    def reclaim(self, most: int = 0) -> None:
        """Waits until at most so many packets are under way."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for head in self.transmit.collect():
                self._buffers.append(self._sending.pop(head))
            if len(self._sending) <= most:
                return
            assert not self.device.needs_reset, f"the device faulted: {self.device.fault}"
            assert time.monotonic() < deadline, "the host takes no packets"
            time.sleep(0.0002)

    # ---- from the host ----

    def give(self, count: int, room: int = ROOM) -> None:
        """Buffers for packets with so much data."""
        for _ in range(count):
            self._offer(self._spare.pop() if self._spare else self.guest.take(VSOCK_HEADER.size + ROOM), room)
        self.receive.publish()

    def _offer(self, gpa: int, room: int = ROOM) -> None:
        self._rooms[self.receive.add([Segment(gpa, VSOCK_HEADER.size + room, True)])] = gpa

    def poll(self, *, again: bool = True) -> None:
        """Takes packets that came; with `again` their buffers are the host's once more."""
        came = [(self._rooms.pop(head), used) for head, used in self.receive.collect().items()]
        for gpa, used in came:
            header = VSOCK_HEADER.parse(self.guest.read(gpa, VSOCK_HEADER.size))
            data = self.guest.read(gpa + VSOCK_HEADER.size, used - VSOCK_HEADER.size)
            assert header.size_bytes == len(data)
            assert header.destination_cid == CID or header.operation == OP.RESET
            self._packets.append(
                Packet(
                    header.operation,
                    header.destination_port,
                    header.source_port,
                    data,
                    header.flags,
                    header.buffer_bytes,
                    header.forwarded_bytes,
                )
            )
            self._spare.append(gpa)
            if again:
                self._offer(self._spare.pop())
        if again:
            self.receive.publish()

    def next(self, *, again: bool = True) -> Packet:
        """The next packet."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._packets:
            self.poll(again=again)
            if not self._packets:
                assert not self.device.needs_reset, f"the device faulted: {self.device.fault}"
                assert time.monotonic() < deadline, "no packet came"
                time.sleep(0.0002)
        return self._packets.popleft()

    def take(self, *, again: bool = True) -> list[Packet]:
        """What has come by now."""
        self.poll(again=again)
        found = list(self._packets)
        self._packets.clear()
        return found

    def expect(self, operation: int, port: int | None = None) -> Packet:
        """The next packet that is no credit update, which must be that one."""
        packet = self.next()
        while packet.operation == OP.CREDIT_UPDATE != operation:
            packet = self.next()
        assert packet.operation == operation, packet
        assert port is None or packet.port == port, packet
        return packet

    # ---- together ----

    def host_connects(self, port: int, **credit: Any) -> tuple[socket.socket, int]:
        """A program of the host's connects to `port`, and the guest takes it: its socket, and the host's port."""
        peer = self.program()
        peer.sendall(b"CONNECT %d\n" % port)
        host_port = self.expect(OP.REQUEST, port).host_port
        self.send(Packet(OP.RESPONSE, port, host_port, **credit))
        assert line(peer) == b"OK %d\n" % host_port
        return peer, host_port

    def program(self) -> socket.socket:
        """A program of the host's, connected and silent."""
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(PATIENCE_S)
        peer.connect(str(self.path))
        return peer

    def guest_connects(self, listener: socket.socket, port: int, host_port: int, **credit: Any) -> socket.socket:
        """The guest connects to a program of the host's: the program's socket."""
        self.send(Packet(OP.REQUEST, port, host_port, **credit))
        self.expect(OP.RESPONSE, port)
        peer = listener.accept()[0]
        peer.settimeout(PATIENCE_S)
        return peer

    def listener(self, host_port: int) -> socket.socket:
        """A program of the host's that listens at a port."""
        listener = socket.socket(socket.AF_UNIX)
        listener.settimeout(PATIENCE_S)
        listener.bind(f"{self.path}_{host_port}")
        listener.listen(64)
        return listener

    def statistics(self) -> dict[str, int]:
        return self.device.device.statistics()

    def wait_statistics(self, name: str, value: int) -> None:
        """Until a count is so."""
        wait_for(lambda: self.statistics()[name] == value, f"{name} is not {value}")


def line(peer: socket.socket) -> bytes:
    """Up to a line feed, and nothing behind it."""
    text = b""
    while not text.endswith(b"\n"):
        byte = peer.recv(1)
        assert byte, f"ends in the middle: {text!r}"
        text += byte
    return text


@contextmanager
def vsock_guest(
    path: Path,
    *,
    size: int = 64,
    rooms: int = 32,
    memory_bytes: int = 16 << 20,
    poll_ns: int = 20_000,
    patience_ns: int = 60_000_000_000,
    without: int = 0,
) -> Iterator[VsockDriver]:
    """A guest with a vsock at `path`, started."""
    with FakeGuest(memory_bytes) as guest:
        plugged = guest.plug(VsockDevice("socks", Vsock("socks", path, CID), poll_ns, patience_ns))
        driver = VsockDriver(plugged, plugged.start(size=size, without=without), path)
        driver.give(rooms)
        yield driver
