"""Memory that goes and comes: a guest gives what the host wants, and the resident set shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import pytest

from paravirt import Machine, MachineConfig
from paravirt.attachments.balloon import Balloon
from paravirt.errors import ConfigError
from paravirt.outcome import MemoryStatistics
from tests.support.built import GUESTS
from tests.support.told import PATIENCE_S, Told, check_tap

pytestmark = [pytest.mark.kvm]

MIB = 1 << 20
MEMORY_BYTES = 32 * MIB
WISH_BYTES = 20 * MIB
SLACK_BYTES = 2 * MIB
DEVICE = (Balloon("balloon"),)


def memory(machine: Machine) -> MemoryStatistics:
    return machine.statistics().memory


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


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
        until(lambda: memory(machine).balloon_bytes == WISH_BYTES)
        assert memory(machine).balloon_target_bytes == WISH_BYTES
        given = memory(machine)
        assert before.resident_bytes - given.resident_bytes > WISH_BYTES - SLACK_BYTES
        machine.balloon(WISH_BYTES // 2)
        until(lambda: memory(machine).balloon_bytes == WISH_BYTES // 2)
        machine.balloon(0)
        outcome = machine.wait()
        machine.stop()
        assert memory(machine).balloon_bytes == 0
        assert memory(machine).resident_bytes > given.resident_bytes + WISH_BYTES // 2
    assert (outcome.reason, outcome.status) == ("POWEROFF", 0)
    check_tap(told, 7)


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
