"""Service memory over real guest memory, and how it answers when the host cannot (MEM-1 to MEM-6)."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hypercall_abi import LIMITS, STATUS
from hypercall_abi.services.memory import MEMORY_RANGE
from paravirt._native import ffi
from paravirt.memory import GuestMemory
from paravirt.services import memory as service

PAGE = 4096
LIST_GPA = 0x1000
DATA_GPA = 0x10_0000
RAM_BYTES = 128 << 20
MOST = LIMITS["MEMORY_BYTES"].number


@pytest.fixture
def machine() -> Iterator[Any]:
    native = ffi.new("struct pv_memory *")
    memory = GuestMemory(RAM_BYTES, native)
    yield SimpleNamespace(memory=memory)
    memory.close()


def ask(machine: Any, call: Any, *ranges: tuple[int, int]) -> tuple[int, int]:
    listed = b"".join(MEMORY_RANGE.build({"gpa": gpa, "size_bytes": size}) for gpa, size in ranges)
    machine.memory.write(LIST_GPA, listed)
    answer = call(machine, 0, LIST_GPA, len(ranges))
    return answer if isinstance(answer, tuple) else (answer, 0)


def test_discarded_memory_reads_as_zero(machine: Any) -> None:
    """MEM-3, MEM-4: also where two ranges overlap, and nothing beside them."""
    machine.memory.write(DATA_GPA, b"\x55" * 5 * PAGE)
    ranges = (DATA_GPA + PAGE, 2 * PAGE), (DATA_GPA + 2 * PAGE, 2 * PAGE), (DATA_GPA, 0)
    assert ask(machine, service.discard, *ranges) == (STATUS.OK, 3)
    assert machine.memory.read(DATA_GPA, 5 * PAGE) == b"\x55" * PAGE + bytes(3 * PAGE) + b"\x55" * PAGE
    assert ask(machine, service.populate, *ranges) == (STATUS.OK, 3)
    assert machine.memory.read(DATA_GPA, PAGE) == b"\x55" * PAGE


@pytest.mark.parametrize("call", [service.populate, service.discard])
@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ((DATA_GPA + 8, PAGE), STATUS.UNALIGNED),
        ((DATA_GPA, PAGE - 1), STATUS.UNALIGNED),
        ((RAM_BYTES + 8, PAGE), STATUS.UNALIGNED),
        ((RAM_BYTES - PAGE, 2 * PAGE), STATUS.BAD_ADDRESS),
        ((-PAGE % (1 << 64), 2 * PAGE), STATUS.BAD_ADDRESS),
        ((DATA_GPA, MOST), STATUS.LIMIT),
        ((DATA_GPA + 8, MOST + PAGE), STATUS.LIMIT),
        ((DATA_GPA, -PAGE % (1 << 64)), STATUS.LIMIT),
    ],
)
def test_all_ranges_are_checked_before_the_first_is_touched(
    machine: Any, call: Any, bad: tuple[int, int], status: int
) -> None:
    """MEM-1, MEM-2, MEM-5; the sum of sizes does not wrap."""
    machine.memory.write(DATA_GPA, b"\x55" * PAGE)
    assert ask(machine, call, (DATA_GPA, PAGE), bad) == (status, 0)
    assert machine.memory.read(DATA_GPA, PAGE) == b"\x55" * PAGE


def test_as_much_as_the_limit(machine: Any) -> None:
    """MEM-5."""
    assert ask(machine, service.discard, (DATA_GPA, MOST - PAGE), (DATA_GPA, PAGE)) == (STATUS.OK, 2)


@pytest.mark.parametrize(
    ("call", "name", "refused"),
    [(service.populate, "populate", STATUS.NO_MEMORY), (service.discard, "discard", STATUS.FAILED)],
)
def test_what_was_done_before_the_host_failed_counts(
    machine: Any, monkeypatch: pytest.MonkeyPatch, call: Any, name: str, refused: int
) -> None:
    """MEM-6, and CALL-10: a negative status means that nothing was done."""
    done: list[int] = []

    def act(_memory: GuestMemory, gpa: int, _size_bytes: int) -> None:
        if gpa == DATA_GPA + 2 * PAGE:
            raise OSError(12, "no memory")
        done.append(gpa)

    monkeypatch.setattr(GuestMemory, name, act)
    ranges = [(DATA_GPA + n * PAGE, PAGE) for n in range(4)]
    assert ask(machine, call, *ranges) == (STATUS.CONTINUE, 2)
    assert ask(machine, call, *ranges[2:]) == (refused, 0)
    assert done == [DATA_GPA, DATA_GPA + PAGE]
