"""Where a device keeps what it has taken and not given back: a file that the front end keeps for its successor."""

from __future__ import annotations

import fcntl
import os
from typing import Any

from .._native import ffi
from .errors import Refused
from .memory_table import map_file

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def make_region(size_bytes: int) -> int:
    """A new file for it, all zeros; its descriptor.  Raises Refused."""
    fd = -1
    try:
        fd = os.memfd_create("paravirt-inflight", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise Refused(f"no memory for requests in flight: {error.strerror}") from error
    return fd


class Inflight:
    """A part of a file with a region for each of `queues` queues of `queue_size`.  Raises Refused."""

    def __init__(self, fd: int, offset: int, size_bytes: int, queues: int, queue_size: int, lost_fd: int) -> None:
        self.queue_size = queue_size
        self._queues, self._offset, self._size_bytes = queues, offset, size_bytes
        self._mapping = map_file(fd, offset, size_bytes, lost_fd, "the region for requests in flight")

    def region(self, queue: int, region_bytes: int) -> Any:
        """That of a queue, if each has so many bytes; NULL: it has none.  Raises Refused."""
        if queue >= self._queues:
            return ffi.NULL
        if (queue + 1) * region_bytes > self._size_bytes:
            raise Refused(f"queue {queue} does not fit into the region for requests in flight")
        return self._mapping.at + self._offset + queue * region_bytes

    def close(self) -> None:
        """No queue uses it any more."""
        self._mapping.unmap()
