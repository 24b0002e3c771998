"""A busy queue costs no doorbell and no interrupt, in either format: both sides look by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypercall_abi.virtqueue import VIRTIO_FEATURE
from tests.support.block_driver import block_guest

BUSY_NS = 60_000_000_000  # the disk's thread does not sleep during the test
ROUNDS, DEPTH = 50, 4


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize("without", [0, VIRTIO_FEATURE.EVENT_IDX], ids=["event_idx", "flags"])
def test_busy_queue(tmp_path: Path, packed: bool, without: int) -> None:
    """The driver polls and asks for nothing; the disk polls: what was rung was rung before it first looked."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    with block_guest(path, poll_ns=BUSY_NS, without=without, packed=packed) as disk:
        disk.read(0, 512)  # it is awake now
        disk.driver.mute()
        rung, told = disk.driver.doorbells, disk.device.native.interrupts
        told += 1  # that of the first request may come after its completion was seen
        for number in range(ROUNDS):
            disk.send(*(disk.lay_out(0, number, room_bytes=512) for _ in range(DEPTH)))
            answers = disk.finish(DEPTH, interrupts=False)
            assert {answer.status for _, answer in answers} == {0}
        assert disk.driver.doorbells == rung
        assert disk.device.native.interrupts <= told
