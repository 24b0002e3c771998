"""Recordings of calls: the packets of a pcapng file, and the compact form in which a guest makes them again.

Neither guest nor host needs any of it to speak to the other.  A recording is written by a host, read by
people (the dissector) and by ``paravirt replay``.  The file around the packets is pcapng's own.
"""

from .schema import GPA, I64, U16, U32, U64, Constants, Record, Rule, opaque, pad, text

RECORDING = Constants(
    "recording",
    "Numbers of a recording.",
    ("LINK_TYPE", 147, "Link type of the file's one interface: USER0."),
    ("FORMAT", 1, "Version of the format, in recorded_machine."),
    ("MAGIC", 0x5941_4C50_4552_5650, "First word of replay_head, and of the place in an image that names it."),
)

RECORDED = Constants(
    "recorded",
    "Kinds of packets; the first 16 bits of each.",
    ("MACHINE", 1, "recorded_machine: a life of a machine begins."),
    ("CALL", 2, "recorded_call: a call has ended."),
    ("EVENT", 3, "recorded_moment: a channel was raised; its number."),
    ("DOORBELL", 4, "recorded_moment: a doorbell that no enabled queue and no ring took; what was written."),
    ("VCPU_START", 5, "recorded_moment: a vCPU begins; its first instruction."),
    ("VCPU_STOP", 6, "recorded_moment: a vCPU has ended; zero."),
)

RECORDED_ACCESS = Constants(
    "recorded_access",
    "Whose bytes a buffer's are.",
    ("READ", 1, "Input: as the host found them before it carried the call out."),
    ("WRITE", 2, "Output: those that the call defines."),
)

RECORDED_FLAG = Constants(
    "recorded_flag",
    "Flags of recorded_machine.",
    ("POISON", 0, "The host scrambled what the ABI calls undefined."),
    ("SUPERVISOR", 1, "The guest ran at CPL 0."),
    ("MMIO", 2, "Devices were reached by virtio-mmio."),
    bits=True,
)

RECORDED_MACHINE = Record(
    "recorded_machine",
    "The machine whose calls follow, up to the next record of this kind: a reset makes another one. After it "
    "come recorded_service and recorded_device records.",
    "kind" / U16 * "MACHINE.",
    "format" / U16 * "FORMAT.",
    "vcpus" / U32 * "vCPUs.",
    "major" / U16 * "Major version of the ABI.",
    "minor" / U16 * "Minor version.",
    "flags" / U32 * "Constants `recorded_flag`.",
    "services" / U16 * "Number of recorded_service records.",
    "devices" / U16 * "Number of recorded_device records.",
    pad(4),
    "memory_bytes" / U64 * "Guest memory.",
    "digest" / opaque(32) * "Digest of the declaration that the host was built from.",
    "image_sha256" / opaque(32) * "SHA-256 of the guest's image.",
    "image" / text(64) * "Its file name, for people.",
)

RECORDED_SERVICE = Record(
    "recorded_service",
    "A service that was offered.",
    "service" / U32 * "Its number.",
    "denied" / U32 * "Functions switched off, as a bit mask by function number.",
    "offered" / U64 * "Features offered.",
)

RECORDED_DEVICE = Record(
    "recorded_device",
    "A device that was offered.",
    "type" / U32 * "Virtio device id.",
    "read_only" / U32 * "1: a disk that could only be read.",
    "size_bytes" / U64 * "Of a disk.",
    "name" / text(32) * "Logical name.",
)

RECORDED_CALL = Record(
    "recorded_call",
    "A call and its result. After it come recorded_buffer records, and then the bytes of each, without padding.",
    "kind" / U16 * "CALL.",
    "road" / U16 * "Constants `road`.",
    "vcpu" / U32 * "vCPU that made it.",
    "call" / U32 * "Call id.",
    "buffers" / U32 * "Number of recorded_buffer records.",
    "args" / U64[6] * "Arguments.",
    "status" / I64 * "Status.",
    "value" / U64 * "Value; undefined when the status is negative.",
    "begin_ns" / U64 * "When it reached the host, in ns since the machine first ran; pauses count.",
    "end_ns" / U64 * "When it was answered.",
)

