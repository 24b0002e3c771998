"""Service continuity: one notification for pause, restore, clone and migration."""

from ..schema import U32, U64, Arg, Call, Constants, Record, Rule, Service, opaque, pad

FEATURE = Constants(
    "continuity_feature",
    "Features of the service continuity.",
    ("NOTIFY", 0, "The host announces what it does to the machine."),
    bits=True,
)

CONTINUITY_EVENT = Constants(
    "continuity_event",
    "What happens or happened to the machine.",
    ("NONE", 0, "Nothing yet."),
    ("BEFORE_PAUSE", 1, "It will be stopped."),
    ("RESUMED", 2, "It was stopped and goes on."),
    ("RESTORED", 3, "It goes on from a saved state, perhaps not for the first time."),
    ("CLONED", 4, "A copy of it runs as well."),
    ("MIGRATED", 5, "It goes on elsewhere."),
)

CONTINUITY_PAGE = Record(
    "continuity_page",
    "One page per machine, written by the host.",
    "sequence" / U32 * "Odd while the host writes.",
    "event" / U32 * "Constants `continuity_event`.",
    "generation" / opaque(16) * "Generation id: 128 bits, new after each restore or clone.",
    "counter" / U64 * "Counts the events.",
    "clock_jump_ns" / U64 * "Wall-clock time that the machine missed.",
    "seed" / opaque(32) * "Fresh entropy, to be mixed in after the event.",
    pad(8),
    grows=True,
)

SERVICE = Service(
    9,
    "continuity",
    "Generation id, clock jump, entropy reseed and quiescence, in one protocol.",
    (
        Call(
            0,
            "subscribe",
            "Has events raise channel CONTINUITY of a vCPU.",
            (Arg("vcpu", "Index."),),
            statuses=("NOT_FOUND",),
            feature="NOTIFY",
        ),
        Call(
            1,
            "acknowledge",
            "Says that the guest is quiet (before) or has taken note (after).",
            (Arg("counter", "The event's counter."),),
            statuses=("INVALID",),
            feature="NOTIFY",
        ),
    ),
    FEATURE,
)

_FROM_OUTSIDE = "a machine is stopped, restored or copied from outside, which no guest can bring about"

RULES = (
    Rule(
        "CONT-1",
        "The generation id differs after every restore and clone; what else happens leaves it as it is.",
        no_case=_FROM_OUTSIDE,
    ),
    Rule(
        "CONT-2",
        "The continuity page is written and read under its sequence as TIME-5 and TIME-6 say of the time page.",
        "both",
        no_case=_FROM_OUTSIDE,
    ),
    Rule(
        "CONT-3",
        "The page shows an event before channel CONTINUITY is raised on the vCPU that subscribed last, and one of a "
        "time in which no vCPU ran before any runs again.",
        no_case=_FROM_OUTSIDE,
    ),
    Rule(
        "CONT-4",
        "An acknowledgement names the counter that the page shows; another one is answered with INVALID and is none.",
        "both",
    ),
    Rule(
        "CONT-5",
        "A guest that has subscribed is given time to acknowledge BEFORE_PAUSE; once it has, or the host's patience is "
        "over, it is stopped.",
        no_case=_FROM_OUTSIDE,
    ),
    Rule(
        "CONT-6",
        "By acknowledging BEFORE_PAUSE a guest says that it is quiet: a copy of the machine as it is then would be "
        "whole. By acknowledging another event it says that it has mixed the seed in and has looked at its clocks.",
        "guest",
    ),
    Rule(
        "CONT-7",
        "While the machine is paused its monotonic time stands still, deadlines and watchdog with it; clock_jump_ns "
        "says what its wall clock missed.",
        no_case=_FROM_OUTSIDE,
    ),
    Rule(
        "CONT-8",
        "A generator of random numbers looks at the page after it has drawn and before it gives anything out; if the "
        "generation id is another it mixes the seed in and draws anew.",
        "guest",
    ),
)
