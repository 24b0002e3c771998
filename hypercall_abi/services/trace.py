"""Service trace: the guest's marks on the host's timeline."""

from ..schema import Arg, Buffer, Call, Limit, Rule, Service

TRACE_NAME_BYTES = Limit(15, "TRACE_NAME_BYTES", 64, "bytes", "Name of a mark or span.")

_NAME = Buffer("name", "Its name, UTF-8.", "read", TRACE_NAME_BYTES)

SERVICE = Service(
    11,
    "trace",
    "Marks and spans. Where nobody traces they cost a call and leave nothing.",
    (
        Call(0, "mark", "A moment with a value.", (_NAME, Arg("value", "Shown with it.")), statuses=("QUOTA",)),
        Call(1, "begin", "Begins a span on this vCPU's track.", (_NAME,), statuses=("QUOTA",)),
        Call(2, "end", "Ends the span begun last.", statuses=("QUOTA",)),
    ),
)

RULES = (
    Rule(
        "TRC-1",
        "Marks and ends of spans beyond the machine's budget are refused with QUOTA, whether anybody traces or not; "
        "the machine runs on.",
    ),
    Rule("TRC-2", "A name that is not good text is shown as well as can be, and trace.end without a span answers OK."),
)
