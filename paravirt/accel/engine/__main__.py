"""The process: ``python -m paravirt.accel.engine CONTROL MEMORY VCPU…``, numbers of inherited descriptors."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys


def main(numbers: list[int]) -> None:
    """Serves one machine until the host closes a socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the host decides what an interrupt ends
    control, memory_fd, *vcpus = numbers
    from .machine import Ended, Machine

    with contextlib.suppress(Ended, ConnectionResetError):
        Machine(socket.socket(fileno=control), [socket.socket(fileno=fd) for fd in vcpus], memory_fd).serve()
    os._exit(0)  # the engine's threads and mappings end with the process


main([int(text) for text in sys.argv[1:]])
