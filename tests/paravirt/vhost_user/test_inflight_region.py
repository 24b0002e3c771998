"""A region for requests in flight that does not go with its queues."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt._native import ffi, lib
from paravirt.config import Disk
from paravirt.devices.block import BlockDevice
from paravirt.vhost_user.disk_back_end import DiskBackEnd
from paravirt.vhost_user.messages import INFLIGHT
from paravirt.vhost_user.messages import Request as R
from tests.support.front_end import AVAILABLE, DESCRIPTORS, FEATURES, GPA, MEMORY_BYTES, SIZE, USED, FrontEndPuppet
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


@pytest.mark.parametrize("lacks, moved, wanted", [(0, 0, "OK"), (1, 0, "BAD_STATE"), (0, 4, "BAD_STATE")])
def test_the_core_looks_at_its_bytes_too(tmp_path: Path, lacks: int, moved: int, wanted: str) -> None:
    """Whoever hands it a region for another ring writes nothing."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    memory = ffi.from_buffer(mmap.mmap(-1, MEMORY_BYTES))  # aligned
    region = ffi.from_buffer(mmap.mmap(-1, 4096))
    with DiskBackEnd(BlockDevice("disk", Disk("disk", disk)), tmp_path / "s") as back_end:
        lib.pv_memory_add(ffi.addressof(back_end.machine, "memory"), GPA, MEMORY_BYTES, memory)
        assert lib.pv_vhost_back_end_agree(back_end.core, FEATURES & back_end.features)
        ring = ffi.new("struct pv_vhost_ring *")
        ring.size, ring.inflight, ring.inflight_bytes = SIZE, region + moved, 16 + 16 * SIZE - lacks
        ring.inflight_bytes += -ring.inflight_bytes % 64 if not lacks else 0
        ring.descriptors_gpa, ring.driver_gpa, ring.device_gpa = GPA + DESCRIPTORS, GPA + AVAILABLE, GPA + USED
        status = lib.pv_vhost_back_end_start(back_end.core, 0, ring)
        assert status == getattr(lib, f"PV_STATUS_{wanted}")
        assert any(ffi.buffer(region)[:]) == (wanted == "OK")
        if wanted == "OK":
            lib.pv_vhost_back_end_stop(back_end.core, 0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("size", [1, 4, SIZE, 256])
def test_of_any_size(path: Path, caplog: pytest.LogCaptureFixture, packed: bool, size: int) -> None:
    """Rings that are smaller than it was made for fit, larger ones do not."""
    fd = os.memfd_create("in flight", os.MFD_CLOEXEC)
    os.ftruncate(fd, 1 << 16)
    with FrontEndPuppet(path) as front_end:
        front_end.begin(FEATURES | (VIRTIO_FEATURE.RING_PACKED if packed else 0))
        assert front_end.share()
        front_end.describe()
        assert front_end.told(R.SET_INFLIGHT_FD, INFLIGHT.pack(1 << 16, 0, 1, size), [fd])
        assert front_end.kick() == (size >= SIZE)
    assert (f"a queue of {SIZE} has in a region for {size}" in caplog.text) == (size < SIZE)
    os.close(fd)


def test_before_features(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever starts a queue before there are features is told just that."""
    with FrontEndPuppet(path) as front_end:
        front_end.begin()
        assert front_end.share()
        assert front_end.told(R.RESET_DEVICE)
        front_end.describe()
        assert not front_end.kick()
    assert "queue 0 is kicked before there are features" in caplog.text
