"""Service time: a page that tells the time without a call, and one deadline per vCPU."""

from ..schema import U32, U64, Arg, Call, Constants, Record, Rule, Service, pad

TIME_FLAG = Constants(
    "time_flag",
    "Flags of the time page.",
    ("COUNTER", 0, "The CPU's counter may be used; otherwise the page's own times are all there is."),
    bits=True,
)

TIME_PAGE = Record(
    "time_page",
    "One page per machine, written by the host. A reader takes `sequence`, waits while it is odd, "
    "reads, and starts again if `sequence` changed. With c the CPU's counter, monotonic time is "
    "base_ns + ((c - base_counter) * multiplier >> shift), the product in 128 bits.",
    "sequence" / U32 * "Odd while the host writes.",
    "flags" / U32 * "Constants `time_flag`.",
    "base_counter" / U64 * "The counter at the moment of base_ns.",
    "base_ns" / U64 * "Monotonic time at base_counter: ns since the machine first ran.",
    "multiplier" / U32 * "See above.",
    "shift" / U32 * "At most 63.",
    "wall_offset_ns" / U64 * "Wall clock (ns since 1970, UTC) minus monotonic time.",
    "generation" / U32 * "Changes when time jumped: the machine was stopped, copied or moved.",
    pad(4),
    grows=True,
)

DEADLINE = Constants("deadline", "Special deadlines.", ("NEVER", 0xFFFF_FFFF_FFFF_FFFF, "No deadline: disarms."))

SERVICE = Service(
    4,
    "time",
    "Time is read from the time page. A deadline raises channel DEADLINE of its vCPU.",
    (
        Call(
            0,
            "deadline",
            "Arms the calling vCPU's deadline, or with NEVER disarms it.",
            (Arg("deadline_ns", "Absolute monotonic time; one that has passed is due at once."),),
        ),
    ),
)

RULES = (
    Rule("TIME-1", "Monotonic time never goes back, on one vCPU or between vCPUs that order their reads.", "both"),
    Rule("TIME-2", "A deadline is never early; it raises DEADLINE once and is then disarmed."),
    Rule("TIME-3", "Arming a deadline replaces the one before."),
    Rule(
        "TIME-4",
        "A counter below base_counter counts as base_counter: another CPU's may be a little behind.",
        "both",
        no_case="which CPU of the host runs a vCPU, and whether its counter is behind, no guest can bring about",
    ),
    Rule(
        "TIME-5", "The sequence of the time page is odd while the host writes it, and another even number afterwards."
    ),
    Rule(
        "TIME-6",
        "A guest reads the time page between two reads of its sequence that order theirs around them, and again if "
        "the first was odd or the second is another; on x86-64 the counter is RDTSC with an LFENCE before and after.",
        "guest",
    ),
    Rule(
        "TIME-7",
        "When time jumps all the same, generation changes with it.",
        no_case="time jumps when a machine is stopped, copied or moved, which no guest can bring about",
    ),
)
