"""Which CPU a guest sees: the host's as KVM can give it, or a named level of x86-64 and nothing beyond it.

A level says nothing beyond what is named here, so that a guest may be moved between hosts that are much alike.  What
may still differ between them: vendor, model and caches; ``_COMMON`` and what KVM has of ``_KVM``, which are there
where the host has them; the bits by which a kernel knows what it need not defend against, which nobody should be
deprived of.  The topology is the machine's own (``native/kvm_cpuid.c``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import ConfigError

HOST = "host"
LEVEL_PREFIX = "x86-64-v"


class Register(NamedTuple):
    """A register of a leaf: 0 to 3 for EAX, EBX, ECX, EDX."""

    function: int
    subleaf: int
    register: int


def _bits(function: int, subleaf: int, register: int, names: str) -> dict[str, tuple[Register, int]]:
    """Features by name, written ``name=bit``."""
    pairs = (word.split("=") for word in names.split())
    return {name: (Register(function, subleaf, register), int(bit)) for name, bit in pairs}


# The names are those of Linux's /proc/cpuinfo.
FEATURES = {
    **_bits(1, 0, 3, "fpu=0 vme=1 de=2 pse=3 tsc=4 msr=5 pae=6 mce=7 cx8=8 apic=9 sep=11 mtrr=12 pge=13 mca=14 cmov=15 "
            "pat=16 pse36=17 clflush=19 mmx=23 fxsr=24 sse=25 sse2=26 ss=27 ht=28"),
    **_bits(1, 0, 2, "pni=0 pclmulqdq=1 vmx=5 ssse3=9 fma=12 cx16=13 pdcm=15 pcid=17 sse4_1=19 sse4_2=20 x2apic=21 "
            "movbe=22 popcnt=23 tsc_deadline_timer=24 aes=25 xsave=26 avx=28 f16c=29 rdrand=30 hypervisor=31"),
    **_bits(7, 0, 1, "fsgsbase=0 tsc_adjust=1 bmi1=3 hle=4 avx2=5 smep=7 bmi2=8 erms=9 invpcid=10 rtm=11 avx512f=16 "
            "avx512dq=17 rdseed=18 adx=19 smap=20 avx512ifma=21 clflushopt=23 clwb=24 avx512cd=28 sha_ni=29 "
            "avx512bw=30 avx512vl=31"),
    **_bits(7, 0, 2, "avx512vbmi=1 umip=2 pku=3 avx512_vbmi2=6 gfni=8 vaes=9 vpclmulqdq=10 avx512_vnni=11 "
            "avx512_bitalg=12 avx512_vpopcntdq=14 la57=16 rdpid=22"),
    **_bits(7, 0, 3, "fsrm=4 tsxldtrk=16"),
    **_bits(0xD, 1, 0, "xsaveopt=0 xsavec=1 xgetbv1=2 xsaves=3"),
    **_bits(6, 0, 0, "arat=2"),
    **_bits(0x8000_0001, 0, 2, "lahf_lm=0 svm=2 cr8_legacy=4 abm=5 sse4a=6 misalignsse=7 3dnowprefetch=8 topoext=22 "
            "perfctr_core=23 perfctr_nb=24"),
    **_bits(0x8000_0001, 0, 3, "syscall=11 nx=20 mmxext=22 fxsr_opt=25 pdpe1gb=26 rdtscp=27 lm=29"),
    **_bits(0x8000_0007, 0, 3, "constant_tsc=8"),
}  # fmt: skip

# What every level has where the host has it: a machine's own, and what all of x86-64 has to all intents.
_COMMON = (
    "apic x2apic tsc_deadline_timer hypervisor arat constant_tsc topoext ht "
    "vme de pse tsc msr pae mce sep mtrr pge mca pat pse36 clflush nx lm"
)
_LEVELS = (  # of the psABI
    "fpu cx8 cmov mmx fxsr sse sse2 syscall",
    "pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm",
    "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
    "avx512f avx512dq avx512cd avx512bw avx512vl",
)
_COMPONENTS = ((0x3, 0x240), (0x3, 0x240), (0x7, 0x340), (0xE7, 0xA80))  # of XCR0 by level, and the bytes they take
# What a kernel reads to see from which defects it need not, or how it can, defend itself (and AMD's alike).
_DEFENCES = {
    Register(7, 0, 3): 1 << 10 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 31,
    Register(0x8000_0008, 0, 1): 1 << 12 | 1 << 14 | 1 << 15 | 1 << 17 | 1 << 18 | 1 << 24 | 1 << 25 | 1 << 26,
    Register(0x8000_0021, 0, 0): 1 << 27 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 31,
}
# Leaves that a level says nothing of, or that others see to.
_KEPT = frozenset({0, 2, 4, 5, 0xB, 0x1F, 0x4000_0000, 0x8000_0000, *range(0x8000_0002, 0x8000_0007), 0x8000_001D,
                   0x8000_001E})  # fmt: skip
_KVM_LEAF = 0x4000_0001
# Of its EAX: clocks, no delay at ports, steal time, interrupts' ends, spin locks, TLB flushes, IPIs, yielding.  Each
# newer KVM adds more, which a guest would miss on an older one.
_KVM = sum(1 << bit for bit in (0, 1, 3, 5, 6, 7, 9, 11, 13, 24))
_NESTED_SVM_LEAF = 0x8000_000A


class CpuModel(NamedTuple):
    """What ``--cpu`` says."""

    level: int
    """Of x86-64; 0: the host's CPU."""
    added: frozenset[str]
    removed: frozenset[str]

    def allowed(self) -> frozenset[str]:
        """Features of a level, with those added and without those removed."""
        names = {name for words in (_COMMON, *_LEVELS[: self.level]) for name in words.split()}
        return frozenset(names | self.added) - self.removed

    def required(self) -> frozenset[str]:
        """Those that the host must have."""
        names = {name for words in _LEVELS[: self.level] for name in words.split()}
        return frozenset(names | self.added) - self.removed


