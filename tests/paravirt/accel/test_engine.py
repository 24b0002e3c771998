"""The parts of the software vCPU's process that need neither engine nor machine."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paravirt._native import ffi, lib
from paravirt.accel.engine import code, cpuid, records
from paravirt.accel.engine.apic import NMI, Apic
from paravirt.accel.engine.paging import CR0_PG, CR0_WP, FETCH, READ, WRITE, PageFault, walk
from paravirt.boot.tables import DATA, LARGE, NO_EXECUTE, PRESENT, USER, WRITABLE, PageTables

ROOT_GPA = 0x10_0000


def test_records_are_those_of_the_c_core() -> None:
    for record, name in ((records.EXIT, "exit"), (records.ENTRY, "entry"), (records.CONTROL, "control")):
        assert record.size == ffi.sizeof(f"struct pv_software_{name}")
    for name in ("TRAP", "DOORBELL", "READ", "WRITE", "TRIPLE_FAULT", "INTERNAL"):
        assert getattr(records, f"EXIT_{name}") == getattr(lib, f"PV_SOFTWARE_{name}", None), name
    for name in ("START", "RESUME", "RESUME_POISONED", "GO_ON"):
        assert getattr(records, f"ENTRY_{name}") == getattr(lib, f"PV_SOFTWARE_{name}"), name
    for name in ("KICK", "REST", "UPCALL", "GO", "MODE"):
        assert getattr(records, f"CONTROL_{name}") == getattr(lib, f"PV_SOFTWARE_{name}"), name
    exit_ = ffi.new("struct pv_software_exit *")
    ffi.buffer(exit_)[:] = records.EXIT.pack(*range(1, 16))
    assert (exit_.kind, exit_.place, exit_.rip, exit_.cr2, exit_.steal_ns, exit_.rax) == (1, 3, 5, 7, 8, 9)
    assert list(exit_.args) == list(range(10, 16))
    entry = records.ENTRY.pack(*range(1, 14))
    native = ffi.cast("struct pv_software_entry *", ffi.from_buffer(entry))
    assert (native.value, native.rax, native.rdx, native.poison[4], native.start.argument) == (3, 4, 5, 10, 13)


class Tables:
    """Page tables as the host makes them, read as the engine does."""

    def __init__(self, tables: PageTables) -> None:
        self.pages = dict(tables.build(ROOT_GPA))

    def word(self, gpa: int) -> int | None:
        page = self.pages.get(gpa & -4096)
        return None if page is None else int(struct.unpack_from("<Q", page, gpa & 4095)[0])

    def walk(self, address: int, access: int, user: bool = True, cr0: int = CR0_PG | CR0_WP) -> tuple[int, bool, bool]:
        return walk(self.word, cr0, ROOT_GPA, user, address, access)


@pytest.fixture
def tables() -> Tables:
    made = PageTables()
    made.map(0x20_0000, LARGE, DATA)
    made.map(0x40_0000, 4096, PRESENT | USER)  # code
    made.map(0x40_1000, 4096, PRESENT | WRITABLE)  # the system's
    return Tables(made)


def fault(tables: Tables, *args: int | bool) -> int | None:
    with pytest.raises(PageFault) as caught:
        tables.walk(*args)  # type: ignore[arg-type]
    return caught.value.code


def test_walks(tables: Tables) -> None:
    assert tables.walk(0x3F_FFFF, WRITE) == (0x3F_F000, True, False)
    assert tables.walk(0x40_0123, FETCH) == (0x40_0000, False, True)
    assert tables.walk(0x40_1000, WRITE, user=False) == (0x40_1000, True, True)
    assert tables.walk(0x1234_5678, FETCH, cr0=0) == (0x1234_5000, True, True)
    assert tables.walk(0x40_0000, WRITE, user=False, cr0=CR0_PG)[0] == 0x40_0000


def test_page_faults_and_their_codes(tables: Tables) -> None:
    assert fault(tables, 0x60_0000, READ) == 4
    assert fault(tables, 0x60_0000, WRITE, False) == 2
    assert fault(tables, 0x40_0000, WRITE) == 7
    assert fault(tables, 0x40_1000, READ) == 5
    assert fault(tables, 0x20_0000, FETCH) == 0x15
    assert fault(tables, 1 << 47, READ) is None
    assert NO_EXECUTE


@given(st.binary(max_size=200), st.sampled_from([b"\xef", b"\x48\xef", b"\xf4", b"\xcf", b"\x48\xcf", b"\xf3\x90"]))
def test_instructions_are_found_wherever_they_are(before: bytes, instruction: bytes) -> None:
    page = (before + instruction).ljust(4096, b"\x90")
    assert len(before) in code.find(page)
    kind, length = code.decode(page[len(before) :][: code.LONGEST_BYTES])
    assert kind
    assert length == len(instruction)


def test_the_edge_of_a_page_is_always_looked_at() -> None:
    assert code.find(bytes(4096)) == {4094, 4095, 4096}


@pytest.mark.parametrize(
    ("instruction", "port", "width"),
    [
        ("ee", 0x1234, 1),
        ("66ef", 0x1234, 2),
        ("ed", 0x1234, 4),
        ("e560", 0x60, 4),
        ("e661", 0x61, 1),
        ("48ef", 0x1234, 4),
    ],
)
def test_ports(instruction: str, port: int, width: int) -> None:
    assert code.port_access(bytes.fromhex(instruction).ljust(4, b"\0"), 0x1234) == (port, width)


EOI_GPA = 0x1078


class Bits:
    """Guest memory, as far as bits 0 of its bytes go."""

    def __init__(self) -> None:
        self._set: dict[int, bool] = {}

    def put(self, gpa: int, value: bool) -> bool:
        """As ``Memory.put_bit``."""
        before, self._set[gpa] = self._set.get(gpa, False), value
        return before


def test_an_nmi_waits_for_the_end_of_the_one_before() -> None:
    apic = Apic(0, Bits().put)
    apic.request(NMI)
    assert apic.next(False) == NMI
    apic.take(NMI)
    apic.request(NMI)
    assert apic.next(True) is None
    apic.nmi_blocked = False
    assert apic.next(True) == NMI


def test_vectors_wait_for_higher_ones_and_for_if() -> None:
    apic = Apic(3, Bits().put)
    apic.request(0x40)
    apic.request(0x51)
    assert apic.next(False) is None
    assert apic.next(True) == 0x51
    apic.take(0x51)
    assert apic.next(True) is None
    apic.write(0xB0, 0)
    assert apic.next(True) == 0x40
    apic.write(0x80, 0x40)
    assert apic.next(True) is None
    assert apic.read(0x20) == 3 << 24


def served(bits: Bits, *vectors: int) -> Apic:
    """A vCPU's that takes interrupts and may end them in memory."""
    apic = Apic(0, bits.put)
    for vector in vectors:
        apic.request(vector, EOI_GPA)
        apic.take(vector)
    return apic


