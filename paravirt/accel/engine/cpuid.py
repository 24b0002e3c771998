"""The CPUID of a software vCPU: what the engine executes (x86-64-v2) and our leaves (rules CPUID-1, CPUID-2)."""

from __future__ import annotations

import struct

Leaf = tuple[int, int, int, int]

_VENDOR = b"ParavirtSoft"
_SIGNATURE = b"ParavirtABI\0"
_FAMILY = 0x0006_0FB1  # family 6, an old model: nothing is to be guessed from it

# leaf 1: FPU DE TSC MSR PAE CX8 APIC PGE CMOV PAT CLFSH MMX FXSR SSE SSE2
_FEATURES_EDX = sum(1 << bit for bit in (0, 2, 4, 5, 6, 8, 9, 13, 15, 16, 19, 23, 24, 25, 26))
# SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT, and that there is a hypervisor
_FEATURES_ECX = sum(1 << bit for bit in (0, 9, 13, 19, 20, 23, 31))
_EXTENDED_ECX = 1 << 0  # LAHF in 64-bit mode
_EXTENDED_EDX = 1 << 20 | 1 << 27 | 1 << 29  # NX RDTSCP LM
_CLFLUSH_BYTES = 64 // 8 << 8
_PHYSICAL_BITS, _VIRTUAL_BITS = 40, 48

LEAVES_FIRST, LEAVES = 0x4000_0000, 0x10


def table(index: int, vcpus: int, base: int, own: tuple[Leaf, Leaf], counter_khz: int) -> dict[int, Leaf]:
    """Leaf → EAX EBX ECX EDX of vCPU `index`; `own` are the leaves `base` + 1 and `base` + 2."""

    def words(name: bytes) -> tuple[int, int, int]:
        a, b, c = struct.unpack("<III", name)
        return a, b, c

    ebx, edx, ecx = words(_VENDOR)  # in leaf 0 the words stand in this order
    features = index << 24 | vcpus << 16 | _CLFLUSH_BYTES
    return {
        0: (1, ebx, ecx, edx),
        1: (_FAMILY, features, _FEATURES_ECX, _FEATURES_EDX),
        LEAVES_FIRST: (LEAVES_FIRST + LEAVES, 0, 0, 0),
        LEAVES_FIRST + LEAVES: (counter_khz, 0, 0, 0),
        base: (base + len(own), *words(_SIGNATURE)),
        base + 1: own[0],
        base + 2: own[1],
        0x8000_0000: (0x8000_0008, ebx, ecx, edx),
        0x8000_0001: (_FAMILY, 0, _EXTENDED_ECX, _EXTENDED_EDX),
        0x8000_0008: (_PHYSICAL_BITS | _VIRTUAL_BITS << 8, 0, 0, 0),
    }
