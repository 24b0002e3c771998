"""Boot: the state a guest is entered in, and the boot information it is handed (type-length-value)."""

from .schema import GPA, U16, U32, U64, Constants, Record, Rule, opaque, text

BOOT_RECORD = Constants(
    "boot_record",
    "Types of boot records.",
    ("END", 0, "Last record; no payload."),
    ("ABI", 1, "boot_abi."),
    ("MEMORY_MAP", 2, "Array of boot_memory."),
    ("VCPUS", 3, "boot_vcpus."),
    ("PAGES", 4, "boot_pages."),
    ("COMMAND_LINE", 5, "Text, with a final NUL."),
    ("MACHINE", 6, "boot_machine."),
    ("SEED", 7, "Random bytes."),
    ("TABLES", 8, "boot_tables: what the host built for a guest without privilege."),
    ("VENDOR", 0x8000, "First of the types for vendors."),
)

BOOT_FLAG = Constants(
    "boot_flag",
    "Flags of a boot record.",
    ("MANDATORY", 0, "A guest that does not know the type must not run on."),
    bits=True,
)

MEMORY_KIND = Constants(
    "memory_kind",
    "Kinds of memory.",
    ("RAM", 1, "The guest's to use."),
    ("IMAGE", 2, "Holds the guest's image."),
    ("HOST", 3, "Holds tables and pages shared with the host; not to be reused."),
)

BOOT_INFO = Record(
    "boot_info",
    "Head of the boot information; records follow, each 8-byte aligned. Written by the host.",
    "magic" / U64 * "BOOT_MAGIC.",
    "size_bytes" / U32 * "Of everything, this head included.",
    "records" / U32 * "Number of records, END included.",
)

BOOT_MAGIC = Constants("boot", "Numbers of the boot information.", ("MAGIC", 0x0056_4152_4150_0001, "First word."))

BOOT_HEADER = Record(
    "boot_header",
    "Head of a record; the payload follows, padded with zeros to 8 bytes.",
    "type" / U16 * "Constants `boot_record`.",
    "flags" / U16 * "Constants `boot_flag`.",
    "size_bytes" / U32 * "Of the payload, without padding.",
)

BOOT_ABI = Record(
    "boot_abi",
    "Version, trap and doorbell.",
    "major" / U16 * "Major version.",
    "minor" / U16 * "Minor version.",
    "trap_kind" / U32 * "Constants `trap_kind`.",
    "trap" / U64 * "Port or address of the trap.",
    "doorbell" / U64 * "Port (trap kinds PORT, VMCALL, VMMCALL) or address (the others) of the doorbell: DEV-8.",
    "privilege" / U32 * "Level the guest runs at (constants `privilege`).",
    "vcpu" / U32 * "Index of the vCPU that reads this first: 0.",
    grows=True,
)

BOOT_MEMORY = Record(
    "boot_memory",
    "One range of the memory map.",
    "gpa" / GPA * "First byte.",
    "size_bytes" / U64 * "Length.",
    "kind" / U32 * "Constants `memory_kind`.",
    "flags" / U32 * "Zero.",
)

BOOT_VCPUS = Record(
    "boot_vcpus", "vCPUs.", "count" / U32 * "vCPUs of the machine.", "flags" / U32 * "Zero.", grows=True
)

BOOT_PAGES = Record(
    "boot_pages",
    "Pages shared for good.",
    "time_gpa" / GPA * "time_page.",
    "vcpu_gpa" / GPA * "vcpu_page of vCPU 0.",
    "vcpu_stride_bytes" / U64 * "Distance to the next vCPU's.",
    "continuity_gpa" / GPA * "continuity_page, or zero.",
    grows=True,
)

BOOT_MACHINE = Record(
    "boot_machine",
    "Identity of the machine.",
    "uuid" / opaque(16) * "RFC 4122, big-endian.",
    "name" / text(48) * "Name given by the user.",
    grows=True,
)

