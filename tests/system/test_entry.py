"""The state a guest is entered in, seen by guests that do nothing before they look, and what is no call."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from paravirt import Machine, MachineConfig
from paravirt.boot.cpu import host_cpu_level
from tests.support.elf import Note, cpu, privilege, require
from tests.support.guests import DATA_GPA, SHUTDOWN, TRAP_PORT, call, say, shutdown, write_guest

pytestmark = [pytest.mark.kvm]

# in the order of their numbers in an instruction
NAMES = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
RESULT_BYTES = 256
PAGE_BYTES = 4096
IO_APIC_GPA = 0xFEC0_0000


def at(gpa: int) -> bytes:
    """The end of an instruction whose operand is memory at `gpa`."""
    return b"\x25" + struct.pack("<I", gpa)


def store(register: int, gpa: int) -> bytes:
    """mov register, (gpa)."""
    return bytes([0x48 | register >> 3 << 2, 0x89, 0x04 | (register & 7) << 3]) + at(gpa)


STORE_ALL = b"".join(store(n, DATA_GPA + 8 * n) for n in range(16))
STACK = b"\x48\xbc" + struct.pack("<Q", DATA_GPA + 2048)  # mov rsp
STORE_FLAGS = STACK + b"\x9c\x58" + store(0, DATA_GPA + 128)  # pushfq; pop rax
STORE_FPU = b"\xd9\x3c" + at(DATA_GPA + 136) + b"\x0f\xae\x1c" + at(DATA_GPA + 140)  # fnstcw; stmxcsr


def run(path: Path, code: bytes, notes: list[Note] | None = None, more: bytes = b"") -> tuple[bytes, int]:
    """What the guest left at DATA_GPA, and how many calls it made; `more` lies in the pages behind."""
    heard = bytearray()
    text = say("x" * RESULT_BYTES)
    image = write_guest(path / "guest", code + text + shutdown(), bytes(PAGE_BYTES) + more, notes)
    with Machine(MachineConfig(image, console=heard.extend, timeout_s=20)) as machine:
        outcome = machine.run()
    assert (outcome.reason, outcome.status) == ("POWEROFF", 0)
    return bytes(heard), outcome.statistics.vcpus[0].calls


def test_registers_at_entry(tmp_path: Path) -> None:
    """BOOT-1, BOOT-10."""
    heard, _ = run(tmp_path, STORE_ALL + STORE_FLAGS + STORE_FPU)
    registers = dict(zip(NAMES, struct.unpack_from("<16Q", heard), strict=True))
    assert registers.pop("rdi") % 8 == 0
    assert set(registers.values()) == {0}
    flags, control_word, mxcsr = struct.unpack_from("<QHxxI", heard, 128)
    assert flags & 1 << 9, "interrupts are on"
    assert not flags & 1 << 10, "the direction flag is clear"
    assert (control_word, mxcsr) == (0x37F, 0x1F80)


# the level's own instruction (vpxor ymm1, vpxorq zmm1) and what of XCR0 it needs
VECTORS = {3: (b"\xc5\xf5\xef\xc9", 0b111), 4: (b"\x62\xf1\xf5\x48\xef\xc9", 0b1110_0111)}
XGETBV = b"\x31\xc9\x0f\x01\xd0"


@pytest.mark.only_kvm("the software vCPU is of level 2, which has no vectors of its own")
def test_vectors_of_the_level_asked_for(tmp_path: Path) -> None:
    """BOOT-10: a guest without privilege can use what its CPU note asks for, as far as this CPU goes."""
    for level in range(1, host_cpu_level() + 1):
        use, mask = VECTORS.get(level, (b"", 0))
        code = use + XGETBV + store(0, DATA_GPA) if use else STORE_ALL
        heard, _ = run(tmp_path, code, [require(), privilege(1), cpu(level)])
        assert struct.unpack_from("<I", heard)[0] & mask == mask, level


def test_only_the_traps_own_instruction_is_a_call(tmp_path: Path) -> None:
    """CALL-17: other widths and reads of the port end nothing, though the registers say system.shutdown."""
    registers = call(SHUTDOWN, 1, 99)[:-1]  # all but the `out`
    assert registers.endswith(b"\x66\xba" + struct.pack("<H", TRAP_PORT))
    code = registers + b"\xee" + b"\x66\xef" + b"\xed" + store(0, DATA_GPA)  # out dx, al; out dx, ax; in eax, dx
    heard, calls = run(tmp_path, code)
    assert struct.unpack_from("<Q", heard)[0] == 0xFFFF_FFFF
    assert calls == 2, "console.write and the shutdown at the end"


def page_tables(gpa: int) -> bytes:
    """For tables at `gpa`: the first 64 MiB and IO_APIC_GPA, each at its own address."""
    four, low, high = (gpa + n * PAGE_BYTES for n in (1, 2, 3))
    top = struct.pack("<Q", four | 7)
    gigabytes = struct.pack("<QQQQ", low | 7, 0, 0, high | 7)
    memory = struct.pack("<32Q", *(n << 21 | 0x87 for n in range(32)))
    device = bytes((IO_APIC_GPA >> 21 & 511) * 8) + struct.pack("<Q", IO_APIC_GPA | 0x87)
    return b"".join(table.ljust(PAGE_BYTES, b"\0") for table in (top, gigabytes, memory, device))


def test_where_nobody_is_reads_are_ones(tmp_path: Path) -> None:
    """There is no I/O APIC without virtio-mmio: its address is as any other that nobody has."""
    tables_gpa = DATA_GPA + PAGE_BYTES
    code = b"\xb8" + struct.pack("<I", tables_gpa) + b"\x0f\x22\xd8"  # to these tables
    code += b"\xbb" + struct.pack("<I", IO_APIC_GPA) + b"\xc7\x03\x05\x00\x00\x00\x8b\x03"  # a store, then a load
    heard, _ = run(tmp_path, code + store(0, DATA_GPA), [require(), privilege(2)], page_tables(tables_gpa))
    assert struct.unpack_from("<Q", heard)[0] == 0xFFFF_FFFF
