"""The process: ``python -m paravirt.accel.engine CONTROL DEBUG MEMORY VCPU…``, numbers of inherited descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys

SYS_MEMBARRIER, REGISTER_GLOBAL_EXPEDITED = 324, 4


def heed_barriers() -> None:
    """The emulated CPU's barriers order nothing for other processes, so the host makes ours too (membarrier(2))."""
    ctypes.CDLL(None).syscall(SYS_MEMBARRIER, REGISTER_GLOBAL_EXPEDITED, 0, 0)


def main(numbers: list[int]) -> None:
    """Serves one machine until the host closes a socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the host decides what an interrupt ends
    heed_barriers()
    control, debug, memory_fd, *vcpus = numbers
    from .machine import Ended, Machine

    with contextlib.suppress(Ended, ConnectionResetError):
        sockets = [socket.socket(fileno=fd) for fd in (control, debug, *vcpus)]
        Machine(sockets[0], sockets[1], sockets[2:], memory_fd).serve()
    os._exit(0)  # the engine's threads and mappings end with the process


main([int(text) for text in sys.argv[1:]])
