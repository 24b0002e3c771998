"""Reads a recording: the lives of a machine, each with its calls in the order in which they were answered.

Every length in a packet is checked against the packet: a recording may come from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from construct import ConstructError

from hypercall_abi.recording import (
    RECORDED,
    RECORDED_ACCESS,
    RECORDED_BUFFER,
    RECORDED_CALL,
    RECORDED_DEVICE,
    RECORDED_MACHINE,
    RECORDED_MOMENT,
    RECORDED_SERVICE,
    RECORDING,
)
from hypercall_abi.schema import Record

from ..abi import call_name
from ..errors import RecordingError
from . import pcapng

ARGUMENTS = 6
BUFFER_MOST_BYTES = 1 << 30


class Buffer(NamedTuple):
    """A buffer of a call, and what was in it."""

    argument: int
    """Index of the argument with its address."""
    access: int
    """RECORDED_ACCESS."""
    length_bytes: int
    data: bytes


class Call(NamedTuple):
    """One call and its answer."""

    number: int
    """Of the recording's calls, from 1."""
    vcpu: int
    road: int
    id: int
    args: tuple[int, ...]
    status: int
    value: int
    begin_ns: int
    end_ns: int
    buffers: tuple[Buffer, ...]

    @property
    def name(self) -> str:
        """``service.call``, or the id of one that this ABI does not have."""
        return call_name(self.id)


class Moment(NamedTuple):
    """What is not a call; `kind` is of RECORDED."""

    kind: int
    vcpu: int
    at_ns: int
    number: int


class Device(NamedTuple):
    """A device that was offered."""

    type: int
    name: str
    read_only: bool
    size_bytes: int


class Life(NamedTuple):
    """A machine from its start or reset on, and what it did."""

    vcpus: int
    version: tuple[int, int]
    flags: int
    """RECORDED_FLAG."""
    memory_bytes: int
    digest: str
    image: str
    image_sha256: str
    services: dict[int, tuple[int, int]]
    """Number → features offered, functions denied."""
    devices: tuple[Device, ...]
    calls: list[Call]
    moments: list[Moment]


def read(path: Path) -> list[Life]:
    """The lives recorded at `path`.  Raises RecordingError."""
    lives: list[Life] = []
    try:
        with path.open("rb") as file:
            for number, packet in enumerate(pcapng.Reader(file, str(path)).packets(), 1):
                _Packet(path, number, packet).add_to(lives)
    except OSError as error:
        raise RecordingError(f"cannot read the recording {path}: {error.strerror}; check the path") from error
    if not lives:
        raise RecordingError(f"{path} holds no machine: its host ended before the guest began; record again")
    return lives


class _Packet:
    """Takes records off the front of a packet."""

    def __init__(self, path: Path, number: int, data: bytes) -> None:
        self._where = f"{path}, packet {number}"
        self._data = data
        self._at = 0

    def _wrong(self, text: str) -> RecordingError:
        return RecordingError(f"{self._where}: {text}; the file is damaged, or not of this version's format")

    def _bytes(self, size: int, what: str) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise self._wrong(f"{what} needs {size} bytes and {len(taken)} are left")
        self._at += size
        return taken

    def _record(self, record: Record) -> Any:
        data = self._bytes(record.size, record.name_)
        try:
            return record.parse(data)
        except (ConstructError, UnicodeDecodeError) as error:
            raise self._wrong(f"{record.name_} cannot be read") from error

    def add_to(self, lives: list[Life]) -> None:
        kind = int.from_bytes(self._data[:2], "little")
        if kind == RECORDED.MACHINE:
            lives.append(self._machine())
        elif not lives:
            raise self._wrong("a call before any machine")
        elif kind == RECORDED.CALL:
            number = sum(len(life.calls) for life in lives) + 1
            lives[-1].calls.append(self._call(number, lives[-1].vcpus))
        elif kind in (RECORDED.EVENT, RECORDED.DOORBELL, RECORDED.VCPU_START, RECORDED.VCPU_STOP):
            moment = self._record(RECORDED_MOMENT)
            lives[-1].moments.append(Moment(kind, moment.vcpu, moment.at_ns, moment.number))
        else:
            raise self._wrong(f"a packet of the unknown kind {kind}")
        if self._at != len(self._data):
            raise self._wrong(f"{len(self._data) - self._at} bytes more than its records")

    def _machine(self) -> Life:
        head = self._record(RECORDED_MACHINE)
        if head.format != RECORDING.FORMAT:
            raise self._wrong(f"format {head.format}, and this version reads {RECORDING.FORMAT}")
        services = [self._record(RECORDED_SERVICE) for _ in range(head.services)]
        devices = [self._record(RECORDED_DEVICE) for _ in range(head.devices)]
        if not 1 <= head.vcpus <= 64:
            raise self._wrong(f"a machine of {head.vcpus} vCPUs")
        return Life(
            head.vcpus,
            (head.major, head.minor),
            head.flags,
            head.memory_bytes,
            head.digest.hex(),
            head.image,
            head.image_sha256.hex(),
            {s.service: (s.offered, s.denied) for s in services},
            tuple(Device(d.type, d.name, bool(d.read_only), d.size_bytes) for d in devices),
            [],
            [],
        )

    def _call(self, number: int, vcpus: int) -> Call:
        head = self._record(RECORDED_CALL)
        if head.buffers > ARGUMENTS or head.vcpu >= vcpus:
            raise self._wrong(f"a call with {head.buffers} buffers by vCPU {head.vcpu}")
        buffers = tuple(self._buffers([self._record(RECORDED_BUFFER) for _ in range(head.buffers)]))
        return Call(
            number,
            head.vcpu,
            head.road,
            head.call,
            tuple(head.args),
            head.status,
            head.value,
            head.begin_ns,
            head.end_ns,
            buffers,
        )

    def _buffers(self, heads: list[Any]) -> Iterator[Buffer]:
        for head in heads:
            if head.argument >= ARGUMENTS or head.access not in (RECORDED_ACCESS.READ, RECORDED_ACCESS.WRITE):
                raise self._wrong(f"a buffer at argument {head.argument} with access {head.access}")
            if head.bytes > head.length_bytes or head.length_bytes > BUFFER_MOST_BYTES:
                raise self._wrong(f"a buffer of {head.length_bytes} bytes with {head.bytes}")
            yield Buffer(head.argument, head.access, head.length_bytes, self._bytes(head.bytes, "a buffer"))