BOOT_TABLES = Record(
    "boot_tables",
    "x86-64: tables that a guest at CPL 3 cannot load for itself.",
    "idt_gpa" / GPA * "Interrupt descriptor table, 256 gates, the guest's to fill; shared by all vCPUs.",
    "code_selector" / U16 * "Selector for the guest's gates.",
    "data_selector" / U16 * "Stack selector.",
    "idt_bytes" / U32 * "Size of the table.",
    grows=True,
)

RULES = (
    Rule(
        "BOOT-1",
        "RDI holds the address of the boot information, a multiple of 8; other general registers are zero; interrupts "
        "are on, and the direction flag is clear.",
    ),
    Rule(
        "BOOT-2",
        "The guest is entered in 64-bit mode; memory and device windows are mapped one to one, page zero not at all.",
    ),
    Rule(
        "BOOT-3",
        "An unknown record without MANDATORY is skipped; with it the guest shuts down with BOOT_REFUSED.",
        "guest",
    ),
    Rule("BOOT-4", "Segments are mapped readable, writable and executable as their program headers say."),
    Rule(
        "BOOT-5",
        "The guest gives gates in the IDT the code_selector of boot_tables, no interrupt stack (IST 0), and the type "
        "of a trap gate, so that interrupts stay on.",
        "guest",
    ),
    Rule(
        "BOOT-6",
        "Code that upcalls may interrupt is built without a red zone: an upcall pushes on the running stack.",
        "guest",
    ),
    Rule(
        "BOOT-7",
        "A record may be longer than this version declares; the guest reads the part that it knows. The entries of "
        "an array keep their size.",
        "guest",
    ),
    Rule(
        "BOOT-8",
        "There is one record each of ABI, MEMORY_MAP, VCPUS and PAGES, for a guest with notes TABLES too and for no "
        "other, and END is last; the rest may be missing.",
    ),
    Rule(
        "BOOT-9",
        "The boot information and the pages that it names stay where they are until the machine ends, in memory of "
        "kind HOST; the host does not change the boot information.",
    ),
    Rule(
        "BOOT-10",
        "The units x87 and SSE can be used and are as after a reset of the CPU (FCW 0x37f, MXCSR 0x1f80). "
        "Without a CPU note of V3 or above XSAVE is off; with V3 XCR0 enables AVX, with V4 AVX512 too.",
    ),
    Rule(
        "BOOT-11",
        "Each vCPU's local APIC is switched on, and its page at 0xfee00000 is mapped among the device windows; other "
        "sources of interrupts are masked.",
    ),
    Rule(
        "BOOT-12",
        "Ranges of the memory map are whole pages, in order, and do not overlap; page zero is in none. RAM is mapped "
        "writable and reads as zero at first.",
    ),
    Rule(
        "BOOT-13",
        "The guest is entered on vCPU 0, at the image's entry point, with flat segments of base zero; RDTSC and the "
        "ports of trap and doorbell may be used at its privilege; the IDT is empty, upcalls are off, and the other "
        "vCPUs are STOPPED.",
    ),
    Rule(
        "BOOT-14",
        "The host refuses an image whose segments overlap, share a page with other flags, or do not lie in RAM above "
        "page zero and below the host's area, and one whose entry point is not in an executable segment.",
    ),
    Rule("BOOT-15", "What a segment has beyond its bytes in the file is zero."),
    Rule(
        "BOOT-16",
        "Each record of the boot information is a head, a payload and zeros up to the next multiple of 8, and lies "
        "wholly inside the size that the information's head gives.",
    ),
    Rule(
        "BOOT-17",
        "The host refuses an image with notes that is not a static ELF file of 64 bits for x86-64 (ET_EXEC), or has a "
        "segment whose virtual address is not its physical one.",
    ),
    Rule(
        "BOOT-18",
        "Outside of segments no memory is executable. The pages that the host alone writes (boot information, time, "
        "continuity) are mapped read-only, those of vCPUs and the IDT writable, the host's page tables not at all.",
    ),
)
