"""A fake guest with a disk that a peer serves; a disk of ours that front ends find at a path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from paravirt.config import Disk
from paravirt.devices.block import BlockDevice
from paravirt.vhost_user.back_end import BackEnd
from paravirt.vhost_user.disk_back_end import DiskBackEnd
from tests.support.hostile import DATA
from tests.support.served_device import InThread
from tests.support.served_disk import Served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as kept:
        yield Served(tmp_path, kept)


@pytest.fixture
def back_end(tmp_path: Path) -> Iterator[BackEnd]:
    image = tmp_path / "disk.img"
    image.write_bytes(DATA)
    with InThread(DiskBackEnd(BlockDevice("disk", Disk("disk", image), queues=2), tmp_path / "s")) as back_end:
        yield back_end


@pytest.fixture
def path(back_end: BackEnd, tmp_path: Path) -> Path:
    return tmp_path / "s"
