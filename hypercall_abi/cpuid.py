"""CPUID discovery on x86, for guests booted otherwise: leaves beside the hypervisor's own."""

from .schema import U32, Constants, Record, Rule, text

CPUID = Constants(
    "cpuid",
    "Where to look.",
    ("FIRST", 0x4000_0000, "First base."),
    ("STEP", 0x100, "To the next base."),
    ("LAST", 0x4000_FF00, "Last base."),
    ("LEAVES", 2, "Leaves after the base."),
)

SIGNATURE = b"ParavirtABI\0"

CPUID_SIGNATURE = Record(
    "cpuid_signature",
    "Leaf base + 0, as EAX EBX ECX EDX.",
    "last_leaf" / U32 * "EAX: the last leaf of this range.",
    "signature" / text(12) * "EBX ECX EDX: `ParavirtABI` and a NUL.",
)

CPUID_ABI = Record(
    "cpuid_abi",
    "Leaf base + 1.",
    "version" / U32 * "major << 16 | minor.",
    "trap_kind" / U32 * "Constants `trap_kind`.",
    "trap" / U32 * "Port or address of the trap.",
    "doorbell" / U32 * "Port or address of the doorbell.",
)

CPUID_BOOT = Record(
    "cpuid_boot",
    "Leaf base + 2.",
    "boot_info_low" / U32 * "Address of the boot information, bits 31:0, or zero.",
    "boot_info_high" / U32 * "Bits 63:32.",
    "vcpus" / U32 * "vCPUs of the machine.",
    "flags" / U32 * "Zero.",
)

RULES = (
    Rule(
        "CPUID-1",
        "The leaves stand at the first free base from FIRST on in steps of STEP, beside those of other interfaces; a "
        "trap or doorbell at an address lies below 4 GiB.",
    ),
    Rule("CPUID-2", "A guest scans all bases for the signature; it does not stop at an unknown one.", "guest"),
)
