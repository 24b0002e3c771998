"""Virtqueues in memory, device status and feature bits, virtio-mmio registers (virtio 1.4, sections 2 and 4.2)."""

from .schema import GPA, U16, U32, Constants, Record, Rule

VIRTIO_STATUS = Constants(
    "virtio_status",
    "Device status bits (virtio 2.1).",
    ("ACKNOWLEDGE", 0, "The guest has seen the device."),
    ("DRIVER", 1, "The guest can drive it."),
    ("DRIVER_OK", 2, "The driver is ready."),
    ("FEATURES_OK", 3, "Features are agreed."),
    ("NEEDS_RESET", 6, "The device gave up."),
    ("FAILED", 7, "The guest gave up."),
    bits=True,
)

VIRTIO_FEATURE = Constants(
    "virtio_f",
    "Feature bits of every device (virtio 6).",
    ("INDIRECT_DESC", 28, "Indirect descriptors."),
    ("EVENT_IDX", 29, "used_event and avail_event."),
    ("VERSION_1", 32, "Virtio 1."),
    ("ACCESS_PLATFORM", 33, "Addresses are translated."),
    ("RING_PACKED", 34, "Packed virtqueues."),
    ("IN_ORDER", 35, "Buffers are used in order."),
    ("NOTIFICATION_DATA", 38, "Notifications carry an index."),
    ("RING_RESET", 40, "Queues are reset one by one."),
    bits=True,
)

DESC_FLAG = Constants(
    "desc_f",
    "Flags of a descriptor.",
    ("NEXT", 0, "The chain goes on at `next`."),
    ("WRITE", 1, "The device writes."),
    ("INDIRECT", 2, "The buffer is a table of descriptors."),
    ("PACKED_AVAIL", 7, "Packed: available."),
    ("PACKED_USED", 15, "Packed: used."),
    bits=True,
)

RING_FLAG = Constants(
    "ring_f",
    "Flags of the rings without EVENT_IDX.",
    ("AVAIL_NO_INTERRUPT", 0x1, "Available ring: no event wanted."),
)

USED_FLAG = Constants("used_f", "Flag of the used ring without EVENT_IDX.", ("NO_NOTIFY", 0x1, "No doorbell wanted."))

VIRTQ_DESC = Record(
    "virtq_desc",
    "Descriptor of a split queue (virtio 2.7.5).",
    "gpa" / GPA * "Buffer.",
    "size_bytes" / U32 * "Length of the buffer.",
    "flags" / U16 * "Constants `desc_f`.",
    "next" / U16 * "Next descriptor, if NEXT.",
)

VIRTQ_AVAIL = Record(
    "virtq_avail",
    "Head of the available ring (virtio 2.7.6); heads of chains (16 bits each) follow, then used_event.",
    "flags" / U16 * "Constants `ring_f`.",
    "index" / U16 * "Where the driver puts the next entry, not reduced.",
)

VIRTQ_USED = Record(
    "virtq_used",
    "Head of the used ring (virtio 2.7.8); virtq_used_elem entries follow, then avail_event.",
    "flags" / U16 * "Constants `used_f`.",
    "index" / U16 * "Where the device puts the next entry, not reduced.",
)

VIRTQ_USED_ELEM = Record(
    "virtq_used_elem",
    "Entry of the used ring.",
    "id" / U32 * "Head of the chain.",
    "written_bytes" / U32 * "Bytes that the device wrote.",
)

VIRTQ_PACKED_DESC = Record(
    "virtq_packed_desc",
    "Descriptor of a packed queue (virtio 2.8.13).",
    "gpa" / GPA * "Buffer.",
    "size_bytes" / U32 * "Length of the buffer.",
    "id" / U16 * "Buffer id.",
    "flags" / U16 * "Constants `desc_f`.",
)

VIRTQ_PACKED_EVENT = Record(
    "virtq_packed_event",
    "Event suppression of a packed queue (virtio 2.8.14).",
    "descriptor" / U16 * "Offset and wrap counter.",
    "flags" / U16 * "0 on, 1 off, 2 at `descriptor`.",
)

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
    Rule("VQ-1", "A descriptor index is below the size of its table.", "both"),
    Rule(
        "VQ-2",
        "A chain has at most as many buffers as its queue descriptors, those of an indirect table counted.",
        "both",
    ),
    Rule("VQ-3", "Every buffer lies wholly inside one range of guest memory and is not empty.", "both"),
    Rule("VQ-4", "Device-readable descriptors come before device-writable ones.", "both"),
    Rule(
        "VQ-5",
        "An indirect table is not empty, holds whole descriptors, at most as many as the queue, and no indirect one.",
        "both",
    ),
    Rule("VQ-6", "A descriptor does not have both INDIRECT and NEXT; INDIRECT only if it was agreed.", "both"),
    Rule("VQ-7", "The available index is at most the queue's size ahead of what the device has seen.", "both"),
    Rule("VQ-8", "The three areas are aligned and lie wholly inside guest memory.", "both"),
    Rule("VQ-9", "WRITE is ignored in a descriptor with INDIRECT."),
    Rule("VQ-10", "After a fault the queue is silent until it is enabled again: nothing more is taken or used."),
)
