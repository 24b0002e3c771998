"""Console: feature bits and configuration space (virtio 1.4, section 5.3)."""

from ..schema import U16, U32, Constants, Record

CONSOLE_FEATURE = Constants(
    "console_f",
    "Feature bits of console.",
    ("SIZE", 0, "columns and rows hold."),
    ("MULTIPORT", 1, "Several ports."),
    ("EMERGENCY_WRITE", 2, "emergency holds."),
    bits=True,
)

CONSOLE_CONFIG = Record(
    "console_config",
    "Configuration space of console (virtio 5.3.4).",
    "columns" / U16 * "Width.",
    "rows" / U16 * "Height.",
    "max_ports" / U32 * "Ports.",
    "emergency" / U32 * "A character written here is printed without a queue.",
)
