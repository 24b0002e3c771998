"""The level of the host's CPU on the psABI's scale (x86-64-v1 to v4), from the kernel's list of flags."""

from __future__ import annotations

from pathlib import Path

_LEVELS = (
    (2, "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"),
    (3, "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"),
    (4, "avx512f avx512bw avx512cd avx512dq avx512vl"),
)


def host_cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The flags that all the host's CPUs have; empty if the kernel does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    sets = [frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")]
    return frozenset.intersection(*sets) if sets else frozenset()


def cpu_level(flags: frozenset[str]) -> int:
    """1 to 4: the highest level whose flags, and those of the levels below it, are in `flags`."""
    level = 1
    for number, needed in _LEVELS:
        if not flags.issuperset(needed.split()):
            break
        level = number
    return level


def host_cpu_level() -> int:
    """The level of this host."""
    return cpu_level(host_cpu_flags())
