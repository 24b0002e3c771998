"""Persistent memory: feature bits, configuration space and requests (virtio 1.4, section 5.19)."""

from ..schema import GPA, U32, U64, Constants, Record, Rule

PMEM_FEATURE = Constants(
    "pmem_f",
    "Feature bits of persistent memory.",
    ("SHMEM_REGION", 0, "The region is shared memory region 0 of the transport; not offered here."),
    bits=True,
)

PMEM_CONFIG = Record(
    "pmem_config",
    "Configuration space of persistent memory (virtio 5.19.4).",
    "start_gpa" / GPA * "First byte of the region.",
    "size_bytes" / U64 * "Its length.",
)

PMEM_TYPE = Constants(
    "pmem_type",
    "Types of requests of persistent memory.",
    ("FLUSH", 0, "Make earlier stores to the region durable."),
)

PMEM_RESULT = Constants(
    "pmem_result",
    "How a request ended.",
    ("OK", 0, "Done."),
    ("FAILED", 0xFFFF_FFFF, "Not done, or not known to be; virtio writes it -1."),
)

PMEM_REQUEST = Record(
    "pmem_request", "What is asked for; device-readable (virtio 5.19.6).", "type" / U32 * "Constants `pmem_type`."
)

PMEM_RESPONSE = Record("pmem_response", "Its answer; device-writable.", "result" / U32 * "Constants `pmem_result`.")

RULES = (
    Rule(
        "PMEM-1",
        "The region is whole 4 KiB pages from a multiple of 2 MiB on. It overlaps no range of the memory map, no "
        "window and no other region, and stays where it is until the machine ends. For a guest with notes it is mapped "
        "one to one, readable, not executable, and writable unless the device is read-only.",
    ),
    Rule(
        "PMEM-2",
        "The region is no guest memory: a buffer of a call or an area of a queue in it is refused with BAD_ADDRESS, a "
        "buffer of a queue in it is a fault of the driver (VQ-3).",
    ),
    Rule(
        "PMEM-3",
        "A device that was attached read-only has READ_ONLY in its device_info. A store to its region is a page fault "
        "of the guest's; one that the guest's own page tables let pass changes nothing and faults the device.",
    ),
    Rule(
        "PMEM-4",
        "A FLUSH that answers OK has made durable every store to the region that came before the FLUSH was made "
        "available. After one that failed every later one fails, too: asking again does not bring back what was lost.",
        no_case="what is durable shows when the host has lost its power, and nobody in the machine can see it",
    ),
    Rule(
        "PMEM-5",
        "A request without its type, or without room for its response, is a fault of the driver; one of a type that "
        "is not known answers FAILED.",
        "both",
    ),
    Rule(
        "PMEM-6",
        "Where the host cannot have what lies behind the region any more (a file was cut, a disk failed), an access to "
        "it ends this machine and no other.",
        no_case="no guest can cut its host's file or have its disk fail",
    ),
)
