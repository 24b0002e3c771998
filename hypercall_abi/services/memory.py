"""Service memory: what the guest tells the host of its memory's use."""

from ..schema import GPA, U64, Buffer, Call, Constants, Limit, Record, Rule, Service

BYTES = Limit(17, "MEMORY_BYTES", 64 << 20, "bytes", "All ranges of one memory call together.")
RANGES = Limit(8, "MEMORY_RANGES", 256, "ranges", "Ranges of one memory call.")

FEATURE = Constants(
    "memory_feature",
    "Features of the service memory.",
    ("BALLOON", 0, "The host asks for memory, the guest gives it."),
    ("FREE_PAGE_REPORTING", 1, "The guest tells of pages that it does not use."),
    bits=True,
)

MEMORY_RANGE = Record(
    "memory_range",
    "A range of guest memory, whole 4 KiB pages. Written by the guest.",
    "gpa" / GPA * "First byte.",
    "size_bytes" / U64 * "Length.",
)

_RANGES = (Buffer("ranges", "memory_range records.", "read", RANGES, align=8, entry=MEMORY_RANGE),)

SERVICE = Service(
    6,
    "memory",
    "Populate and discard always exist; balloon and free-page reporting are features.",
    (
        Call(
            0,
            "populate",
            "Has the host back ranges now, so that a later touch costs no exit.",
            _RANGES,
            value="ranges done",
            statuses=("CONTINUE", "LIMIT", "UNALIGNED", "BAD_ADDRESS", "NO_MEMORY"),
        ),
        Call(
            1,
            "discard",
            "Gives the contents of ranges away; they read as zero afterwards.",
            _RANGES,
            value="ranges done",
            statuses=("CONTINUE", "LIMIT", "UNALIGNED", "BAD_ADDRESS"),
        ),
        Call(
            2,
            "target",
            "Asks how much memory the host wants back.",
            value="bytes the balloon should hold",
            varies=("value",),
            feature="BALLOON",
        ),
        Call(
            3,
            "inflate",
            "Puts ranges into the balloon.",
            _RANGES,
            value="ranges done",
            feature="BALLOON",
            statuses=("CONTINUE", "LIMIT", "UNALIGNED", "BAD_ADDRESS"),
        ),
        Call(
            4,
            "deflate",
            "Takes ranges out of the balloon: the argument ranges become usable again.",
            _RANGES,
            value="ranges done",
            feature="BALLOON",
            statuses=("CONTINUE", "LIMIT", "UNALIGNED", "BAD_ADDRESS"),
        ),
        Call(
            5,
            "report",
            "Tells of free ranges, whose contents may vanish until they are written.",
            _RANGES,
            value="ranges done",
            feature="FREE_PAGE_REPORTING",
            statuses=("CONTINUE", "LIMIT", "UNALIGNED", "BAD_ADDRESS"),
        ),
    ),
    FEATURE,
)

RULES = (
    Rule("MEM-1", "All ranges of a call are checked before the first is touched."),
    Rule(
        "MEM-2",
        "Ranges are whole 4 KiB pages, or the call answers UNALIGNED; one of length zero is valid in guest memory.",
    ),
    Rule("MEM-3", "A discarded range reads as zero."),
    Rule("MEM-4", "Ranges of one call may overlap."),
    Rule("MEM-5", "Ranges of more than MEMORY_BYTES together are refused with LIMIT, before any is looked at."),
    Rule(
        "MEM-6",
        "A call that stops between two ranges answers CONTINUE with the number done, at least one; the guest calls "
        "again with the rest.",
        "both",
    ),
    Rule(
        "MEM-7",
        "memory.target answers whole 4 KiB pages, at most the guest's memory; when the answer changes after BALLOON "
        "was accepted, channel BALLOON of vCPU 0 is raised.",
        no_case="the host changes its wish for reasons of its own, which no guest can bring about",
    ),
    Rule(
        "MEM-8",
        "A page that is in the balloon or was reported reads as it was or as zero, until the guest writes it: then it "
        "keeps what was written.",
    ),
    Rule(
        "MEM-9",
        "A guest leaves what is in the balloon alone until memory.deflate took it out, and neither puts in nor reports "
        "what is in use or what the host shares with it.",
        "guest",
    ),
)
