"""A region for requests in flight that does not go with its queues."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paravirt.config import Disk
from paravirt.devices.block import BlockDevice
from paravirt.vhost_user.disk_back_end import DiskBackEnd
from paravirt.vhost_user.messages import INFLIGHT
from paravirt.vhost_user.messages import Request as R
from tests.support.front_end import SIZE, FrontEndPuppet
from tests.support.served_device import InThread


@pytest.mark.parametrize("offset, queue_size, sentence", [
    (4028, SIZE, "not a multiple of 8"),
    (4032, 1, f"a queue of {SIZE} has in a region for 1"),
])  # fmt: skip
def test_nothing_is_written_behind_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, offset: int, queue_size: int, sentence: str
) -> None:
    """Its offset, or a queue that is larger than it was made for."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    fd = os.memfd_create("in flight", os.MFD_CLOEXEC)
    os.ftruncate(fd, 8192)
    back_end = DiskBackEnd(BlockDevice("disk", Disk("disk", disk), queues=2), tmp_path / "s")
    with InThread(back_end) as _, FrontEndPuppet(tmp_path / "s") as bad:
        bad.begin()
        assert bad.share()
        bad.describe()
        taken = bad.told(R.SET_INFLIGHT_FD, INFLIGHT.pack(4096, offset, 1, queue_size), [fd])
        assert not (taken and bad.kick())
    os.close(fd)
    assert sentence in caplog.text
