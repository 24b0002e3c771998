"""Network: feature bits, configuration space, the header of a frame and control (virtio 1.4, section 5.1)."""

from ..schema import U8, U16, Constants, Record, Rule, opaque

NET_FEATURE = Constants(
    "net_f",
    "Feature bits of network.",
    ("CSUM", 0, "The device completes checksums."),
    ("GUEST_CSUM", 1, "The driver takes frames with partial checksums."),
    ("MTU", 3, "mtu holds."),
    ("MAC", 5, "mac holds."),
    ("GUEST_TSO4", 7, "The driver takes large TCP segments, IPv4."),
    ("GUEST_TSO6", 8, "The same, IPv6."),
    ("HOST_TSO4", 11, "The device cuts TCP segments, IPv4."),
    ("HOST_TSO6", 12, "The same, IPv6."),
    ("MRG_RXBUF", 15, "A received frame may lie in several chains."),
    ("STATUS", 16, "status holds."),
    ("CTRL_VQ", 17, "There is a control queue."),
    ("MQ", 22, "pairs holds, and NET_CONTROL MQ sets how many are used."),
    bits=True,
)

NET_CONFIG = Record(
    "net_config",
    "Configuration space of network (virtio 5.1.4), as far as its features here reach.",
    "mac" / opaque(6) * "Ethernet address of the driver's side.",
    "status" / U16 * "Constants `net_status`.",
    "pairs" / U16 * "Most pairs of queues with MQ.",
    "mtu" / U16 * "Largest payload of a frame with MTU, in bytes.",
)

NET_STATUS = Constants(
    "net_status",
    "Bits of status.",
    ("LINK_UP", 0, "Frames can pass."),
    bits=True,
)

NET_HEADER = Record(
    "net_header",
    "Before each frame (virtio 5.1.6), in both directions.",
    "flags" / U8 * "Constants `net_header_f`.",
    "segmentation" / U8 * "Constants `net_segmentation`.",
    "header_bytes" / U16 * "Of a large segment: length of its Ethernet, IP and TCP headers, a hint.",
    "segment_bytes" / U16 * "Of a large segment: payload of each frame that it is cut into.",
    "checksum_start" / U16 * "First byte that the checksum covers; it reaches to the end of the frame.",
    "checksum_offset" / U16 * "Where the checksum lies, from there on.",
    "chains" / U16 * "Received: how many chains the frame lies in, 1 without MRG_RXBUF. Sent: 0.",
)

NET_HEADER_FLAG = Constants(
    "net_header_f",
    "Bits of a header's flags.",
    ("NEEDS_CHECKSUM", 0, "The checksum is to be completed; the field has that of the pseudo-header."),
    ("VALID", 1, "The checksum was found right."),
    bits=True,
)

NET_SEGMENTATION = Constants(
    "net_segmentation",
    "Kinds of large segments.",
    ("NONE", 0, "A frame as it is."),
    ("TCP4", 1, "TCP over IPv4."),
    ("TCP6", 4, "TCP over IPv6."),
)

NET_CONTROL = Constants(
    "net_control",
    "Classes of control requests (virtio 5.1.6.5).",
    ("MQ", 4, "Pairs of queues; its command 0 has the number as 16 bits."),
)

NET_CONTROL_HEADER = Record(
    "net_control_header",
    "Head of a control request; what the command takes follows, then one device-writable byte `net_control_status`.",
    "kind" / U8 * "Constants `net_control`.",
    "command" / U8 * "Of that class.",
)

NET_CONTROL_STATUS = Constants(
    "net_control_status",
    "Last byte of a control request.",
    ("OK", 0, "Done."),
    ("ERROR", 1, "Refused."),
)

RULES = (
    Rule("NET-1", "A chain to send with less than a header to read is a fault of the driver.", "both"),
    Rule("NET-2", "A chain to receive with less room than a header is a fault of the driver.", "both"),
    Rule("NET-3", "A header to send that asks for what was not agreed on is a fault of the driver.", "both"),
    Rule("NET-4", "A received frame that does not fit is dropped whole: the driver never gets a part of one."),
)
