"""Sockets: configuration space, packets and events (virtio 1.4, section 5.10)."""

from ..schema import U16, U32, U64, Constants, Record, Rule

VSOCK_FEATURE = Constants(
    "vsock_f",
    "Feature bits of vsock.",
    ("STREAM", 0, "Stream sockets."),
    ("SEQPACKET", 1, "Sockets that keep the bounds of messages."),
    ("NO_IMPLIED_STREAM", 2, "Stream sockets are there only if STREAM says so."),
    bits=True,
)

VSOCK_CID = Constants(
    "vsock_cid",
    "Addresses with a meaning of their own (virtio 5.10.4).",
    ("HOST", 2, "The host."),
    ("FIRST", 3, "The first that a guest can have."),
    ("ANY", 0xFFFFFFFF, "Never an address."),
)

VSOCK_QUEUE = Constants(
    "vsock_queue",
    "Queues of vsock.",
    ("RECEIVE", 0, "Packets to the guest."),
    ("TRANSMIT", 1, "Packets from the guest."),
    ("EVENT", 2, "Events to the guest."),
)

VSOCK_TYPE = Constants(
    "vsock_type",
    "Types of sockets.",
    ("STREAM", 1, "Bytes in order."),
    ("SEQPACKET", 2, "Messages in order."),
)

VSOCK_OPERATION = Constants(
    "vsock_operation",
    "What a packet says.",
    ("REQUEST", 1, "Make a connection."),
    ("RESPONSE", 2, "It is made."),
    ("RESET", 3, "There is no such connection, or no more."),
    ("SHUTDOWN", 4, "The sender will not receive or not send any more: the flags say which."),
    ("DATA", 5, "Bytes of the stream."),
    ("CREDIT_UPDATE", 6, "Only the credit that every packet carries."),
    ("CREDIT_REQUEST", 7, "Send a CREDIT_UPDATE."),
)

VSOCK_SHUTDOWN = Constants(
    "vsock_shutdown",
    "Flags of SHUTDOWN, about who sends it. Once set they stay.",
    ("RECEIVE", 0, "Receives no more."),
    ("SEND", 1, "Sends no more."),
    bits=True,
)

VSOCK_EVENT = Constants(
    "vsock_event_id",
    "Events of the event queue.",
    ("TRANSPORT_RESET", 0, "All connections are gone and the CID may be another; listeners stay."),
)

VSOCK_CONFIG = Record(
    "vsock_config",
    "Configuration space of vsock (virtio 5.10.4).",
    "guest_cid" / U64 * "The guest's address; the upper 32 bits are zero.",
)

VSOCK_HEADER = Record(
    "vsock_header",
    "Head of a packet (virtio 5.10.6).",
    "source_cid" / U32 * "Address of the sender.",
    "source_cid_high" / U32 * "Zero.",
    "destination_cid" / U32 * "Address of the receiver.",
    "destination_cid_high" / U32 * "Zero.",
    "source_port" / U32 * "Port of the sender.",
    "destination_port" / U32 * "Port of the receiver.",
    "size_bytes" / U32 * "Of the data that follows.",
    "type" / U16 * "Constants `vsock_type`.",
    "operation" / U16 * "Constants `vsock_operation`.",
    "flags" / U32 * "Of SHUTDOWN: constants `vsock_shutdown`; else zero.",
    "buffer_bytes" / U32 * "How much of this connection the sender can buffer.",
    "forwarded_bytes" / U32 * "Bytes received and taken out of that buffer since the connection was made, modulo 2^32.",
)

VSOCK_EVENT_RECORD = Record(
    "vsock_event",
    "What the event queue carries (virtio 5.10.6.7).",
    "id" / U32 * "Constants `vsock_event_id`.",
)

_PEER = "a connection needs a program of the host's at its other end, of which the standard says nothing"

RULES = (
    Rule(
        "VSK-1",
        "A chain of the transmit queue holds a header and as many bytes behind it as size_bytes says, or it is a "
        "fault of the driver.",
        "both",
    ),
    Rule(
        "VSK-2",
        "A chain of the receive queue has room for a header and a byte of data, and one of the event queue for an "
        "event, or it is a fault of the driver.",
        "both",
    ),
    Rule(
        "VSK-3",
        "A packet that is not of a stream, is from or to another CID than the guest's and the host's, or belongs to "
        "no connection, is answered by RESET with its addresses swapped, unless it is a RESET or a REQUEST that is "
        "granted.",
    ),
    Rule(
        "VSK-4", "Data beyond the credit that was given resets its connection; none of it is delivered.", no_case=_PEER
    ),
    Rule("VSK-5", "Neither side sends data beyond the credit that the other gave.", "both", no_case=_PEER),
)
