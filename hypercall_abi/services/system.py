"""Service system: the ends of a machine, and the watchdog."""

from ..schema import TRAP, U32, U64, Arg, Buffer, Call, Constants, Record, Rule, Service, pad, text

SHUTDOWN = Constants(
    "shutdown",
    "Reasons for a shutdown.",
    ("POWEROFF", 0, "Wanted."),
    ("FAILURE", 1, "The guest gives up; the status says why."),
    ("BOOT_REFUSED", 2, "The guest cannot run here: a mandatory record, service or feature is not what it needs."),
)

FEATURE = Constants(
    "system_feature",
    "Features of the service system.",
    ("DEBUG", 0, "A debugger listens to system.debug."),
    bits=True,
)

CRASH_REPORT = Record(
    "crash_report",
    "What the guest says of its crash. Written by the guest.",
    "vcpu" / U32 * "Index of the vCPU.",
    "vector" / U32 * "Exception vector, or all ones for a panic of the program.",
    "error_code" / U64 * "Error code of the exception.",
    "fault_address" / U64 * "Address of a page fault.",
    "registers" / U64[16] * "RAX RBX RCX RDX RSI RDI RBP RSP R8 to R15.",
    "rip" / U64 * "Instruction pointer.",
    "rflags" / U64 * "Flags.",
    "text" / text(256) * "What happened, for people.",
)

DEBUG_FRAME = Record(
    "debug_frame",
    "What an exception for a debugger interrupted. Written by the guest.",
    "vector" / U32 * "1 (debug) or 3 (breakpoint).",
    pad(4),
    "registers" / U64[16] * "RAX RBX RCX RDX RSI RDI RBP RSP R8 to R15.",
    "rip" / U64 * "Instruction pointer: of a breakpoint, past its instruction.",
    "rflags" / U64 * "Flags.",
)

SERVICE = Service(
    8,
    "system",
    "These calls end the machine, except watchdog and debug.",
    (
        Call(
            0,
            "shutdown",
            "Ends the machine.",
            (Arg("reason", "Constants `shutdown`."), Arg("status", "0 is success; the host shows it.")),
            roads=TRAP,
            statuses=("INVALID",),
            no_return=True,
        ),
        Call(1, "reset", "Starts the machine again from its image.", roads=TRAP, no_return=True),
        Call(
            2,
            "crash",
            "Ends the machine and leaves a report.",
            (Buffer("report", "A crash_report record.", "read", align=8, entry=CRASH_REPORT, fixed=True),),
            roads=TRAP,
            no_return=True,
        ),
        Call(
            3,
            "watchdog",
            "Ends the machine unless called again in time; zero disarms.",
            (Arg("timeout_ns", "Time from now.", until=True),),
        ),
        Call(
            4,
            "debug",
            "Stops for a debugger.",
            (Buffer("frame", "A debug_frame record.", "read", align=8, entry=DEBUG_FRAME, fixed=True),),
            roads=TRAP,
            feature="DEBUG",
        ),
    ),
    FEATURE,
)

RULES = (
    Rule("SYS-1", "A shutdown reason that is not defined answers INVALID and the machine runs on."),
    Rule(
        "SYS-2",
        "Text of a crash report is cut at the first NUL and shown with control characters escaped.",
        no_case="where and how a report is shown is the host's own, and the guest that made it has ended",
    ),
    Rule(
        "SYS-3", "system.reset starts the machine again from its image, in memory that is new; devices keep their data."
    ),
    Rule("SYS-4", "A machine has one watchdog: system.watchdog replaces the time armed before, zero disarms it."),
    Rule("SYS-5", "Of several ends of a machine the first that is carried out counts."),
    Rule(
        "SYS-6",
        "A vCPU that cannot go on, as after an exception without a gate, ends the machine, and not with success.",
    ),
    Rule(
        "SYS-7",
        "With system.debug a guest hands over what an exception of vector 1 or 3 interrupted. The vCPU goes on there, "
        "with the registers that the debugger leaves it, and the call does not return; or, if no debugger wants that "
        "stop, the call answers OK and the guest returns from the exception.",
        "both",
        "a debugger that listens is no part of a machine that is judged",
    ),
)
