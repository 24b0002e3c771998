"""Service event: channels in a page per vCPU, and one upcall that says some of them are pending."""

from ..schema import BATCH, TRAP, U32, U64, Arg, Call, Constants, Limit, Record, Rule, Service, pad

CHANNELS = Limit(7, "CHANNELS", 256, "channels", "Event channels of a vCPU; its page has room for no more.")

CHANNEL = Constants(
    "channel",
    "Channels with a fixed meaning; those from FIRST_FREE on are the guest's to use, those between are reserved.",
    ("DEADLINE", 0, "The vCPU's deadline has passed."),
    ("CONSOLE", 1, "Console input is waiting."),
    ("DEVICE", 2, "A device arrived or left."),
    ("CONTINUITY", 3, "The continuity page changed."),
    ("BALLOON", 4, "memory.target answers something else."),
    ("FIRST_FREE", 16, "First channel for the guest."),
)

UPCALL = Constants(
    "upcall",
    "Vectors of event.upcall with a fixed meaning; 32 to 255 are interrupts that want an end-of-interrupt.",
    ("OFF", 0, "No upcall: the guest looks for itself, or blocks."),
    ("NMI", 2, "A non-maskable interrupt, which wants no end-of-interrupt."),
)

FEATURE = Constants(
    "event_feature",
    "Features of the service event.",
    ("DOORBELL", 0, "A doorbell that sends upcalls: vCPUs raise each other's channels in memory, without a call."),
    ("EOI", 1, "An end-of-interrupt in memory, without a store to the local APIC."),
    bits=True,
)

EVENT = Constants(
    "event",
    "Numbers of events.",
    ("DOORBELL", 0xFFFE, "Bits 31:16 of a doorbell that sends a vCPU its upcall; bits 15:0 are the vCPU's index."),
)

VCPU_PAGE = Record(
    "vcpu_page",
    "One page per vCPU, shared for good. Words marked (g) are written by the guest, (h) by the host, "
    "(b) by both with atomic operations.",
    "upcall_pending" / U32 * "(b) 1: some unmasked channel became pending. Set by the host, cleared by the guest.",
    "upcall_mask" / U32 * "(g) Nonzero: no upcall is sent.",
    "pending" / U64[4] * "(b) A bit per channel: set by the host, cleared by the guest.",
    "mask" / U64[4] * "(g) A bit per channel: set, it does not cause an upcall.",
    "deadline_ns" / U64 * "(h) The armed deadline, or all ones.",
    "steal_ns" / U64 * "(h) Time that the vCPU wanted to run and did not.",
    "calls" / U64 * "(h) Calls made by this vCPU over all roads.",
    "exits" / U64 * "(h) Times that this vCPU left for the host's user space.",
    "upcalls" / U64 * "(h) Upcalls sent to this vCPU, but by a doorbell.",
    "state" / U32 * "(h) State of the vCPU (constants `vcpu_state`).",
    "index" / U32 * "(h) Index of the vCPU.",
    "eoi" / U32 * "(b) Bit 0: clearing it ends the interrupt. Set by the host, cleared by both (EVT-13, EVT-14).",
    pad(4),
    grows=True,
)

SERVICE = Service(
    3,
    "event",
    "Event delivery without lost wake-ups: pending bits first, then at most one upcall.",
    (
        Call(
            0,
            "send",
            "Makes a channel of a vCPU pending.",
            (Arg("vcpu", "Index of the vCPU."), Arg("channel", "Channel.")),
            statuses=("NOT_FOUND",),
        ),
        Call(
            1,
            "upcall",
            "Chooses how the calling vCPU is told of pending channels; OFF at start.",
            (Arg("vector", "OFF, NMI, or an interrupt vector from 32 to 255."),),
            roads=TRAP | BATCH,
            statuses=("INVALID",),
        ),
    ),
    FEATURE,
)

RULES = (
    Rule(
        "EVT-1",
        "To raise a channel the host sets its pending bit; if the channel's mask bit is clear it sets "
        "upcall_pending, and if that was clear and upcall_mask is zero it sends the upcall.",
    ),
    Rule("EVT-2", "A blocked vCPU whose upcall_pending becomes set is woken, whatever upcall_mask says."),
    Rule(
        "EVT-3",
        "The guest clears upcall_pending before it reads the pending words; after it clears "
        "upcall_mask it looks at upcall_pending again. A full barrier stands between the two steps, "
        "on the guest's side and, between setting a word and reading its mask, on the host's.",
        "both",
    ),
    Rule("EVT-4", "An upcall may find nothing pending; the guest returns from it.", "guest"),
    Rule("EVT-5", "Masking keeps a pending bit; nothing is lost by it."),
    Rule("EVT-6", "Channel numbers from CHANNELS on, and vCPUs that do not exist, answer NOT_FOUND."),
    Rule(
        "EVT-7",
        "After the guest clears a channel's mask bit or chooses a vector by event.upcall, and when a vCPU is started, "
        "it looks at the pending bits itself: what was raised before need not send an upcall any more.",
        "guest",
    ),
    Rule("EVT-8", "A channel of a stopped vCPU can be raised; the vCPU finds it pending when it is started."),
    Rule(
        "EVT-9",
        "After an upcall by an interrupt vector the guest writes the end-of-interrupt to its local APIC; until then "
        "the host may hold further ones back, and delivers them afterwards. NMI wants none.",
        "both",
    ),
    Rule(
        "EVT-10",
        "Once the feature DOORBELL is accepted, a doorbell of DOORBELL << 16 | vCPU sends that vCPU its upcall, "
        "whatever its page says, and changes nothing there; one for a vCPU that has no vector or does not exist does "
        "nothing.",
    ),
    Rule(
        "EVT-11",
        "Before a vCPU waits in vcpu.block the host sets its `state` to BLOCKED, then, after a full barrier, looks at "
        "upcall_pending.",
    ),
    Rule(
        "EVT-12",
        "With DOORBELL accepted, a guest may raise a channel of a vCPU by itself. It sets the pending bit, and is done "
        "if the channel's mask bit is set. If `state` is not RUNNING it makes the call event.send. Else it sets "
        "upcall_pending, and is done if that was set; then, after a full barrier, it rings if upcall_mask is zero, and "
        "makes the call as well if `state` is not RUNNING any more.",
        "guest",
    ),
    Rule(
        "EVT-13",
        "A vCPU's `eoi` is zero unless it chose an interrupt vector by event.upcall while the feature EOI was "
        "accepted. Then bit 0 may be set by the host for an upcall that the vCPU has taken, and cleared again at any "
        "time; where the guest has cleared it, that upcall has been ended.",
    ),
    Rule(
        "EVT-14",
        "To end an upcall by `eoi` the guest tests and clears bit 0 by one instruction. Where it was set that is all; "
        "where it was clear the guest writes to its local APIC (EVT-9), which is always right.",
        "guest",
    ),
)
