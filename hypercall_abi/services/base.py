"""Service base: version, discovery of services, negotiation of features, limits, boot information, batches."""

from ..callring import RING_SETUP, RINGS
from ..conventions import COMPLETION, SUBMISSION
from ..schema import TRAP, U32, U64, Arg, Buffer, Call, Constants, Limit, Record, Rule, Service

BATCH_ENTRIES = Limit(2, "BATCH_ENTRIES", 256, "entries", "Submissions of one batch.")
BATCH_NS = Limit(
    3, "BATCH_NS", 1_000_000, "ns", "Host time after which a batch starts no further call and answers CONTINUE."
)
SERVICES_BYTES = Limit(4, "SERVICES_BYTES", 4096, "bytes", "Output of base.services.")
BOOT_INFO_BYTES = Limit(5, "BOOT_INFO_BYTES", 65536, "bytes", "Boot information.")

FEATURE = Constants(
    "base_feature",
    "Features of the service base.",
    ("RING", 0, "The ring road: calls by shared-memory rings."),
    bits=True,
)

SERVICE_INFO = Record(
    "service_info",
    "One service that the host offers. Written by the host.",
    "service" / U32 * "Number of the service.",
    "calls" / U32 * "Functions that exist now, as a bit mask by function number.",
    "offered" / U64 * "Features offered.",
    "accepted" / U64 * "Features accepted so far.",
)

SERVICE = Service(
    1,
    "base",
    "What every host has: the rest is found from here. It cannot be switched off.",
    (
        Call(
            0,
            "version",
            "Asks for the version of the ABI; also the cheapest call there is.",
            value="major << 32 | minor",
        ),
        Call(
            1,
            "services",
            "Lists the services offered, as many whole records as fit.",
            (Buffer("records", "Room for service_info records.", "write", SERVICES_BYTES, align=8),),
            value="bytes written",
        ),
        Call(
            2,
            "accept",
            "Accepts features of a service; what was not accepted does not exist. "
            "A service is accepted once; the same set may be accepted again.",
            (Arg("service", "Number of the service."), Arg("features", "Features wanted, all offered.")),
            value="features accepted",
            statuses=("NOT_FOUND", "INVALID", "BAD_STATE"),
        ),
        Call(
            3,
            "limit",
            "Asks for the host's own value of a limit.",
            (Arg("limit", "Id of the limit."),),
            value="the limit",
            varies=("value",),
            statuses=("NOT_FOUND",),
        ),
        Call(
            4,
            "boot_info",
            "Copies the boot information, or its beginning.",
            (Buffer("info", "Room for it.", "write", BOOT_INFO_BYTES, align=8),),
            value="bytes written",
            varies=("value", "output"),
        ),
        Call(
            5,
            "batch",
            "Makes several calls. Stops after a time bound with CONTINUE; the value then "
            "says how many were completed. A call refused has its status in its completion.",
            (
                Buffer("submissions", "The calls.", "read", BATCH_ENTRIES, align=64, entry=SUBMISSION),
                Buffer(
                    "completions", "Room for as many completions.", "write", BATCH_ENTRIES, align=32, entry=COMPLETION
                ),
            ),
            value="calls completed",
            roads=TRAP,
            statuses=("INVALID", "CONTINUE"),
        ),
        Call(
            6,
            "ring",
            "Gives the calling vCPU its call ring; with no record, takes it out of use.",
            (Buffer("setup", "Where the ring is.", "read", RINGS, align=8, entry=RING_SETUP),),
            roads=TRAP,
            feature="RING",
            statuses=("NOT_FOUND", "INVALID", "LIMIT", "UNALIGNED", "BAD_ADDRESS", "BAD_STATE", "NO_MEMORY"),
        ),
        Call(
            7,
            "renegotiate",
            "Forgets the features accepted of every service; each may be accepted anew. For a kernel that "
            "firmware or another kernel started.",
            roads=TRAP,
        ),
    ),
    FEATURE,
    optional=False,
)

RULES = (
    Rule("BASE-1", "base.version answers OK with the host's major version << 32 | its minor version."),
    Rule("BASE-2", "A feature that was not offered cannot be accepted: base.accept answers INVALID."),
    Rule("BASE-3", "Accepting a second, different set for a service answers BAD_STATE."),
    Rule("BASE-4", "base.services writes whole records only, in the order of service numbers."),
    Rule("BASE-5", "A service that is not offered is not listed, and base.accept answers NOT_FOUND for it."),
    Rule("BASE-6", "A host's own limit is at least the standard's for a size or count, at most for a time."),
    Rule(
        "BASE-7", "Function numbers are below 32, so that a service's calls fit the mask in service_info.", "standard"
    ),
    Rule("BASE-8", "After base.renegotiate no service has accepted features; calls under way are not touched."),
    Rule("BATCH-1", "Both counts of base.batch are equal, or it answers INVALID."),
    Rule("BATCH-2", "Entries are carried out in order; each has a completion, also when refused."),
    Rule("BATCH-3", "A submission with nonzero flags completes with INVALID."),
    Rule("BATCH-4", "The host copies a submission once, when its turn comes, and looks only at the copy."),
    Rule(
        "BATCH-5",
        "base.batch answers CONTINUE between two entries once BATCH_NS have passed, or when the host wants the "
        "vCPU; at least one entry was completed, and the guest calls again with the rest.",
        "both",
    ),
)
