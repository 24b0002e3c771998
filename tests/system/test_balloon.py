"""Memory that goes and comes: a guest gives what the host wants, and the resident set shows it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Literal

import pytest

from paravirt import Machine, MachineConfig
from paravirt.attachments.balloon import Balloon
from paravirt.errors import ConfigError
from paravirt.outcome import MemoryStatistics
from tests.support.built import GUESTS
from tests.support.told import PATIENCE_S, Told, check_tap
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.kvm]

MIB = 1 << 20
MEMORY_BYTES = 32 * MIB
WISH_BYTES = 20 * MIB
SLACK_BYTES = 2 * MIB
DEVICE = (Balloon("balloon"),)


def memory(machine: Machine) -> MemoryStatistics:
    return machine.statistics().memory


ROADS: dict[str, dict[str, Any]] = {
    "service": {},
    "device": {"devices": DEVICE},
    "mmio": {"devices": DEVICE, "transport": "mmio"},
}


@pytest.mark.parametrize("privilege", ["user", "supervisor"])
@pytest.mark.parametrize("road", ROADS)
def test_memory_goes_and_comes(road: str, privilege: Literal["user", "supervisor"]) -> None:
    """MEM-7: a wish that changes reaches the guest; what it gives is the host's at once."""
    told = Told()
    config = MachineConfig(
        GUESTS / "balloon.elf", memory_bytes=MEMORY_BYTES, console=told, privilege=privilege, timeout_s=90
    ).replace(**ROADS[road])
    with Machine(config) as machine:
        machine.start()
        told.wait(b"touched")
        before = memory(machine)
        assert before.total_bytes == MEMORY_BYTES
        assert before.resident_bytes > MEMORY_BYTES - 2 * SLACK_BYTES
        assert before.reported_bytes == 4096
        machine.balloon(WISH_BYTES)
        wait_for(lambda: memory(machine).balloon_bytes == WISH_BYTES, "it was not given")
        assert memory(machine).balloon_target_bytes == WISH_BYTES
        given = memory(machine)
        assert before.resident_bytes - given.resident_bytes > WISH_BYTES - SLACK_BYTES
        machine.balloon(WISH_BYTES // 2)
        wait_for(lambda: memory(machine).balloon_bytes == WISH_BYTES // 2, "half of it did not come back")
        machine.balloon(0)
        outcome = machine.wait()
        machine.stop()
        assert memory(machine).balloon_bytes == 0
        assert memory(machine).resident_bytes > given.resident_bytes + WISH_BYTES // 2
    assert (outcome.reason, outcome.status) == ("POWEROFF", 0)
    check_tap(told, 7)


AFTERWARDS = """
import sys
from paravirt import Machine, MachineConfig
from tests.support.built import GUESTS
from tests.support.told import Told

told = Told()
with Machine(MachineConfig(GUESTS / "balloon.elf", memory_bytes=32 << 20, console=told, accel=sys.argv[1])) as machine:
    machine.balloon(0)
    machine.start()
    told.wait(b"touched")
    machine.balloon(1 << 20)
machine.balloon(0)
print(machine.balloon_target_bytes)
"""


@pytest.mark.parametrize("accel", [pytest.param("kvm", marks=pytest.mark.only_kvm("asks for it")), "software"])
def test_what_is_asked_of_a_machine_that_has_ended(accel: str) -> None:
    """Any thread may ask at any time; guest memory, where a wish is told, is not there any more."""
    ended = subprocess.run(
        [sys.executable, "-c", AFTERWARDS, accel], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr


def test_a_wish_before_it_is_made() -> None:
    machine = Machine(MachineConfig(GUESTS / "balloon.elf", memory_bytes=MEMORY_BYTES))
    machine.balloon(MIB)
    with machine:
        assert memory(machine).balloon_target_bytes == MIB


def test_a_guest_that_has_less_gives_what_it_has() -> None:
    told = Told()
    config = MachineConfig(
        GUESTS / "balloon.elf", memory_bytes=MEMORY_BYTES, balloon_bytes=MEMORY_BYTES, console=told, timeout_s=90
    )
    with Machine(config) as machine:
        machine.start()
        told.wait(b"holds")
        held = memory(machine)
        assert MEMORY_BYTES - 2 * SLACK_BYTES < held.balloon_bytes < MEMORY_BYTES
        assert held.resident_bytes < 2 * SLACK_BYTES
        machine.balloon(0)
        outcome = machine.wait()
    assert outcome.status == 0
    check_tap(told, 7)


@pytest.mark.parametrize("size_bytes", [-4096, 1, MEMORY_BYTES + 4096])
def test_a_balloon_that_cannot_be(size_bytes: int) -> None:
    config = MachineConfig(GUESTS / "hello.elf", memory_bytes=MEMORY_BYTES)
    with pytest.raises(ConfigError, match="whole pages of 4K and at most the guest's 32M"):
        config.replace(balloon_bytes=size_bytes)
    with Machine(config) as machine, pytest.raises(ConfigError, match="whole pages"):
        machine.balloon(size_bytes)
