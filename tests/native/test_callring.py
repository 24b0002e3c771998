"""The guest's call rings against the whole host library in one process, under the sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.native.test_ring import ASAN, COMPILERS, HERE, INCLUDES, PLAIN, ROOT, TSAN, WARNINGS, compiled, run

NATIVE = ROOT / "paravirt" / "native"
# What needs KVM, Python or disks is not the library's.
LIBRARY = [
    NATIVE / f"{name}.c"
    for name in (
        "base callring console continuity device dispatch event extension guest_memory hotplug inflight memory mmio "
        "notify record ring ring_packed ring_split status system time trace"
    ).split()
]
DRIVER = [ROOT / "guest_drivers" / "lib" / "callring.c"]
EXTERN = ["-DPV_CALL_EXTERN", "-DPV_PORTS_EXTERN"]
BUILDS = [("gcc", ASAN), ("clang", ASAN), ("gcc", TSAN), ("clang", TSAN), ("gcc", PLAIN)]
NO_FENCES = ["-Wno-tsan"]  # of gcc: it does not see the fences of the time page, which nobody reads here

Library = Callable[[str, list[str]], list[Path]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The host library's objects, by compiler and flags; each compiled once."""

    @cache
    def build(cc: str, flags: tuple[str, ...]) -> list[Path]:
        work = tmp_path_factory.mktemp("library")
        sources = map(str, [HERE / "callring_host.c", *LIBRARY])
        command = [cc, *WARNINGS, *flags, *INCLUDES, "-c", *sources]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return sorted(work.glob("*.o"))

    return lambda cc, flags: build(cc, tuple(flags))


@pytest.mark.parametrize(("cc", "flags"), BUILDS, ids=["gcc-asan", "clang-asan", "gcc-tsan", "clang-tsan", "gcc-plain"])
def test_pair(tmp_path: Path, library: Library, cc: str, flags: list[str]) -> None:
    """RING-4 to RING-6, RING-9, RING-10, RING-12: three vCPUs, their traps between, every completion checked."""
    if not shutil.which(cc):
        pytest.skip(f"no {cc}")
    flags = [*flags, *(NO_FENCES if flags is TSAN and cc == "gcc" else [])]
    sources = [HERE / "callring_pair.c", *DRIVER, *library(cc, flags)]
    target = compiled(tmp_path / "callring_pair", cc, [*flags, *EXTERN], sources)
    for entries, rounds in ((1, 300), (4, 300), (256, 60)):
        counted = run(target, rounds, entries, 1 + entries)
        assert counted["calls"] >= 3 * rounds
        assert counted["sleeps"] > 0


@pytest.mark.parametrize("cc", COMPILERS)
def test_hostile_guest(tmp_path: Path, library: Library, cc: str) -> None:
    """RING-8, CALL-12: whatever changes under it, the host stays inside guest memory and in good order."""
    sources = [HERE / "callring_hostile.c", *library(cc, ASAN)]
    target = compiled(tmp_path / "callring_hostile", cc, ASAN, sources)
    happened: Counter[str] = Counter()
    for seed in range(1, 13):  # on a busy machine a run may be over before its threads have met
        happened.update(run(target, 1500, seed))
        if seed > 1 and all(happened[what] for what in ("calls", "faults", "refused")):
            return
    raise AssertionError(f"not everything happened: {happened}")
