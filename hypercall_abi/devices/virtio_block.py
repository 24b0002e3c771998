"""Block: feature bits, configuration space and requests (virtio 1.4, section 5.2)."""

from ..schema import U8, U16, U32, U64, Constants, Record, Rule, pad

BLOCK_FEATURE = Constants(
    "block_f",
    "Feature bits of block.",
    ("SIZE_MAX", 1, "size_max holds."),
    ("SEG_MAX", 2, "seg_max holds."),
    ("RO", 5, "Read only."),
    ("BLK_SIZE", 6, "block_bytes holds."),
    ("FLUSH", 9, "FLUSH exists."),
    ("TOPOLOGY", 10, "Topology fields hold."),
    ("CONFIG_WCE", 11, "writeback can be changed."),
    ("MQ", 12, "queues holds."),
    ("DISCARD", 13, "DISCARD exists."),
    ("WRITE_ZEROES", 14, "WRITE_ZEROES exists."),
    bits=True,
)

BLOCK_CONFIG = Record(
    "block_config",
    "Configuration space of block (virtio 5.2.4).",
    "capacity_sectors" / U64 * "Size, in sectors of 512 bytes.",
    "size_max" / U32 * "Largest segment.",
    "seg_max" / U32 * "Most segments.",
    "cylinders" / U16 * "Geometry.",
    "heads" / U8 * "Geometry.",
    "sectors" / U8 * "Geometry.",
    "block_bytes" / U32 * "Block size.",
    "physical_block_exponent" / U8 * "Logical blocks per physical, as a power of two.",
    "alignment_offset" / U8 * "Of the first aligned logical block.",
    "min_io_blocks" / U16 * "Smallest good request.",
    "opt_io_blocks" / U32 * "Best request.",
    "writeback" / U8 * "1: writes may be cached.",
    pad(1),
    "queues" / U16 * "Queues with MQ.",
    "max_discard_sectors" / U32 * "Largest discard.",
    "max_discard_segments" / U32 * "Most segments of a discard.",
    "discard_sector_alignment" / U32 * "Of discards.",
    "max_write_zeroes_sectors" / U32 * "Largest write-zeroes.",
    "max_write_zeroes_segments" / U32 * "Most segments of a write-zeroes.",
    "write_zeroes_may_unmap" / U8 * "1: unmap is obeyed.",
    pad(3),
    "max_secure_erase_sectors" / U32 * "Largest secure erase.",
    "max_secure_erase_segments" / U32 * "Most segments of a secure erase.",
    "secure_erase_sector_alignment" / U32 * "Of secure erases.",
)

BLOCK_REQUEST = Constants(
    "block_request",
    "Types of block requests.",
    ("READ", 0, "Read."),
    ("WRITE", 1, "Write."),
    ("FLUSH", 4, "Make earlier writes durable."),
    ("GET_ID", 8, "20 bytes of serial number."),
    ("DISCARD", 11, "Contents may vanish."),
    ("WRITE_ZEROES", 13, "Write zeros."),
)

BLOCK_STATUS = Constants(
    "block_status",
    "Last byte of a block request.",
    ("OK", 0, "Done."),
    ("IO_ERROR", 1, "Failed."),
    ("UNSUPPORTED", 2, "No such request."),
)

BLOCK_HEADER = Record(
    "block_header",
    "Head of a block request (virtio 5.2.6).",
    "type" / U32 * "Constants `block_request`.",
    "priority" / U32 * "Ignored by the device: some drivers leave a hint here.",
    "sector" / U64 * "First sector, of 512 bytes.",
)

BLOCK_RANGE = Record(
    "block_range",
    "Segment of discard and write-zeroes.",
    "sector" / U64 * "First sector.",
    "sectors" / U32 * "How many.",
    "flags" / U32 * "Bit 0: unmap, of WRITE_ZEROES alone.",
)

_LOST_POWER = "what is durable shows when the host has lost its power, and nobody in the machine can see it"

RULES = (
    Rule("BLK-1", "A request beyond the capacity, or that wraps, fails with IO_ERROR and touches nothing."),
    Rule("BLK-2", "A request that changes a read-only disk fails with IO_ERROR."),
    Rule("BLK-3", "A request without room for its status byte, or without a header, is a fault of the driver.", "both"),
    Rule("BLK-4", "Data of reads and writes is a whole number of sectors, or the request fails with IO_ERROR."),
    Rule("BLK-5", "The length used counts the bytes written to guest memory, the status byte included."),
    Rule("BLK-6", "An unknown request type fails with UNSUPPORTED."),
    Rule("BLK-7", "Flags that a range's request does not define fail with UNSUPPORTED, before any range is touched."),
    Rule(
        "BLK-8",
        "A FLUSH that answers OK has made durable every write that was answered before the FLUSH was made available.",
        no_case=_LOST_POWER,
    ),
    Rule(
        "BLK-9",
        "A write is durable when it is answered to a driver that did not accept FLUSH, or if writeback was 0 from when "
        "it was made available on.",
        no_case=_LOST_POWER,
    ),
    Rule("BLK-10", "Header, data and status may be split over buffers, and joined in them, in any way."),
    Rule("BLK-11", "GET_ID gives 20 bytes, a shorter serial number filled up with NUL."),
)
