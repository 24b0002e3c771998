"""Call rings, the road without exits: a ring of submissions and one of completions that belong to one vCPU.

A submission and its completion have the same index, so there is one size and one rule for room (RING-7);
the host never waits for the guest.  ``base.ring`` is in ``services/base.py``.
"""

from .schema import GPA, U32, Constants, Limit, Record, Rule, pad

ENTRIES = Limit(18, "RING_ENTRIES", 256, "entries", "Entries of a call ring.")
RINGS = Limit(19, "RINGS", 1, "rings", "Call rings of a vCPU.")
NS = Limit(
    20, "RING_NS", 1_000_000, "ns", "Host time after which a visit to a call ring ends if another has submissions."
)

RING = Constants(
    "ring",
    "Numbers of call rings.",
    ("DOORBELL", 0xFFFF, "Bits 31:16 of a doorbell for a call ring; bits 15:0 are the index of its vCPU."),
    ("NO_CHANNEL", 0xFFFF_FFFF, "Channel of a ring that raises no event."),
)

RING_STATE = Constants(
    "ring_state",
    "States of a call ring.",
    ("OFF", 0, "Out of use: the host does not touch it."),
    ("ON", 1, "The host carries out what is submitted."),
    ("FAULT", 2, "The guest broke RING-7: the host does not touch it until it is set up anew."),
)

RING_SETUP = Record(
    "ring_setup",
    "Where a call ring is. Written by the guest, for base.ring.",
    "submissions_gpa" / GPA * "`entries` submission records, aligned to 64.",
    "completions_gpa" / GPA * "`entries` completion records, aligned to 32.",
    "control_gpa" / GPA * "A ring_control record, aligned to 64.",
    "entries" / U32 * "A power of two, at most RING_ENTRIES.",
    "channel" / U32 * "Channel of this vCPU that says that completions are there, or NO_CHANNEL.",
    "flags" / U32 * "Zero.",
    pad(4),
)

RING_CONTROL = Record(
    "ring_control",
    "Indexes and wishes of a call ring, each of its writers in lines of its own. Words marked (g) are written by "
    "the guest, (h) by the host. Nobody looks at the padding.",
    "submission_tail" / U32 * "(g) Index after that of the last submission.",
    pad(60),
    "completion_tail" / U32 * "(h) Index after that of the last completion.",
    pad(60),
    "doorbell_wanted" / U32 * "(h) Nonzero: the host sleeps, and a new submission_tail wants a doorbell.",
    "state" / U32 * "(h) State of the ring (constants `ring_state`).",
    pad(56),
    "completion_event" / U32 * "(g) Index of the completion that is to raise the channel.",
    pad(60),
)

RULES = (
    Rule(
        "RING-1",
        "base.ring with one ring_setup record gives the calling vCPU its call ring, and answers BAD_STATE if it has "
        "one, also one at fault; with none it takes the ring out of use, and answers OK if there is none.",
    ),
    Rule(
        "RING-2",
        "A channel from CHANNELS on other than NO_CHANNEL answers NOT_FOUND, entries that are no power of two INVALID, "
        "more than RING_ENTRIES LIMIT; an area is aligned as its field says, or the call answers UNALIGNED, and wholly "
        "inside one range of guest memory, or it answers BAD_ADDRESS.",
    ),
    Rule(
        "RING-3",
        "Indexes count from zero at the set-up and wrap at 2^32; index n is entry n modulo entries. Before base.ring "
        "answers, completion_tail is zero and state is ON.",
        "both",
    ),
    Rule(
        "RING-4",
        "The guest writes submissions before the submission_tail that counts them; the host writes what a call does, "
        "and its completion, before the completion_tail that counts it. Who reads an index reads it before what it "
        "counts. A submission may be overwritten once its completion is counted.",
        "both",
    ),
    Rule(
        "RING-5",
        "The host carries out the submissions of a ring one after the other in the order of their indexes, as calls of "
        "the ring's vCPU; the completion of submission n has index n. What the vCPU does otherwise, also its calls "
        "over other roads, goes on meanwhile in no order to them.",
    ),
    Rule("RING-6", "BATCH-3 and BATCH-4 hold for the submissions of a ring too."),
    Rule(
        "RING-7",
        "Submissions whose completions the guest has not taken are at most `entries`: submission_tail is never more "
        "than that ahead of completion_tail, so that neither a submission nor a completion is overwritten in use.",
        "guest",
    ),
    Rule(
        "RING-8",
        "A host that finds submission_tail more than `entries` ahead of completion_tail carries nothing further out, "
        "sets state to FAULT, raises the ring's channel whatever completion_event says, and touches the ring no more; "
        "only taking it out of use and setting it up anew ends this.",
    ),
    Rule(
        "RING-9",
        "While doorbell_wanted is zero the host looks at submission_tail of its own accord. Before it stops it sets "
        "doorbell_wanted, then, after a full barrier, looks once more. The guest sets submission_tail, then, after a "
        "full barrier, reads doorbell_wanted, and rings the doorbell if it is not zero.",
        "both",
    ),
    Rule(
        "RING-10",
        "The host sets completion_tail, then, after a full barrier, reads completion_event, and raises the ring's "
        "channel if that index is among those completed since it last read it. A guest that will wait sets "
        "completion_event, then, after a full barrier, looks at completion_tail.",
        "both",
    ),
    Rule("RING-11", "A ring with NO_CHANNEL raises no event, and one that nobody wants is not an error.", "both"),
    Rule(
        "RING-12",
        "A ring goes out of use by base.ring with no record, by vcpu.stop of its vCPU, by base.renegotiate and with "
        "the machine: a call under way is finished and completed, what was not begun is dropped, state becomes OFF "
        "unless it is FAULT, and before that call answers the host has read and written the ring for the last time.",
    ),
    Rule(
        "RING-13",
        "Rings with submissions are visited in turn; while another has some, a visit begins no further call once "
        "RING_NS have passed.",
    ),
    Rule(
        "RING-14",
        "A doorbell of DOORBELL << 16 | vCPU for a ring that is not in use is ignored, and one that was not wanted "
        "does nothing.",
    ),
    Rule(
        "RING-15",
        "A call over a ring answers, and leaves behind, what it would over every other road that it declares, from "
        "the same state.",
    ),
)
