"""Files that are no disks: each with its own error, in one line that says what to do; and the lock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paravirt.config import Disk
from paravirt.devices.disk_file import open_disk
from paravirt.errors import (
    DiskBusy,
    DiskEmpty,
    DiskError,
    DiskNotFound,
    DiskNotWritable,
    DiskOddSize,
    DiskUnreadable,
)

NOBODY = 65534


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Permissions hold inside: root is stopped by none."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(1024))
    return path


def refused(disk: Disk, kind: type[DiskError], text: str) -> None:
    with pytest.raises(kind) as caught:
        open_disk(disk)
    assert str(caught.value).startswith(f"disk 'data': {disk.path} ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_good(path: Path) -> None:
    fd, size = open_disk(Disk("data", path))
    assert os.get_blocking(fd), "io_uring would not wait for it"
    os.close(fd)
    assert size == 1024


@pytest.mark.parametrize("read_only", [False, True])
def test_missing(tmp_path: Path, read_only: bool) -> None:
    refused(Disk("data", tmp_path / "no" / "such", read_only), DiskNotFound, "does not exist")


def test_below_a_file(path: Path) -> None:
    refused(Disk("data", path / "disk"), DiskNotFound, "does not exist")


def test_empty(path: Path) -> None:
    path.write_bytes(b"")
    refused(Disk("data", path), DiskEmpty, "is empty; give it a size")


@pytest.mark.parametrize(("size", "larger"), [(1, 512), (511, 512), (513, 1024), (1025, 1536)])
def test_odd_size(path: Path, size: int, larger: int) -> None:
    path.write_bytes(bytes(size))
    refused(Disk("data", path), DiskOddSize, f"not a multiple of 512; fill it up by: truncate -s {larger} ")


def test_directory(tmp_path: Path) -> None:
    refused(Disk("data", tmp_path), DiskUnreadable, "neither a file nor a block device")


def test_fifo(tmp_path: Path) -> None:
    """Opening it would wait for ever."""
    os.mkfifo(tmp_path / "fifo")
    refused(Disk("data", tmp_path / "fifo"), DiskUnreadable, "neither a file nor a block device")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_fifo_that_takes_a_files_place(path: Path, read_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at it and its opening, which does not wait."""
    looked, look = path.stat(), os.stat
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda *at, **how: looked if at == (path,) else look(*at, **how))
    refused(Disk("data", path, read_only), DiskUnreadable, "neither a file nor a block device")


def test_character_device() -> None:
    refused(Disk("data", Path("/dev/full")), DiskUnreadable, "neither a file nor a block device")


@pytest.fixture
def public_path(path: Path) -> Path:
    """A file in directories that everyone may pass."""
    for directory in path.parents[:4]:
        if directory.stat().st_uid == os.getuid():
            directory.chmod(directory.stat().st_mode | 0o755)
    return path


@pytest.mark.parametrize("read_only", [False, True])
def test_not_readable(public_path: Path, read_only: bool) -> None:
    public_path.chmod(0)
    with ordinary_user():
        refused(
            Disk("data", public_path, read_only),
            DiskUnreadable,
            "cannot be opened: Permission denied; let this user read it",
        )


def test_not_writable(public_path: Path) -> None:
    public_path.chmod(0o444)
    with ordinary_user():
        disk = Disk("data", public_path)
        refused(disk, DiskNotWritable, "may not be written (Permission denied); attach it read-only with ,ro")
        fd, _ = open_disk(Disk("data", public_path, read_only=True))
        os.close(fd)


def test_lock_between_processes(path: Path) -> None:
    """A writer keeps everyone out, in another process too; readers share."""
    script = (
        "import sys; from pathlib import Path; from paravirt.config import Disk\n"
        "from paravirt.devices.disk_file import open_disk\n"
        "open_disk(Disk('data', Path(sys.argv[1]), sys.argv[2] == 'ro'))"
    )

    def other(mode: str) -> str:
        done = subprocess.run([sys.executable, "-c", script, str(path), mode], text=True, capture_output=True)
        return done.stderr.strip().rpartition("\n")[2]

    writer, _ = open_disk(Disk("data", path))
    assert "is in use by another process" in other("rw")
    assert "is being written by another process" in other("ro")
    os.close(writer)
    reader, _ = open_disk(Disk("data", path, read_only=True))
    assert other("ro") == ""
    assert "is in use by another process" in other("rw")
    os.close(reader)
    assert other("rw") == ""


def test_same_disk_twice(path: Path) -> None:
    fd, _ = open_disk(Disk("other", path))
    refused(Disk("data", path), DiskBusy, "is in use by another process or device; stop that one or give it a copy")
    os.close(fd)
