"""Call rings of a whole machine: the thread that serves them, stopping it at any moment, doing without it."""

from __future__ import annotations

import os
import random
import re
import threading
import time

import pytest

from paravirt.config import MachineConfig
from paravirt.machine import Machine
from tests.support.built import GUESTS

pytestmark = pytest.mark.kvm

NO_MEMORY = -12


def test_a_machine_serves_rings_from_the_first_on() -> None:
    console = bytearray()
    served = []

    def heard(data: bytes) -> None:
        console.extend(data)
        served.append(any(thread.name == "callrings" for thread in threading.enumerate()))

    with Machine(MachineConfig(GUESTS / "callring.elf", vcpus=2, console=heard, timeout_s=60)) as machine:
        outcome = machine.run()
        assert machine.native.callrings.on == 0
    assert (outcome.reason, outcome.status) == ("POWEROFF", 0)
    assert not served[0], "no ring is set up before the first line"
    assert served[-1]
    assert outcome.statistics
    assert sum(vcpu.ring_calls for vcpu in outcome.statistics.vcpus) > 4000
    assert [vcpu.ring_fault for vcpu in outcome.statistics.vcpus] == ["RING-7", None]
    assert not re.search(rb"^not ok", bytes(console), re.MULTILINE)


def test_a_machine_with_rings_is_stopped_at_any_moment() -> None:
    """RING-12: nobody waits for anybody, and nothing is left behind."""
    for seed in range(12):
        with Machine(MachineConfig(GUESTS / "callring.elf", vcpus=2, timeout_s=60)) as machine:
            machine.start()
            time.sleep(random.Random(seed).uniform(0, 0.1))
            machine.stop()


def test_a_host_that_is_out_of_descriptors_refuses_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest is told, and goes on without."""

    def exhausted(*_: object) -> int:
        raise OSError(24, "Too many open files")

    console = bytearray()
    with Machine(MachineConfig(GUESTS / "callring.elf", console=console.extend, timeout_s=60)) as machine:
        monkeypatch.setattr(os, "eventfd", exhausted)
        machine.start()
        while b"init: a ring" not in console:
            time.sleep(0.01)
        machine.stop()
    assert f"init: a ring (got {NO_MEMORY})" in console.decode()
