"""A virtio-blk driver on the fake guest: requests as chains, answers as bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hypercall_abi.devices.virtio_block import BLOCK_HEADER, BLOCK_RANGE, BLOCK_REQUEST
from paravirt.config import Disk
from paravirt.devices.block import BlockDevice

from .fake_guest import Driver, FakeGuest, PluggedDevice, Segment

SECTOR = 512
UNTOUCHED = 0xA5


@dataclass(frozen=True)
class Answer:
    """What came back: status byte, length used, and the room given for data."""

    status: int
    used_bytes: int
    data: bytes


@dataclass(frozen=True)
class Request:
    """A request that is laid out in guest memory and not answered yet."""

    segments: tuple[Segment, ...]
    data_gpa: int
    room_bytes: int
    status_gpa: int


class BlockDriver:
    """Drives queue 0 of a started block device."""

    def __init__(self, device: PluggedDevice, driver: Driver, *, indirect: bool = False) -> None:
        self.device, self.driver, self.guest = device, driver, device.guest
        self._indirect = indirect
        self._waiting: dict[int, Request] = {}

    def lay_out(
        self, kind: int, sector: int = 0, data: bytes = b"", room_bytes: int = 0, pieces: Sequence[int] = ()
    ) -> Request:
        """A request in segments of the usual kind; `pieces` cuts the data into such sizes instead of one."""
        guest = self.guest
        header = guest.place(BLOCK_HEADER.build({"type": kind, "priority": 0, "sector": sector}))
        gpa = guest.place(data or bytes([UNTOUCHED]) * room_bytes, 512)
        status = guest.place(bytes([UNTOUCHED]))
        size, middle, at = max(len(data), room_bytes), [], 0
        for piece in (*pieces, size):
            if piece := min(piece, size - at):
                middle.append(Segment(gpa + at, piece, room_bytes > 0))
                at += piece
        segments = (Segment(header, BLOCK_HEADER.size), *middle, Segment(status, 1, True))
        return Request(segments, gpa, room_bytes, status)

    def send(self, *requests: Request) -> None:
        """Publishes the requests at once."""
        for request in requests:
            self._waiting[self.driver.add(request.segments, indirect=self._indirect)] = request
        self.driver.publish()

    def finish(self, count: int = 1, *, interrupts: bool = True) -> list[tuple[Request, Answer]]:
        """Waits for that many answers."""
        return [self._answer(head, used) for head, used in self.driver.wait(count, interrupts=interrupts).items()]

    def _answer(self, head: int, used_bytes: int) -> tuple[Request, Answer]:
        request = self._waiting.pop(head)
        status = self.guest.read(request.status_gpa, 1)[0]
        return request, Answer(status, used_bytes, self.guest.read(request.data_gpa, request.room_bytes))

    def request(self, kind: int, sector: int = 0, **layout: Any) -> Answer:
        """One request, start to end."""
        self.send(self.lay_out(kind, sector, **layout))
        return self.finish()[0][1]

    def read(self, sector: int, size_bytes: int, pieces: Sequence[int] = ()) -> Answer:
        return self.request(BLOCK_REQUEST.READ, sector, room_bytes=size_bytes, pieces=pieces)

    def write(self, sector: int, data: bytes, pieces: Sequence[int] = ()) -> Answer:
        return self.request(BLOCK_REQUEST.WRITE, sector, data=data, pieces=pieces)

    def flush(self) -> Answer:
        return self.request(BLOCK_REQUEST.FLUSH)

    def ranges(self, kind: int, *ranges: tuple[int, int, int]) -> Answer:
        """A discard or write-zeroes of (sector, sectors, flags)."""
        return self.request(kind, data=pack_ranges(*ranges))


def pack_ranges(*ranges: tuple[int, int, int]) -> bytes:
    return b"".join(BLOCK_RANGE.build({"sector": s, "sectors": n, "flags": f}) for s, n, f in ranges)


@contextmanager
def block_guest(
    path: Path,
    *,
    engine: Any = "auto",
    read_only: bool = False,
    without: int = 0,
    indirect: bool = False,
    memory_bytes: int = 8 << 20,
    size: int = 64,
    poll_ns: int = 20_000,
    direct: bool = False,
    packed: bool | None = None,
    failures: Mapping[str, int] = MappingProxyType({}),
    **options: Any,
) -> Iterator[BlockDriver]:
    """A guest with the disk `path`, started; `options` are those of a Disk."""
    with FakeGuest(memory_bytes) as guest:
        attached = Disk("disk", path, read_only, direct, **options)
        disk = BlockDevice("disk", attached, engine, poll_ns, queues=attached.queues or 1, failures=failures)
        plugged = guest.plug(disk)
        yield BlockDriver(plugged, plugged.start(without=without, size=size, packed=packed)[0], indirect=indirect)
