"""Virtqueues in memory, device status and feature bits (virtio 1.4, section 2)."""

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

VIRTQ_EVENT = Constants(
    "virtq_event",
    "What a side of a packed queue wants to be told of (virtio 2.8.10).",
    ("ENABLE", 0, "Everything."),
    ("DISABLE", 1, "Nothing."),
    ("DESC", 2, "That the place in `descriptor` was passed; with EVENT_IDX only."),
)

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
    "descriptor" / U16 * "Bits 0 to 14: offset in the ring; bit 15: wrap counter.",
    "flags" / U16 * "Constants `virtq_event`.",
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
    Rule("VQ-7", "The available index of a split queue is at most its size ahead of what the device has seen.", "both"),
    Rule(
        "VQ-8",
        "The three areas have the sizes and alignments of the table of areas, and each lies wholly inside one range of "
        "guest memory.",
        "both",
    ),
    Rule("VQ-9", "WRITE is ignored in a descriptor with INDIRECT."),
    Rule("VQ-10", "After a fault the queue is silent until it is enabled again: nothing more is taken or used."),
    Rule(
        "VQ-11", "Ring indexes run freely over 16 bits and are reduced by the queue's size where an entry is looked up."
    ),
    Rule("VQ-12", "Driver and device order their accesses to a queue as the table of memory accesses says.", "both"),
    Rule(
        "VQ-13",
        "In a packed queue every descriptor of a chain is available when its first one is, in places that the device "
        "does not have; the buffer id is below the size and names no other chain that the device has.",
        "both",
    ),
)