def parse_cpu(text: str) -> CpuModel:
    """A CPU written ``host`` or ``x86-64-v2``, then ``,+name`` and ``,-name`` for features.  Raises ConfigError."""
    name, *changes = text.split(",")
    match = re.fullmatch(re.escape(LEVEL_PREFIX) + "([1-4])", name)
    if name != HOST and not match:
        raise ConfigError(f"there is no CPU {name!r}; give host, or {LEVEL_PREFIX}1 to {LEVEL_PREFIX}4")
    for change in changes:
        if change[:1] not in ("+", "-") or change[1:] not in FEATURES:
            raise ConfigError(
                f"{change!r} is no feature of a CPU to add (+NAME) or remove (-NAME); there are {' '.join(FEATURES)}"
            )
    added = frozenset(change[1:] for change in changes if change[0] == "+")
    removed = frozenset(change[1:] for change in changes if change[0] == "-")
    return CpuModel(int(match[1]) if match else 0, added, removed)


class Change(NamedTuple):
    """What becomes of a leaf: each of its four registers is kept where `keep` has ones, then `put` is set."""

    function: int
    subleaf: int
    keep: tuple[int, int, int, int]
    put: tuple[int, int, int, int] = (0, 0, 0, 0)


def _register_masks(names: Iterable[str]) -> dict[Register, int]:
    masks: dict[Register, int] = {}
    for name in names:
        register, bit = FEATURES[name]
        masks[register] = masks.get(register, 0) | 1 << bit
    return masks


def change(model: CpuModel, function: int, subleaf: int) -> Change:
    """What `model` makes of a leaf of the host's."""
    everything = 0xFFFF_FFFF
    if model.level == 0:
        gone = _register_masks(model.removed)
        keep = [everything & ~gone.get(Register(function, subleaf, n), 0) for n in range(4)]
        return Change(function, subleaf, (keep[0], keep[1], keep[2], keep[3]))
    if function in _KEPT or (function == _NESTED_SVM_LEAF and "svm" in model.allowed()):
        return Change(function, subleaf, (everything,) * 4)
    if function == _KVM_LEAF:
        return Change(function, subleaf, (_KVM, 0, 0, 0))
    if function == 0xD and "xsave" in model.allowed() and subleaf in (0, *range(2, 8)):
        components, size_bytes = _COMPONENTS[model.level - 1]
        if subleaf == 0:
            return Change(function, subleaf, (components, everything, 0, 0), (0, 0, size_bytes, 0))
        return Change(function, subleaf, (everything,) * 4 if components >> subleaf & 1 else (0,) * 4)
    masks = _register_masks(model.allowed())
    keep = [masks.get(Register(function, subleaf, n), 0) for n in range(4)]
    for register, mask in _DEFENCES.items():
        if (function, subleaf) == register[:2]:
            keep[register.register] |= mask
    if function == 1:
        keep[0] = keep[1] = everything  # family, model and stepping; sizes and the vCPU's number
    if function == 0x8000_0008:
        keep[0], keep[2] = everything, everything  # widths of addresses; the number of vCPUs
    return Change(function, subleaf, (keep[0], keep[1], keep[2], keep[3]))


def missing(model: CpuModel, has: dict[Register, int]) -> list[str]:
    """Names of features that `model` requires and the host, whose registers are in `has`, cannot give."""
    return sorted(name for name in model.required() if not has.get(FEATURES[name][0], 0) >> FEATURES[name][1] & 1)