def test_an_interrupt_is_ended_in_memory() -> None:
    """EVT-13: the bit is there while guest code runs; cleared by the guest, it was the end, once."""
    bits = Bits()
    apic = served(bits, 0x40, 0x50)
    apic.enter()
    assert bits.put(EOI_GPA, False), "set, and now cleared by the guest"
    apic.leave()
    apic.request(0x45)
    assert apic.next(True) is None, "0x40 has not ended"
    apic.request(0x55)
    assert apic.next(True) == 0x55, "0x50 has"


def test_an_end_in_memory_is_taken_back() -> None:
    """EVT-13: what the guest did not end, or another interrupt waits for, is to be ended by the register."""
    bits = Bits()
    apic = served(bits, 0x40)
    apic.enter()
    apic.leave()
    assert not bits.put(EOI_GPA, False)
    apic.request(0x41, EOI_GPA)
    apic.enter()
    assert not bits.put(EOI_GPA, False)
    apic.leave()
    assert apic.next(True) is None
    apic.write(0xB0, 0)
    assert apic.next(True) == 0x41


def test_the_register_ends_what_may_be_ended_in_memory() -> None:
    bits = Bits()
    apic = served(bits, 0x40, 0x50)
    apic.enter()
    apic.write(0xB0, 0)
    assert not bits.put(EOI_GPA, False), "the bit goes with the interrupt"
    apic.leave()
    apic.request(0x45)
    assert apic.next(True) is None, "0x40 has not ended"


def test_nothing_is_ended_in_memory_that_was_not_asked_for() -> None:
    bits = Bits()
    apic = Apic(0, bits.put)
    apic.request(0x40)
    apic.take(0x40)
    apic.enter()
    assert not bits.put(EOI_GPA, False)


def test_cpuid_has_our_leaves() -> None:
    leaves = cpuid.table(2, 4, 0x4000_0100, ((1, 2, 3, 4), (5, 6, 7, 8)), 2_000_000)
    assert struct.pack("<III", *leaves[0x4000_0100][1:]) == b"ParavirtABI\0"
    assert leaves[0x4000_0100][0] == 0x4000_0102
    assert leaves[1][1] >> 24 == 2
    assert leaves[1][2] >> 31, "there is a hypervisor"
    assert leaves[0x4000_0010][0] == 2_000_000
