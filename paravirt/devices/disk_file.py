"""Opening the file of a disk, mapped or not: what it is, whose it is, and how large.

What is wrong with it is an error with a line of its own; what is done with the file is for the devices.
"""

from __future__ import annotations

import fcntl
import os
import stat
from errno import EMFILE, ENFILE

from ..attachments import FileAttachment, word_of
from ..errors import (
    DiskBusy,
    DiskEmpty,
    DiskNotFound,
    DiskNotWritable,
    DiskOddSize,
    DiskUnreadable,
)

SECTOR_BYTES = 512


def told(disk: FileAttachment) -> str:
    """How messages begin that are about it."""
    return f"{word_of(disk.kind)} {disk.name!r}: {disk.path}"


def open_disk(disk: FileAttachment, step_bytes: int = SECTOR_BYTES) -> tuple[int, int]:
    """A descriptor of the disk's file, locked, and its size in bytes, a multiple of `step_bytes`.

    A writer excludes every other user, readers share.  Raises the errors of a disk.
    """
    try:
        _check_kind(os.stat(disk.path).st_mode, disk)  # before: opening some devices does something
        rights = os.O_RDONLY if disk.read_only else os.O_RDWR
        fd = os.open(disk.path, rights | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO that has come since does not hold us
    except OSError as error:
        raise _refused(disk, error) from error
    try:
        _check_kind(os.fstat(fd).st_mode, disk)
        os.set_blocking(fd, True)  # else io_uring answers EAGAIN where it would have to wait
        _lock(fd, disk)
        return fd, _size(fd, disk, step_bytes)
    except BaseException:
        os.close(fd)
        raise


def _check_kind(mode: int, disk: FileAttachment) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise DiskUnreadable(f"{told(disk)} is neither a file nor a block device; give a raw disk image")


def _refused(disk: FileAttachment, error: OSError) -> Exception:
    what = told(disk)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        hint = f"make it, for example by: {_truncate(disk, '64M')}"
        path, comma, last = str(disk.path).rpartition(",")
        if comma and os.path.exists(path):
            hint = f"{path} does, and {last!r} is no further option of it; there are {disk.options}"
        return DiskNotFound(f"{what} does not exist; {hint}")
    if not disk.read_only and os.access(disk.path, os.R_OK, effective_ids=True):
        return DiskNotWritable(f"{what} may not be written ({error.strerror}); attach it read-only with ,ro")
    if isinstance(error, PermissionError):
        hint = f"let this user read it{'' if disk.read_only else ' and write it'}, or attach a copy"
    else:
        hint = "see ulimit -n" if error.errno in (EMFILE, ENFILE) else "attach another file"
    return DiskUnreadable(f"{what} cannot be opened: {error.strerror}; {hint}")


def _truncate(disk: FileAttachment, size: str) -> str:
    from shlex import quote  # only for an error

    return f"truncate -s {size} {quote(str(disk.path))}"


def _lock(fd: int, disk: FileAttachment) -> None:
    wanted = fcntl.LOCK_SH if disk.read_only else fcntl.LOCK_EX
    try:
        fcntl.flock(fd, wanted | fcntl.LOCK_NB)
    except BlockingIOError as error:
        other = "is being written" if disk.read_only else "is in use"
        raise DiskBusy(f"{told(disk)} {other} by another process or device; stop that one or give it a copy") from error
    except OSError:
        pass  # a file system without locks: who uses such a one looks after it


def _size(fd: int, disk: FileAttachment, step_bytes: int) -> int:
    size = os.lseek(fd, 0, os.SEEK_END)
    if size == 0:
        raise DiskEmpty(f"{told(disk)} is empty; give it a size, for example by: {_truncate(disk, '64M')}")
    if size % step_bytes:
        raise DiskOddSize(
            f"{told(disk)} has {size} bytes, not a multiple of {step_bytes}; "
            f"fill it up by: {_truncate(disk, str(size + -size % step_bytes))}"
        )
    return size
