"""The host's half of the software vCPUs against an engine that misbehaves."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from paravirt._native import ffi, lib
from paravirt.accel.software import Software
from tests.support.fake_machine import FakeMachine

PATIENCE_S = 20.0
RECORD = bytes(ffi.sizeof("struct pv_software_control"))


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Control and one vCPU: the host's ends, then the engine's."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    ends = [pair[side] for side in range(2) for pair in pairs]
    yield ends
    for end in ends:
        end.close()


def test_an_engine_that_does_not_listen_does_not_hold_the_machines_end(sockets: list[socket.socket]) -> None:
    """Whoever raises an event waits until the engine hears of it, or the machine ends."""
    machine = FakeMachine(1)
    software: Any = ffi.new("struct pv_software *")
    lib.pv_software_init(software, machine.native)
    software.control_fd = sockets[0].fileno()
    lib.pv_software_add_vcpu(software, machine.vcpus[0], sockets[1].fileno())
    sockets[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            sockets[0].send(RECORD)
    sockets[0].setblocking(True)
    raiser = threading.Thread(target=lib.pv_event_raise, args=(machine.native, 0, 20), daemon=True)
    raiser.start()
    time.sleep(0.1)
    assert raiser.is_alive()
    lib.pv_machine_end(machine.native)
    raiser.join(PATIENCE_S)
    assert not raiser.is_alive()


def test_an_engine_that_wants_to_speak_to_the_terminal() -> None:
    """It is whatever a guest has made of it: its last words are data, and any signal may have ended it."""
    accelerator = object.__new__(Software)
    accelerator._words = b"earlier\n"
    accelerator._ears, mouth = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(mouth, b"\x1b]0;title\x07 out\n")
    accelerator._engine = subprocess.Popen(["sh", "-c", "kill -40 $$"])
    assert accelerator.last_words == "it was killed by signal 40; \\x1b]0;title\\x07 out"
    os.close(mouth)
    os.close(accelerator._ears)
