"""The guest's ring driver against the host's device ring, and devices between threads, under the sanitizers.

The C programs beside this file do the work; here they are compiled, with gcc and with clang, and run.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
DEVICE_RING = [
    ROOT / "paravirt" / "native" / f"{name}.c"
    for name in ("ring", "ring_split", "ring_packed", "inflight", "guest_memory")
]
DRIVER_RING = [ROOT / "guest_drivers" / "lib" / f"virtqueue{name}.c" for name in ("", "_split", "_packed")]
SOURCES = [*DEVICE_RING, *DRIVER_RING]
DEVICE = [ROOT / "paravirt" / "native" / name for name in ("status.c", "notify.c", "mmio.c", "hotplug.c")]
INCLUDES = [
    f"-I{ROOT / name}" for name in ("hypercall_abi/include", "paravirt/native", "guest_drivers/include", "tests/native")
]
WARNINGS = "-std=gnu11 -g -Wall -Wextra -Wshadow -Wconversion -Werror".split()
ASAN = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined".split()
TSAN = "-O1 -fsanitize=thread".split()
CHAINS = 70_000
PLAIN = ["-O2"]
PAIRS = ((1, 0, 0), (2, 1, 1), (64, 1, 0), (256, 0, 1))
"""Size, with EVENT_IDX, with indirect tables; each packed and not, half of them in order."""
COMPILERS = [
    pytest.param(cc, marks=pytest.mark.skipif(not shutil.which(cc), reason=f"no {cc}")) for cc in ("gcc", "clang")
]


def compiled(target: Path, cc: str, flags: Sequence[str], sources: Sequence[Path]) -> Path:
    """Compiles `sources` to the program `target`."""
    command = [cc, *WARNINGS, *flags, *INCLUDES, *map(str, sources), "-lpthread", "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def program(tmp_path: Path, cc: str, name: str, flags: list[str], more: Sequence[Path] = ()) -> Path:
    """Compiles `name`.c with both rings and `more`; the program."""
    return compiled(tmp_path / name, cc, flags, [HERE / f"{name}.c", *SOURCES, *more])


def run(target: Path, *arguments: int) -> dict[str, int]:
    """Runs a program that prints names and numbers; those."""
    done = subprocess.run([target, *map(str, arguments)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"{target.name} {arguments}: {done.stdout}{done.stderr}"
    words = done.stdout.split()
    return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=False) if number.isdigit()}


@pytest.mark.parametrize("cc", COMPILERS)
def test_steps(tmp_path: Path, cc: str) -> None:
    """Suppression by a model, room, distrust of the device (rules VQ-3, VQ-4)."""
    assert run(program(tmp_path, cc, "ring_steps", ASAN)) == {}


@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("flags", [ASAN, TSAN], ids=["asan", "tsan"])
def test_pair(tmp_path: Path, cc: str, flags: list[str]) -> None:
    """Two threads, every byte checked; the 16-bit indexes wrap in each of the runs."""
    target = program(tmp_path, cc, "ring_pair", flags)
    for (size, event_idx, indirect), packed in product(PAIRS, (0, 1)):
        counted = run(target, size, CHAINS, event_idx, indirect, packed, indirect ^ packed, 1 + size)
        assert counted["chains"] == CHAINS
        assert counted["doorbells"] <= CHAINS
        assert counted["interrupts"] <= CHAINS
        if size >= 64:  # batches: most chains cost no notification
            assert counted["doorbells"] + counted["interrupts"] < CHAINS


@pytest.mark.parametrize("packed", [0, 1])
def test_a_device_that_dies(tmp_path: Path, packed: int) -> None:
    """At any instruction, hundreds of times: each chain comes back once, those in flight from the next device."""
    target = program(tmp_path, "gcc", "inflight_crash", PLAIN)
    for (size, _, indirect), in_order in product(PAIRS[2:], (0, 1)):
        counted = run(target, size, 5_000, indirect, packed, in_order, 1 + size)
        assert counted["chains"] == 5_000
        assert counted["again"] > 0


@pytest.mark.parametrize("cc", COMPILERS)
def test_nothing_is_lost(tmp_path: Path, cc: str) -> None:
    """Publishing against arming, head on, at full optimisation: the barriers of pairs B and D hold."""
    target = program(tmp_path, cc, "ring_race", PLAIN)
    for event_idx, packed in product((0, 1), (0, 1)):
        assert run(target, 300_000, event_idx, packed) == {"rounds": 300_000}


@pytest.mark.parametrize("cc", COMPILERS)
def test_hostile_driver(tmp_path: Path, cc: str) -> None:
    """Tables that change while they are walked (rules VQ-1 to VQ-7): nothing outside guest memory is touched."""
    target = program(tmp_path, cc, "ring_hostile", ASAN)
    for event_idx, seed in ((0, 1), (1, 2)):
        counted = run(target, 30_000, event_idx, seed)
        assert counted["taken"] > 0
        assert counted["faults"] > 0


@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("flags", [ASAN, TSAN], ids=["asan", "tsan"])
def test_device_between_threads(tmp_path: Path, cc: str, flags: list[str]) -> None:
    """Driver, another vCPU, host and back end at once: no deadlock, no race, each activation taken back (DEV-7)."""
    counted = run(program(tmp_path, cc, "device_race", flags, DEVICE), 400, 5)
    assert counted["activated"] > 0
    assert counted["completed"] > 0
    assert counted["raised"] > 0


@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("flags", [ASAN, TSAN], ids=["asan", "tsan"])
@pytest.mark.parametrize("poll_ns", [0, 50_000])
def test_back_end_threads(tmp_path: Path, cc: str, flags: list[str], poll_ns: int) -> None:
    """Threads of a back end under a driver that starts, stops and resets: no chain is lost, none is served too late."""
    back_end = [ROOT / "paravirt" / "native" / f"{name}.c" for name in ("backend", "backend_serve", "nudge")]
    counted = run(program(tmp_path, cc, "backend_race", flags, [*DEVICE, *back_end]), 60, 7, poll_ns)
    assert counted["chains"] > 0
    assert counted["sleeps"] > 0
    assert (counted["polls"] > 0) <= (poll_ns > 0)


@pytest.mark.parametrize("cc", COMPILERS)
def test_memory_that_grows(tmp_path: Path, cc: str) -> None:
    """A front end adds a region while the threads of a device look others up."""
    assert run(program(tmp_path, cc, "memory_race", TSAN)) == {"regions": 8}
