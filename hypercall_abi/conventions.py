"""What holds for every call: statuses, roads, the encoding of a call in memory, traps, the order of checks."""

from __future__ import annotations

from .schema import ALL_ROADS as ALL_ROADS
from .schema import I64, U32, U64, Arg, Call, Constants, Limit, Record, Registers, Rule, pad

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

# What the host's circumstances and budgets lead to, not the call: asked again, it may answer otherwise.
CIRCUMSTANCES = ("FAILED", "QUOTA", "IO", "NO_MEMORY")

ROAD = Constants(
    "road",
    "The ways by which a call can reach the host.",
    ("TRAP", 0, "Registers and a trap instruction."),
    ("BATCH", 1, "An array in memory, handed over by the call base.batch."),
    ("RING", 2, "A call ring: shared memory that belongs to one vCPU."),
    bits=True,
)

SERVICE_RANGE = Constants(
    "service_range",
    "Numbers of services that are not the standard's own.",
    ("VENDOR", 0x8000, "First of the services of registered vendors."),
    ("EXPERIMENT", 0xC000, "First of the experiments, which are never released; up to 0xffff."),
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

_X86_ARGS = ("RDI", "RSI", "RCX", "R8", "R9", "R10")
_ARM_ARGS = ("X2", "X3", "X4", "X5", "X6", "X7")
_RISCV_ARGS = ("A0", "A1", "A2", "A3", "A4", "A5")
_X86_LOST = "RCX, R8 to R11"

REGISTERS = (
    Registers("PORT", "x86-64", "out %eax, %dx", "EAX, the port in DX", _X86_ARGS, "RAX", "RDX", _X86_LOST),
    Registers("MMIO", "x86-64", "mov %eax, (%rdx)", "EAX, the address in RDX", _X86_ARGS, "RAX", "RDX", _X86_LOST),
    Registers("VMCALL", "x86-64", "vmcall", "EAX", _X86_ARGS, "RAX", "RDX", _X86_LOST),
    Registers("VMMCALL", "x86-64", "vmmcall", "EAX", _X86_ARGS, "RAX", "RDX", _X86_LOST),
    Registers("HVC", "aarch64", "hvc #0", "W1, with X0 = 0xc6005056", _ARM_ARGS, "X0", "X1", "X2, X3"),
    Registers("MMIO", "aarch64", "str w1, [x0]", "W1, the address in X0", _ARM_ARGS, "X0", "X1", "X2, X3"),
    Registers("ECALL", "RISC-V", "ecall", "A6, with A7 = 0x08505641", _RISCV_ARGS, "A0", "A1", "none"),
    Registers("MMIO", "RISC-V", "sw a6, 0(a7)", "A6, the address in A7", _RISCV_ARGS, "A0", "A1", "none"),
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

ARGUMENTS = Limit(0, "ARGUMENTS", 6, "arguments", "Arguments of a call.")
VCPUS = Limit(1, "VCPUS", 64, "vCPUs", "vCPUs of a machine.")


def answers(call: Call) -> tuple[str, ...]:
    """The statuses that `call` may answer, by the checks common to all calls (CALL-6) and by its own."""
    names = {"FAILED", "NOT_SUPPORTED", *call.statuses}
    if not call.no_return:
        names.add("OK")
    if call.roads != ALL_ROADS:
        names.add("WRONG_ROAD")
    if len(call.registers) < ARGUMENTS.number:
        names.add("INVALID")
    for arg in call.args:
        if isinstance(arg, Arg):
            continue
        names.add("BAD_ADDRESS")
        if not arg.fixed:
            names.add("LIMIT")
        if arg.align > 1:
            names.add("UNALIGNED")
    return tuple(value.name for value in STATUS if value.name in names)


RULES = (
    Rule(
        "DATA-1",
        "Numbers in memory are little-endian, of fixed width and aligned to it; addresses are guest-physical, times in "
        "ns, sizes in bytes, unless the name says otherwise. Text is UTF-8 and its field is filled up with NULs; text "
        "as long as its field has none.",
        "standard",
    ),
    Rule(
        "DATA-2",
        "Padding, and bits and flags that are not defined, are zero in a record that the host writes; a guest does not "
        "look at them.",
        "both",
    ),
    Rule(
        "DATA-3",
        "A word of memory that both sides use for good is written by the side that its description names, and one that "
        "both write by atomic instructions alone; what a guest writes to a word of the host's changes nothing that the "
        "host does.",
        "both",
    ),
    Rule(
        "DATA-4",
        "What the host reads of guest memory and goes by, it reads once, and it checks what it has read.",
        no_case="a second look shows by chance; where a guest can see it, BATCH-4 and RING-6 have cases",
    ),
    Rule(
        "DATA-5",
        "Guest memory is what the memory map lists, of every kind; entries that follow one another without a gap are "
        "one range.",
    ),
    Rule("VER-1", "A minor version changes only what the table of changes calls compatible.", "standard"),
    Rule(
        "VER-2",
        "A guest leaves alone what it does not know: services, devices, limits, bits, and memory of a kind that "
        "is not among those declared.",
        "guest",
    ),
    Rule(
        "VER-3",
        "A guest that was not started through its notes compares the major version before its first call, and makes "
        "none to a host of another.",
        "guest",
    ),
    Rule("CALL-1", "A call id that names no call of an offered service answers NOT_SUPPORTED."),
    Rule("CALL-2", "A call that the host has switched off for this guest answers exactly as CALL-1 says."),
    Rule("CALL-3", "A call whose feature was not accepted answers exactly as CALL-1 says."),
    Rule("CALL-4", "A call over a road that it does not declare answers WRONG_ROAD."),
    Rule("CALL-5", "An argument beyond those that the call declares is zero, or the call answers INVALID.", "both"),
    Rule(
        "CALL-6",
        "The host checks in this order and answers with the first failure: existence, road, "
        "undeclared arguments, then each declared argument in order (for a buffer: length against "
        "its limit, alignment, range), then what the call itself requires, in the order NOT_FOUND, INVALID, "
        "LIMIT, UNALIGNED, BAD_ADDRESS, BAD_STATE, QUOTA; the records of a list one after the other.",
    ),
    Rule("CALL-7", "A buffer of length zero is valid at any aligned address and nothing of it is touched."),
    Rule(
        "CALL-8",
        "Of a register wider than the call id the other bits are zero at the trap (RAX bits 63:32), or the call "
        "answers NOT_SUPPORTED.",
    ),
    Rule(
        "CALL-9",
        "After a trap its registers for status and value hold these, those that the table calls undefined are so "
        "(by port: RCX and R8 to R11), and every other register, flags and vectors included, is preserved.",
    ),
    Rule("CALL-10", "When the status is negative the value is undefined and nothing was done."),
    Rule("CALL-11", "Output memory beyond the returned length, up to the length offered, is undefined."),
    Rule("CALL-12", "No call ends the host; a call ends the guest only where its description says so."),
    Rule(
        "CALL-13",
        "Every address by which the host reaches guest memory is guest-physical; no call takes a guest "
        "virtual address. A guest's program addresses in a crash report and from vcpu.fault_address are "
        "numbers for people and for the guest; the host follows none of them.",
    ),
    Rule(
        "CALL-14",
        "Padding and meaningless flags of a record that the guest writes are zero, or the call answers INVALID.",
        "both",
    ),
    Rule(
        "CALL-15",
        "A trap is a full memory barrier on its vCPU: the host sees what the guest wrote before it, and after it the "
        "guest sees what the host wrote. For a call over a ring RING-4 says what is seen.",
        "both",
    ),
    Rule(
        "CALL-16",
        "A guest closes the trap to its own programs by port permissions or page tables; a trap that it cannot close "
        "so (VMCALL, VMMCALL) answers NOT_SUPPORTED below the privilege at which the guest was entered.",
        "guest",
    ),
    Rule(
        "CALL-17",
        "An access to the trap's or the doorbell's port or address that is not its instruction (a read, another "
        "width) is neither: a write is lost, a read gives all ones.",
    ),
    Rule(
        "CALL-18",
        "A host of version 1.0 on x86-64 offers the trap kind PORT.",
        no_case="a guest that finds another kind has no way to make the calls that say so",
    ),
    Rule("ERR-1", "A guest treats a negative status that it does not know as FAILED.", "guest"),
    Rule("ERR-2", "No status of zero or above is added within a major version.", "standard"),
    Rule("ERR-3", "A call answers a status that its table lists, and no other."),
)
