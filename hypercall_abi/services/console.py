"""Service console: text in and out from the first instruction on, with no set-up."""

from ..schema import Buffer, Call, Constants, Limit, Rule, Service

CONSOLE_BYTES = Limit(6, "CONSOLE_BYTES", 4096, "bytes", "One console write or read.")

FEATURE = Constants(
    "console_feature",
    "Features of the service console.",
    ("INPUT", 0, "Channel CONSOLE tells of input that waits."),
    bits=True,
)

SERVICE = Service(
    2,
    "console",
    "The early console. A machine's output is bounded by a budget of the host's.",
    (
        Call(
            0,
            "write",
            "Writes bytes to the console.",
            (Buffer("data", "The bytes.", "read", CONSOLE_BYTES),),
            value="bytes taken",
            statuses=("QUOTA",),
        ),
        Call(
            1,
            "read",
            "Takes waiting input; none waiting is OK with zero.",
            (Buffer("data", "Room for it.", "write", CONSOLE_BYTES),),
            value="bytes read",
            varies=("value", "output"),
        ),
    ),
    FEATURE,
)

RULES = (
    Rule("CON-1", "console.write takes all bytes or none."),
    Rule("CON-2", "Output beyond the machine's budget is refused with QUOTA; the machine runs on."),
    Rule("CON-3", "console.read never waits."),
    Rule(
        "CON-4",
        "After a console.read that took less than it had room for, channel CONSOLE of vCPU 0 is raised when input "
        "waits, if INPUT was accepted.",
        no_case="what waits for a machine is its user's to give, which no guest can bring about",
    ),
)
