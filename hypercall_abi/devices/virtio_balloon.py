"""Balloon: feature bits, configuration space and statistics (virtio 1.4, section 5.5)."""

from ..schema import U32, Constants, Record, Rule

BALLOON_FEATURE = Constants(
    "balloon_f",
    "Feature bits of balloon.",
    ("MUST_TELL_HOST", 0, "A page is not used before the device gave the deflate buffer back."),
    ("STATS_VQ", 1, "Queue 2 exists."),
    ("DEFLATE_ON_OOM", 2, "A driver in need may take pages out unasked."),
    ("FREE_PAGE_HINT", 3, "Queue 3 takes hints."),
    ("PAGE_POISON", 4, "The guest fills free pages with a value."),
    ("PAGE_REPORTING", 5, "Free pages are reported."),
    bits=True,
)

BALLOON_CONFIG = Record(
    "balloon_config",
    "Configuration space of balloon (virtio 5.5.4).",
    "wanted_pages" / U32 * "Pages of 4 KiB that the device wants; written by the device.",
    "actual_pages" / U32 * "Those that are in the balloon; written by the driver.",
)

BALLOON_STAT = Constants(
    "balloon_stat",
    "Tags of statistics, each before its 64-bit value without padding: 10 bytes (virtio 5.5.6.3).",
    ("SWAP_IN", 0, "Bytes swapped in."),
    ("SWAP_OUT", 1, "Bytes swapped out."),
    ("MAJOR_FAULTS", 2, "Page faults that waited for a disk."),
    ("MINOR_FAULTS", 3, "Page faults that did not."),
    ("FREE_MEMORY", 4, "Bytes that nobody uses."),
    ("TOTAL_MEMORY", 5, "Bytes that there are."),
    ("AVAILABLE_MEMORY", 6, "Bytes that could be had without swapping."),
    ("DISK_CACHES", 7, "Bytes of disks that could be dropped."),
    ("HUGE_ALLOCATIONS", 8, "Huge pages allocated."),
    ("HUGE_FAILURES", 9, "Huge pages that could not be."),
)

RULES = (
    Rule(
        "BAL-1",
        "A list of pages is whole 32-bit numbers of 4 KiB pages in guest memory, no more of them than there are pages; "
        "another is a fault of the driver.",
        "both",
    ),
)
