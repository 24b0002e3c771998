"""Random streams of block requests against the plainest model of a disk: a bytearray.

Requests of one batch may be carried out in any order, so those of a batch do not overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi.devices.virtio_block import BLOCK_REQUEST, BLOCK_STATUS
from tests.support.block_driver import SECTOR, UNTOUCHED, Answer, BlockDriver, block_guest, pack_ranges

SECTORS = 128
LANES = 4
"""Requests of a batch each have their own part of the disk."""
LANE_SECTORS = SECTORS // LANES
UNMAP = 1


@dataclass(frozen=True)
class Step:
    """One request, in its lane; `sector` counts from the lane's begin."""

    kind: int
    sector: int
    sectors: int
    odd_bytes: int
    fill: int
    flags: int
    pieces: tuple[int, ...]
    beyond: int


steps = st.builds(
    Step,
    kind=st.sampled_from([0, 0, 1, 1, 4, 8, 11, 13, 13, 99]),
    sector=st.integers(0, LANE_SECTORS - 8),
    sectors=st.integers(0, 8),
    odd_bytes=st.sampled_from([0] * 9 + [1, 100, 511]),
    fill=st.integers(1, 255),
    flags=st.sampled_from([0, 0, 0, UNMAP, UNMAP, 2, 1 << 31]),
    pieces=st.lists(st.integers(1, 2000), max_size=6).map(tuple),
    beyond=st.sampled_from([0] * 9 + [SECTORS, 1 << 54, (1 << 64) - SECTORS]),
)
batches = st.lists(st.lists(steps, min_size=1, max_size=LANES), min_size=1, max_size=25)


class Model:
    """What a disk is, but for the contents of what was discarded."""

    def __init__(self, read_only: bool) -> None:
        self.data = bytearray(b"\x77" * (SECTORS * SECTOR))
        self.read_only = read_only

    def expect(self, step: Step, lane: int) -> tuple[int, int]:
        """Status and length of the answer; carries the request out on the model."""
        first = self.first(step, lane)
        if step.kind == BLOCK_REQUEST.GET_ID:
            return BLOCK_STATUS.OK, 21
        if step.kind == BLOCK_REQUEST.FLUSH:
            return BLOCK_STATUS.OK, 1
        if step.kind not in {v.number for v in BLOCK_REQUEST}:
            return BLOCK_STATUS.UNSUPPORTED, 1
        if step.kind != BLOCK_REQUEST.READ and self.read_only:
            return BLOCK_STATUS.IO_ERROR, 1
        ranges = step.kind in (BLOCK_REQUEST.DISCARD, BLOCK_REQUEST.WRITE_ZEROES)
        if ranges and step.flags & ~(UNMAP if step.kind == BLOCK_REQUEST.WRITE_ZEROES else 0):
            return BLOCK_STATUS.UNSUPPORTED, 1
        if first + step.sectors > SECTORS or (step.odd_bytes and not ranges):
            return BLOCK_STATUS.IO_ERROR, 1
        if step.kind == BLOCK_REQUEST.READ:
            return BLOCK_STATUS.OK, step.sectors * SECTOR + 1
        if step.kind != BLOCK_REQUEST.DISCARD:
            value = step.fill if step.kind == BLOCK_REQUEST.WRITE else 0
            self.data[first * SECTOR : (first + step.sectors) * SECTOR] = bytes([value]) * (step.sectors * SECTOR)
        return BLOCK_STATUS.OK, 1

    @staticmethod
    def first(step: Step, lane: int) -> int:
        return step.beyond + lane * LANE_SECTORS + step.sector

    def read_back(self, disk: BlockDriver, step: Step, lane: int) -> None:
        """What a discard leaves behind is for the disk to choose, and then stays."""
        first = self.first(step, lane)
        self.data[first * SECTOR : (first + step.sectors) * SECTOR] = disk.read(first, step.sectors * SECTOR).data


def lay_out(disk: BlockDriver, step: Step, lane: int) -> Any:
    first = Model.first(step, lane)
    size = step.sectors * SECTOR + step.odd_bytes
    if step.kind == BLOCK_REQUEST.READ:
        return disk.lay_out(step.kind, first, room_bytes=size, pieces=step.pieces)
    if step.kind == BLOCK_REQUEST.WRITE:
        return disk.lay_out(step.kind, first, data=bytes([step.fill]) * size, pieces=step.pieces)
    if step.kind == BLOCK_REQUEST.GET_ID:
        return disk.lay_out(step.kind, room_bytes=20, pieces=step.pieces)
    if step.kind in (BLOCK_REQUEST.DISCARD, BLOCK_REQUEST.WRITE_ZEROES):
        return disk.lay_out(step.kind, data=pack_ranges((first, step.sectors, step.flags)), pieces=step.pieces)
    return disk.lay_out(step.kind, first, data=bytes(step.odd_bytes))


def check(model: Model, step: Step, lane: int, answer: Answer, expected: tuple[int, int]) -> None:
    assert (answer.status, answer.used_bytes) == expected, step
    if step.kind == BLOCK_REQUEST.READ:
        first = model.first(step, lane)
        good = bytes(model.data[first * SECTOR : (first + step.sectors) * SECTOR])
        untouched = bytes([UNTOUCHED]) * (step.sectors * SECTOR + step.odd_bytes)
        assert answer.data == (good if answer.status == BLOCK_STATUS.OK else untouched), step


def run_batch(disk: BlockDriver, model: Model, batch: list[Step]) -> None:
    requests = [lay_out(disk, step, lane) for lane, step in enumerate(batch)]
    disk.send(*requests)
    answers = {request.status_gpa: answer for request, answer in disk.finish(len(requests))}
    for lane, (step, request) in enumerate(zip(batch, requests, strict=True)):
        expected = model.expect(step, lane)
        check(model, step, lane, answers[request.status_gpa], expected)
        if step.kind == BLOCK_REQUEST.DISCARD and expected[0] == BLOCK_STATUS.OK:
            model.read_back(disk, step, lane)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model") / "disk"


@pytest.mark.parametrize("engine", ["uring", "threads"])
@given(stream=batches, read_only=st.sampled_from([False, False, False, True]), indirect=st.booleans())
def test_stream(engine: str, file: Path, stream: list[list[Step]], read_only: bool, indirect: bool) -> None:
    """BLK-1 to BLK-7 and BLK-10: whatever the pieces, the answers are the model's."""
    model = Model(read_only)
    file.write_bytes(model.data)
    with block_guest(file, engine=engine, read_only=read_only, indirect=indirect) as disk:
        start = disk.guest._next_gpa
        for batch in stream:
            disk.guest._next_gpa = start
            run_batch(disk, model, batch)
        answer = disk.read(0, SECTORS * SECTOR)
    assert answer.data == model.data
    assert file.read_bytes() == model.data