RECORDED_BUFFER = Record(
    "recorded_buffer",
    "A buffer of a call that lay in guest memory and was not empty; others have none.",
    "argument" / U16 * "Index of the argument that holds its address.",
    "access" / U16 * "Constants `recorded_access`.",
    "bytes" / U32 * "Bytes in this packet.",
    "length_bytes" / U64 * "Its length as the guest gave it. Input of which fewer bytes are here was too long to keep.",
)

RECORDED_MOMENT = Record(
    "recorded_moment",
    "Something besides calls that a guest can notice.",
    "kind" / U16 * "Constants `recorded`.",
    pad(2),
    "vcpu" / U32 * "vCPU that is told, begins or ends; all ones for a doorbell.",
    "at_ns" / U64 * "When, in ns since the machine first ran; pauses count.",
    "number" / U64 * "What it is depends on the kind.",
)

REPLAY_COMPARE = Constants(
    "replay_compare",
    "What of a result is compared.",
    ("STATUS", 0, "The status."),
    ("VALUE", 1, "The value."),
    bits=True,
)

REPLAY_CHUNK_KIND = Constants(
    "replay_chunk_kind",
    "What a chunk is for.",
    ("INPUT", 1, "Bytes to be put there before the call."),
    ("RELOCATE", 2, "No bytes: the 64-bit word there is an offset into the arena, to become an address."),
    ("OUTPUT", 3, "Bytes that are to be there after the call, and before it others."),
)

REPLAY_HEAD = Record(
    "replay_head",
    "Head of what a replaying guest is given; entries follow. Addresses in it are offsets into an arena, memory "
    "of the replaying guest's own.",
    "magic" / U64 * "MAGIC.",
    "size_bytes" / U64 * "Of everything, this head included.",
    "arena_bytes" / U64 * "Memory needed.",
    "entries" / U32 * "Number of entries.",
    "vcpus" / U32 * "vCPUs that make the calls.",
)

REPLAY_ENTRY = Record(
    "replay_entry",
    "One call to be made, by the vCPU named, after the one before was answered. Its chunks follow.",
    "number" / U32 * "Of the call in its recording, from 1.",
    "vcpu" / U32 * "vCPU that makes it.",
    "call" / U32 * "Call id.",
    "compare" / U32 * "Constants `replay_compare`.",
    "args" / U64[6] * "Arguments.",
    "steps" / U64[6] * "Added to each argument, times the value, to go on after CONTINUE.",
    "relocate" / U32 * "A bit per argument: it is an offset into the arena.",
    "chunks" / U32 * "Number of chunks.",
    "status" / I64 * "Status expected.",
    "value" / U64 * "Value expected.",
)

REPLAY_CHUNK = Record(
    "replay_chunk",
    "Bytes in the arena; they follow, padded with zeros to 8.",
    "kind" / U32 * "Constants `replay_chunk_kind`.",
    "bytes" / U32 * "How many follow.",
    "offset" / U64 * "Where, in the arena.",
)

REPLAY_PLACE = Record(
    "replay_place",
    "Where an image that replays finds its replay_head; a tool finds it by its first words and fills it in.",
    "magic" / U64 * "MAGIC.",
    "mark" / U64 * "All ones: no head begins like this.",
    "gpa" / GPA * "Address of the head; zero: there is none.",
    "size_bytes" / U64 * "Its size_bytes.",
)

RULES = (
    Rule(
        "REC-1",
        "A recording is a pcapng file of one little-endian section with one interface, of link type LINK_TYPE and "
        "nanosecond resolution; each packet is one of the records above, whole.",
        "standard",
    ),
    Rule(
        "REC-2",
        "A call's packet is complete before its vCPU runs on, so packets stand in the order of the answers.",
        "standard",
    ),
    Rule(
        "REC-3",
        "Every call of a recorded machine has its packet, or the recording is said to be incomplete.",
        "standard",
    ),
    Rule(
        "REC-4",
        "A call made by base.batch has a packet of its own, with road BATCH, before that of the batch.",
        "standard",
    ),
    Rule(
        "REC-5",
        "The packet of a call holds those of its buffers that lay in guest memory, of long ones the beginning: of "
        "input the bytes that the host found when the call came, of output those that the call defines (CALL-11), "
        "none if its status is negative.",
        "standard",
    ),
    Rule("REC-6", "A reader skips blocks of a type that it does not know.", "standard"),
)
