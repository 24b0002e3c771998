"""Service vcpu: start, stop, yield, wait; what a guest without privilege cannot read of its own CPU."""

from ..schema import BATCH, TRAP, Arg, Call, Constants, Rule, Service

VCPU_STATE = Constants(
    "vcpu_state",
    "States of a vCPU.",
    ("STOPPED", 0, "Not started, or stopped."),
    ("RUNNING", 1, "Started."),
    ("BLOCKED", 2, "Waits in vcpu.block."),
)

YIELD = Constants(
    "yield", "Special arguments of vcpu.yield.", ("NOBODY", 0xFFFF_FFFF_FFFF_FFFF, "No vCPU is waited for.")
)

SERVICE = Service(
    5,
    "vcpu",
    "vCPU 0 runs from the start; the others are started by the guest, each in the mode of its starter.",
    (
        Call(
            0,
            "start",
            "Starts a stopped vCPU with RIP, RSP and RDI as given.",
            (
                Arg("vcpu", "Index."),
                Arg("entry_gpa", "First instruction, mapped one to one."),
                Arg("stack_gpa", "RSP."),
                Arg("argument", "RDI."),
            ),
            roads=TRAP | BATCH,
            statuses=("NOT_FOUND", "UNALIGNED", "BAD_ADDRESS", "BAD_STATE"),
        ),
        Call(
            1,
            "stop",
            "Stops the calling vCPU. The last one to stop shuts the machine down with status 0.",
            roads=TRAP,
            no_return=True,
        ),
        Call(
            2,
            "yield",
            "Gives the host's CPU away for a moment, unless the vCPU waited for does not run.",
            (Arg("vcpu", "Index of the vCPU waited for, such as a lock's holder, or NOBODY."),),
            value="its state, constants `vcpu_state`; zero for NOBODY",
            varies=("value",),
            roads=TRAP,
            statuses=("NOT_FOUND",),
        ),
        Call(
            3,
            "block",
            "Waits until upcall_pending is set or the deadline passes.",
            (Arg("deadline_ns", "Absolute monotonic time, or NEVER.", until=True),),
            roads=TRAP,
        ),
        Call(
            4,
            "state",
            "Asks for the state of a vCPU.",
            (Arg("vcpu", "Index."),),
            value="constants `vcpu_state`",
            varies=("value",),
            statuses=("NOT_FOUND",),
        ),
        Call(
            5,
            "fault_address",
            "The address of the calling vCPU's last page fault (CR2).",
            value="the address",
            varies=("value",),
            roads=TRAP | BATCH,
        ),
    ),
)

RULES = (
    Rule("VCPU-1", "vcpu.start of a vCPU that is not STOPPED answers BAD_STATE."),
    Rule(
        "VCPU-2",
        "entry_gpa lies in guest memory, and so do the 16 bytes below stack_gpa, which is 16-byte aligned.",
    ),
    Rule("VCPU-3", "vcpu.block returns at once if upcall_pending is set, whatever upcall_mask says."),
    Rule("VCPU-4", "vcpu.block may return early; the guest looks again.", "guest"),
    Rule(
        "VCPU-5",
        "A vCPU that is started again keeps its shared page, its upcall vector and its deadline; an interrupt that "
        "it had not ended stays in service, so it is ended before vcpu.stop.",
    ),
    Rule(
        "VCPU-6",
        "A vCPU is started in the mode of the vCPU that starts it: its privilege, control registers, segments and "
        "descriptor tables; its general registers but RSP and RDI are zero, its flags as at boot. Other registers "
        "are its own: as after a reset of the CPU, or as it left them.",
    ),
    Rule("VCPU-7", "The deadline of vcpu.block raises no channel and leaves the vCPU's own deadline as it is."),
    Rule(
        "VCPU-8",
        "When the last vCPU that runs stops, the machine ends as by system.shutdown with reason POWEROFF and status 0.",
    ),
    Rule(
        "VCPU-9",
        "vcpu.yield answers the state of the vCPU waited for, and returns at once if that is not RUNNING: time alone "
        "does not help the guest then.",
    ),
    Rule(
        "VCPU-10",
        "On x86-64 a vCPU's index is the id of its local APIC.",
    ),
)
