"""Virtio-mmio: registers of a device's window (virtio 1.4, section 4.2), and where this ABI says more."""

from .schema import Constants, Rule

MMIO = Constants(
    "mmio",
    "Registers of virtio-mmio (virtio 4.2.2), offsets in bytes; each is 32 bits wide.",
    ("MAGIC", 0x000, "0x74726976."),
    ("VERSION", 0x004, "2."),
    ("DEVICE_ID", 0x008, "Virtio device id, 0: nothing here."),
    ("VENDOR_ID", 0x00C, "Vendor."),
    ("DEVICE_FEATURES", 0x010, "Offered bits of the selected block."),
    ("DEVICE_FEATURES_SEL", 0x014, "Selects 32 bits."),
    ("DRIVER_FEATURES", 0x020, "Accepted bits of the selected block."),
    ("DRIVER_FEATURES_SEL", 0x024, "Selects 32 bits."),
    ("QUEUE_SEL", 0x030, "Selects a queue."),
    ("QUEUE_SIZE_MAX", 0x034, "Largest size."),
    ("QUEUE_SIZE", 0x038, "Size."),
    ("QUEUE_READY", 0x044, "1: enabled."),
    ("QUEUE_NOTIFY", 0x050, "Doorbell."),
    ("INTERRUPT_STATUS", 0x060, "1: used buffers, 2: configuration."),
    ("INTERRUPT_ACK", 0x064, "Clears bits."),
    ("STATUS", 0x070, "Device status."),
    ("QUEUE_DESC_LOW", 0x080, "Descriptor area."),
    ("QUEUE_DESC_HIGH", 0x084, "Its upper half."),
    ("QUEUE_DRIVER_LOW", 0x090, "Driver area."),
    ("QUEUE_DRIVER_HIGH", 0x094, "Its upper half."),
    ("QUEUE_DEVICE_LOW", 0x0A0, "Device area."),
    ("QUEUE_DEVICE_HIGH", 0x0A4, "Its upper half."),
    ("SHM_SEL", 0x0AC, "Selects a shared memory region."),
    ("SHM_LENGTH_LOW", 0x0B0, "Its length; all ones: there is none."),
    ("SHM_LENGTH_HIGH", 0x0B4, "Its upper half."),
    ("SHM_BASE_LOW", 0x0B8, "Its address; all ones: there is none."),
    ("SHM_BASE_HIGH", 0x0BC, "Its upper half."),
    ("QUEUE_RESET", 0x0C0, "1: takes the selected queue back, with RING_RESET."),
    ("CONFIG_GENERATION", 0x0FC, "Generation of the configuration space."),
    ("CONFIG", 0x100, "Configuration space."),
    ("WINDOW_BYTES", 0x200, "Size of a window."),
    ("MAGIC_VALUE", 0x7472_6976, "What MAGIC reads as."),
)

RULES = (
    Rule(
        "MMIO-1",
        "A register takes aligned accesses of 32 bits, the configuration space those of 8, 16 or 32 bits; any other "
        "access, and one beyond them, reads as zero and writes nothing.",
    ),
    Rule("MMIO-2", "Writing zero to QUEUE_READY of a running device has no effect: a reset takes its queues back."),
    Rule("MMIO-3", "There is no shared memory region: length and address of each read as all ones."),
    Rule(
        "MMIO-4",
        "Each device has a window of WINDOW_BYTES and an interrupt line of its own; the command line of a guest with "
        "notes names them: `virtio_mmio.device=<size>@<address>:<line>`; on x86-64 a line is an input of the I/O APIC.",
    ),
)
