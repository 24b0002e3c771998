"""A virtio-net driver on the fake guest: frames as bytes, both ways."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypercall_abi.devices.virtio_net import NET_CONTROL, NET_CONTROL_HEADER, NET_HEADER
from paravirt.attachments.net import Net
from paravirt.devices.net import NetDevice

from .fake_guest import Driver, FakeGuest, PluggedDevice, Segment

HEADER = NET_HEADER.size
MAC = bytes.fromhex("020000000001")
UNTOUCHED = 0xA5


def header(**fields: int) -> bytes:
    """A net_header, zero but for `fields`."""
    return bytes(NET_HEADER.build({field.name: 0 for field in NET_HEADER.fields} | fields))


def frame(size_bytes: int, seed: int = 0) -> bytes:
    """An Ethernet frame for the guest, with a payload that tells frames apart."""
    head = MAC + bytes.fromhex("020000000099") + b"\x88\xb5"  # an EtherType for local experiments
    return (head + bytes((seed + n * 7) & 0xFF for n in range(size_bytes - len(head))))[:size_bytes]


class NetDriver:
    """Drives a pair of queues of a started network."""

    def __init__(self, device: PluggedDevice, receive: Driver, send: Driver, *others: Driver) -> None:
        self.others = others
        """Of the device's other queues."""
        self.device, self.receive, self.send, self.guest = device, receive, send, device.guest
        self._rooms: dict[int, tuple[Segment, ...]] = {}

    def transmit(self, data: bytes, *, head: bytes = b"", pieces: Sequence[int] = ()) -> None:
        """Sends header and frame, cut into `pieces`, and waits until they are the driver's again."""
        whole = (head or header()) + data
        gpa, segments, at = self.guest.place(whole), [], 0
        for piece in (*pieces, len(whole)):
            if piece := min(piece, len(whole) - at):
                segments.append(Segment(gpa + at, piece))
                at += piece
        self.send.add(segments)
        self.send.publish()

    def sent(self, count: int = 1) -> None:
        """Waits for that many chains to send."""
        self.send.wait(count)

    def offer(self, *rooms: Sequence[int]) -> None:
        """Gives a chain of such segments for each of `rooms`."""
        for sizes in rooms:
            segments = tuple(Segment(self.guest.place(bytes([UNTOUCHED]) * size), size, True) for size in sizes)
            self._rooms[self.receive.add(segments)] = segments
        self.receive.publish()

    def take(self, chains: int = 1) -> list[bytes]:
        """What lies in that many chains, once they came back."""
        found = self.receive.wait(chains)
        return [self._content(head)[:length] for head, length in found.items()]

    def arrived(self) -> list[bytes]:
        """What came since the last look."""
        return [self._content(head)[:length] for head, length in self.receive.collect().items()]

    def _content(self, head: int) -> bytes:
        return b"".join(self.guest.read(s.gpa, s.size_bytes) for s in self._rooms.pop(head))


@contextmanager
def net_guest(
    kind: socket.SocketKind = socket.SOCK_SEQPACKET,
    *,
    without: int = 0,
    size: int = 64,
    poll_ns: int = 20_000,
    net: dict[str, Any] | None = None,
    packed: bool = False,
) -> Iterator[tuple[NetDriver, socket.socket]]:
    """A guest with a network whose link is one end of a socket pair; the other end is the test's."""
    ours, its = socket.socketpair(socket.AF_UNIX, kind)
    with ours, its, FakeGuest() as guest:
        ours.settimeout(20)
        plugged = guest.plug(NetDevice("net", Net("net", f"fd:{its.fileno()}", MAC, **net or {}), poll_ns))
        receive, send = plugged.start(without=without, size=size, packed=packed)
        yield NetDriver(plugged, receive, send), ours


def control(driver: Driver, guest: FakeGuest, pairs: int, **fields: Any) -> int:
    """Asks for that many pairs; the status that came back."""
    request = bytes(NET_CONTROL_HEADER.build({"kind": NET_CONTROL.MQ, "command": 0} | fields))
    gpa, status = guest.place(request + pairs.to_bytes(2, "little")), guest.place(bytes([UNTOUCHED]))
    driver.add((Segment(gpa, 4), Segment(status, 1, True)))
    driver.publish()
    driver.wait()
    return guest.read(status, 1)[0]
