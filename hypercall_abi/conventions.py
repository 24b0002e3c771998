"""What holds for every call: statuses, roads, the encoding of a call in memory, traps, the order of checks."""

from __future__ import annotations

from .schema import ALL_ROADS as ALL_ROADS
from .schema import I64, U32, U64, Constants, Limit, Record, Rule, pad

ABI = Constants(
    "abi",
    "The version of the ABI: the major number must match, a minor one only adds.",
    ("MAJOR", 1, "Major version."),
    ("MINOR", 0, "Minor version."),
)

STATUS = Constants(
    "status",
    "The result of a call. Negative: nothing was done. A guest takes an unknown negative status for FAILED.",
    ("CONTINUE", 1, "A part was done; the value says how much. Call again for the rest."),
    ("OK", 0, "Done."),
    ("FAILED", -1, "The host could not do it, for a reason of its own."),
    ("NOT_SUPPORTED", -2, "No such call here: unknown, switched off, or its feature was not accepted."),
    ("INVALID", -3, "An argument has a value that the call does not define."),
    ("BAD_ADDRESS", -4, "A guest-physical range is not wholly inside one range of guest memory."),
    ("UNALIGNED", -5, "An address is not aligned as the call requires."),
    ("LIMIT", -6, "A size or count is above the call's stated limit."),
    ("WRONG_ROAD", -7, "The call cannot be made over this road."),
    ("BAD_STATE", -8, "Right call, wrong time: the object is not in a state that allows it."),
    ("NOT_FOUND", -9, "The vCPU, device, queue or channel named does not exist."),
    ("QUOTA", -10, "A budget of this machine is used up; nothing was done."),
    ("IO", -11, "The host's input or output failed."),
    ("NO_MEMORY", -12, "The host lacks the memory."),
)

ROAD = Constants(
    "road",
    "The ways by which a call can reach the host.",
    ("TRAP", 0, "Registers and a trap instruction."),
    ("BATCH", 1, "An array in memory, handed over by the call base.batch."),
    ("RING", 2, "A shared-memory ring that belongs to one vCPU."),
    bits=True,
)

TRAP_KIND = Constants(
    "trap_kind",
    "The instruction that enters the host, each with its own register binding.",
    ("PORT", 1, "x86-64: `out %eax, %dx` with the port from discovery in DX."),
    ("MMIO", 2, "A 32-bit store to an address from discovery."),
    ("VMCALL", 3, "x86-64: `vmcall`."),
    ("VMMCALL", 4, "x86-64: `vmmcall`."),
    ("HVC", 5, "aarch64: `hvc` within SMCCC."),
    ("ECALL", 6, "RISC-V: `ecall`."),
)

SUBMISSION = Record(
    "submission",
    "One call in memory, for the batch and the ring road; 64 bytes. Written by the guest.",
    "call" / U32 * "Call id: service << 16 | function.",
    "flags" / U32 * "Zero.",
    "args" / U64[6] * "Arguments in order; those that the call does not have are zero.",
    "cookie" / U64 * "Given back in the completion; the host does not look at it.",
)

COMPLETION = Record(
    "completion",
    "The result of one call in memory; 32 bytes. Written by the host.",
    "cookie" / U64 * "The submission's.",
    "status" / I64 * "Status of the call.",
    "value" / U64 * "Value of the call; undefined when the status is negative.",
    pad(8),
)

ARGUMENTS = Limit("ARGUMENTS", 6, "arguments", "Arguments of a call.")
VCPUS = Limit("VCPUS", 64, "vCPUs", "vCPUs of a machine.")

RULES = (
    Rule("CALL-1", "A call id that names no call of an offered service answers NOT_SUPPORTED."),
    Rule("CALL-2", "A call that the host has switched off for this guest answers exactly as CALL-1 says."),
    Rule("CALL-3", "A call whose feature was not accepted answers exactly as CALL-1 says."),
    Rule("CALL-4", "A call over a road that it does not declare answers WRONG_ROAD."),
    Rule("CALL-5", "An argument beyond those that the call declares is zero, or the call answers INVALID."),
    Rule(
        "CALL-6",
        "The host checks in this order and answers with the first failure: existence, road, "
        "undeclared arguments, then each declared argument in order (for a buffer: length against "
        "its limit, alignment, range), then what the call itself requires.",
    ),
    Rule("CALL-7", "A buffer of length zero is valid at any aligned address and nothing of it is touched."),
    Rule("CALL-8", "RAX bits 63:32 are zero at the trap, or the call answers NOT_SUPPORTED."),
    Rule(
        "CALL-9",
        "After a trap RCX, R8 to R11 are undefined; RBX, RBP, RSP, RSI, RDI and R12 to R15 are preserved.",
    ),
    Rule("CALL-10", "When the status is negative the value is undefined and nothing was done."),
    Rule("CALL-11", "Output memory beyond the returned length, up to the length offered, is undefined."),
    Rule("CALL-12", "No call ends the host; a call ends the guest only where its description says so."),
    Rule("ERR-1", "A guest treats a negative status that it does not know as FAILED."),
)
