"""The guest's call rings against the whole host library in one process, under the sanitizers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.test_ring import ASAN, COMPILERS, HERE, PLAIN, ROOT, TSAN, compiled, run

NATIVE = ROOT / "paravirt" / "native"
# What needs KVM, Python or disks is not the library's.
LIBRARY = [
    NATIVE / f"{name}.c"
    for name in (
        "base callring console device dispatch event extension memory mmio notify record ring status system time trace"
    ).split()
]
DRIVER = [ROOT / "guest_drivers" / "lib" / "callring.c"]
EXTERN = ["-DPV_CALL_EXTERN", "-DPV_PORTS_EXTERN"]
NO_FENCES = ["-Wno-tsan"]  # of gcc: it does not see the fences of the time page, which nobody reads here


@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("flags", [ASAN, TSAN, PLAIN], ids=["asan", "tsan", "plain"])
def test_pair(tmp_path: Path, cc: str, flags: list[str]) -> None:
    """RING-4 to RING-6, RING-9, RING-10, RING-12: three vCPUs, their traps between, every completion checked."""
    more = NO_FENCES if flags is TSAN and cc == "gcc" else []
    sources = [HERE / "callring_pair.c", HERE / "callring_host.c", *LIBRARY, *DRIVER]
    target = compiled(tmp_path / "callring_pair", cc, [*flags, *EXTERN, *more], sources)
    for entries, rounds in ((1, 300), (4, 300), (256, 60)):
        counted = run(target, rounds, entries, 1 + entries)
        assert counted["calls"] >= 3 * rounds
        assert counted["sleeps"] > 0


@pytest.mark.parametrize("cc", COMPILERS)
def test_hostile_guest(tmp_path: Path, cc: str) -> None:
    """RING-8, CALL-12: whatever changes under it, the host stays inside guest memory and in good order."""
    sources = [HERE / "callring_hostile.c", HERE / "callring_host.c", *LIBRARY]
    target = compiled(tmp_path / "callring_hostile", cc, ASAN, sources)
    for seed in (1, 2):
        counted = run(target, 3000, seed)
        assert counted["calls"] > 0
        assert counted["faults"] > 0
        assert counted["refused"] > 0
