"""ELF notes by which an image says what it is and what it needs; owner `Paravirt`."""

from .schema import U16, U32, U64, Constants, Limit, Record, Rule, text

OWNER = "Paravirt"

NOTE = Constants(
    "note",
    "Types of notes.",
    ("REQUIRE", 1, "note_require, then note_service records."),
    ("MANIFEST", 2, "note_device records: the devices the guest wants, by logical name."),
    ("PRIVILEGE", 3, "note_privilege."),
    ("CPU", 4, "note_cpu."),
    ("MANDATORY", 0x8000, "First of the types that a host must know or refuse."),
)

PRIVILEGE = Constants(
    "privilege",
    "Level a guest is entered at.",
    ("ANY", 0, "The host decides."),
    ("USER", 1, "x86-64: CPL 3."),
    ("SUPERVISOR", 2, "x86-64: CPL 0."),
)

DEVICE_FLAG = Constants(
    "device_flag",
    "Flags of a device in the manifest.",
    ("OPTIONAL", 0, "The guest runs without it too."),
    ("READ_ONLY", 1, "The guest only reads it; the host offers it so."),
    bits=True,
)

CPU_LEVEL = Constants(
    "cpu_level",
    "x86-64 levels of the psABI.",
    ("V1", 1, "Baseline."),
    ("V2", 2, "SSE4.2, POPCNT, CMPXCHG16B."),
    ("V3", 3, "AVX2, BMI."),
    ("V4", 4, "AVX-512."),
)

NOTE_BYTES = Limit(16, "NOTE_BYTES", 16384, "bytes", "All Paravirt notes of an image.")

NOTE_REQUIRE = Record(
    "note_require",
    "Version of the ABI that the image was built for; note_service records follow.",
    "major" / U16 * "Major version: the host's is the same.",
    "minor" / U16 * "Minor version: the host's is at least that.",
    "services" / U32 * "Number of records.",
)

NOTE_SERVICE = Record(
    "note_service",
    "A service without which the image does not run.",
    "service" / U32 * "Number of the service.",
    "flags" / U32 * "Zero.",
    "features" / U64 * "Features it needs.",
)

NOTE_DEVICE = Record(
    "note_device",
    "A device that the image wants.",
    "type" / U32 * "Virtio device id.",
    "flags" / U32 * "Constants `device_flag`.",
    "name" / text(32) * "Logical name, by which the user attaches it.",
)

NOTE_PRIVILEGE = Record(
    "note_privilege", "Level wanted.", "privilege" / U32 * "Constants `privilege`.", "flags" / U32 * "Zero."
)

NOTE_CPU = Record("note_cpu", "Least CPU.", "level" / U32 * "Constants `cpu_level`.", "flags" / U32 * "Zero.")

RULES = (
    Rule(
        "NOTE-1",
        "A note that is malformed, or stands twice, refuses the image, and so do notes of more than NOTE_BYTES "
        "together. Malformed is what is not as long as its records, or has a value or flag that is not defined.",
    ),
    Rule("NOTE-2", "An unknown type below MANDATORY is skipped; one from there on refuses the image."),
    Rule("NOTE-3", "A device not in the manifest is not offered; one in it and not OPTIONAL must be attached."),
    Rule("NOTE-4", "An image without Paravirt notes is a plain guest and is offered every device."),
    Rule("NOTE-5", "A required service or feature that the host does not offer refuses the image."),
    Rule("NOTE-6", "A name in the manifest that is empty, is not printable, or stands there twice refuses the image."),
    Rule(
        "NOTE-7", "The host's major version is the one required and its minor at least that, or it refuses the image."
    ),
    Rule(
        "NOTE-8",
        "The guest is entered at the privilege that its note names, or the image is refused; with ANY, or without the "
        "note, at one that the host chooses. The record ABI says which.",
    ),
    Rule(
        "NOTE-9",
        "A CPU note of a level that the host's CPU does not have refuses the image; without the note it is V1.",
        no_case="which level the host's CPU has no image can know",
    ),
    Rule("NOTE-10", "A device with READ_ONLY in the manifest is offered so that the guest cannot change it."),
)
