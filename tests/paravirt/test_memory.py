"""Service memory, and how it answers when the host cannot (MEM-1 to MEM-6)."""

from __future__ import annotations

import fcntl
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercall_abi import LIMITS, STATUS
from hypercall_abi.services.memory import MEMORY_RANGE
from paravirt._native import ffi, lib
from paravirt.errors import HostMemory
from paravirt.memory import SHMEM_ENABLED, GuestMemory
from tests.support.fake_machine import RAM_GPA, FakeMachine

PAGE = 4096
LIST_GPA = RAM_GPA
DATA_GPA = 0x1000_0000
DATA_BYTES = 128 << 20
MOST = LIMITS["MEMORY_BYTES"].number
CALLS = ("memory.populate", "memory.discard")


class Ranges(FakeMachine):
    """A machine with 128 MiB more, `shared` with other processes (as ours is) or not."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.data = mmap.mmap(-1, DATA_BYTES, mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE))
        self._view = ffi.from_buffer(self.data)
        self.add(DATA_GPA, DATA_BYTES, self._view)

    def add(self, gpa: int, size_bytes: int, hva: object) -> None:
        assert lib.pv_memory_add(ffi.addressof(self.native, "memory"), gpa, size_bytes, hva) == 0

    def ask(self, name: str, *ranges: tuple[int, int]) -> tuple[int, int]:
        listed = b"".join(MEMORY_RANGE.build({"gpa": gpa, "size_bytes": size}) for gpa, size in ranges)
        self.write(LIST_GPA, listed)
        return self.call(name, LIST_GPA, len(ranges))

    def close(self) -> None:
        self.native.memory.count = 0
        ffi.release(self._view)
        self.data.close()


@pytest.fixture(params=[True, False], ids=["shared", "private"])
def machine(request: pytest.FixtureRequest) -> Iterator[Ranges]:
    ranges = Ranges(request.param)
    yield ranges
    ranges.close()


def test_discarded_memory_reads_as_zero(machine: Ranges) -> None:
    """MEM-3, MEM-4: also where two ranges overlap, and nothing beside them."""
    machine.data[: 5 * PAGE] = b"\x55" * 5 * PAGE
    ranges = (DATA_GPA + PAGE, 2 * PAGE), (DATA_GPA + 2 * PAGE, 2 * PAGE), (DATA_GPA, 0)
    assert machine.ask("memory.discard", *ranges) == (STATUS.OK, 3)
    assert machine.data[: 5 * PAGE] == b"\x55" * PAGE + bytes(3 * PAGE) + b"\x55" * PAGE
    assert machine.ask("memory.populate", *ranges) == (STATUS.OK, 3)
    assert machine.data[:PAGE] == b"\x55" * PAGE


def test_discarded_memory_of_ours_is_the_hosts_again() -> None:
    """MEM-3, of the memory that machines are given."""
    native = ffi.new("struct pv_memory *")
    memory = GuestMemory(16 << 20, native)
    memory.write(PAGE, b"\x55" * 2 * PAGE)
    assert lib.pv_memory_discard(native, PAGE, PAGE) == 0
    assert memory.read(PAGE, 2 * PAGE) == bytes(PAGE) + b"\x55" * PAGE
    memory.close()


def test_who_shares_guest_memory_cannot_take_it_away() -> None:
    """A module's process that cuts the file, or forbids to map it, would end the host by SIGBUS or at a reset."""
    memory = GuestMemory(16 << 20, ffi.new("struct pv_memory *"))
    theirs = os.dup(memory.fd)
    for size in (0, 32 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(theirs, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(theirs, fcntl.F_ADD_SEALS, 0x10)  # F_SEAL_FUTURE_WRITE
    os.close(theirs)
    memory.close()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ((DATA_GPA + 8, PAGE), STATUS.UNALIGNED),
        ((DATA_GPA, PAGE - 1), STATUS.UNALIGNED),
        ((DATA_GPA + DATA_BYTES + 8, PAGE), STATUS.UNALIGNED),
        ((DATA_GPA + DATA_BYTES - PAGE, 2 * PAGE), STATUS.BAD_ADDRESS),
        ((-PAGE % (1 << 64), 2 * PAGE), STATUS.BAD_ADDRESS),
        ((DATA_GPA, MOST), STATUS.LIMIT),
        ((DATA_GPA + 8, MOST + PAGE), STATUS.LIMIT),
        ((DATA_GPA, -PAGE % (1 << 64)), STATUS.LIMIT),
    ],
)
def test_all_ranges_are_checked_before_the_first_is_touched(
    machine: Ranges, call: str, bad: tuple[int, int], status: int
) -> None:
    """MEM-1, MEM-2, MEM-5; the sum of sizes does not wrap."""
    machine.data[:PAGE] = b"\x55" * PAGE
    assert machine.ask(call, (DATA_GPA, PAGE), bad) == (status, 0)
    assert machine.data[:PAGE] == b"\x55" * PAGE


def test_as_much_as_the_limit(machine: Ranges) -> None:
    """MEM-5."""
    assert machine.ask("memory.discard", (DATA_GPA, MOST - PAGE), (DATA_GPA, PAGE)) == (STATUS.OK, 2)


@pytest.mark.parametrize(("call", "refused"), [(CALLS[0], STATUS.NO_MEMORY), (CALLS[1], STATUS.FAILED)])
def test_what_was_done_before_the_host_failed_counts(machine: Ranges, call: str, refused: int) -> None:
    """MEM-6, and CALL-10: a negative status means that nothing was done."""
    kept = ffi.new("uint8_t[]", 3 * PAGE)
    odd = kept + -int(ffi.cast("uintptr_t", kept)) % PAGE + PAGE // 2  # no page of the host's, which refuses it
    bad_gpa = DATA_GPA + DATA_BYTES
    machine.add(bad_gpa, PAGE, odd)
    machine.data[: 4 * PAGE] = b"\x55" * 4 * PAGE
    ranges = [(DATA_GPA, PAGE), (DATA_GPA + PAGE, PAGE), (bad_gpa, PAGE), (DATA_GPA + 3 * PAGE, PAGE)]
    assert machine.ask(call, *ranges) == (STATUS.CONTINUE, 2)
    assert machine.ask(call, *ranges[2:]) == (refused, 0)
    if call == "memory.discard":
        assert machine.data[: 4 * PAGE] == bytes(2 * PAGE) + b"\x55" * 2 * PAGE


def huge_pages_are_here() -> bool:
    """Whether this host has any for 16 MiB, by its reserve or of free memory."""
    reserve = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())["HugePages_Free"]
    return int(reserve) >= 8 or not re.search(r"\[(never|deny)\]", SHMEM_ENABLED.read_text())


def test_huge_pages_or_one_line_that_says_how() -> None:
    """What is given back reads as zero, whoever has the pages afterwards (MEM-3)."""
    native = ffi.new("struct pv_memory *")
    if not huge_pages_are_here():
        with pytest.raises(HostMemory, match="no huge pages for 16M .*nr_hugepages=8, or allow them by echo advise"):
            GuestMemory(16 << 20, native, huge_pages=True)
        return
    memory = GuestMemory(16 << 20, native, huge_pages=True)
    assert int(ffi.cast("uintptr_t", memory.hva(0, 16 << 20))) % (2 << 20) == 0
    memory.write(PAGE, b"\x55" * 3 * PAGE)
    assert lib.pv_memory_discard(native, 2 * PAGE, PAGE) == 0
    assert memory.read(PAGE, 3 * PAGE) == b"\x55" * PAGE + bytes(PAGE) + b"\x55" * PAGE
    memory.close()


def test_kept_pages_are_zeroed() -> None:
    """As those of a reserve are: who lost one might not get it again, and the host would end by SIGBUS."""
    native = ffi.new("struct pv_memory *")
    memory = GuestMemory(16 << 20, native)
    native.kept = 1
    memory.write(0, b"\x55" * 2 * PAGE)
    before = memory.statistics(ffi.new("struct pv_machine *")).resident_bytes
    assert lib.pv_memory_discard(native, PAGE, PAGE) == 0
    assert memory.read(0, 2 * PAGE) == b"\x55" * PAGE + bytes(PAGE)
    assert memory.statistics(ffi.new("struct pv_machine *")).resident_bytes == before
    memory.close()


def test_populate_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paravirt.memory.PIECE_BYTES", 6 << 20)
    memory = GuestMemory(16 << 20, ffi.new("struct pv_memory *"))
    told: list[tuple[int, int]] = []
    memory.populate(lambda done, of: told.append((done >> 20, of >> 20)))
    assert told == [(6, 16), (12, 16), (16, 16)]
    assert memory.statistics(ffi.new("struct pv_machine *")).resident_bytes == 16 << 20
    memory.close()


def test_guest_memory_is_in_no_core_file_and_no_child() -> None:
    """And at an address where huge pages can stand."""
    memory = GuestMemory(16 << 20, ffi.new("struct pv_memory *"))
    at = int(ffi.cast("uintptr_t", memory.hva(0, 1)))
    assert at % (2 << 20) == 0
    maps = Path("/proc/self/smaps").read_text()
    flags = re.search(rf"^{at:x}-.*?^VmFlags:(.*?)$", maps, re.MULTILINE | re.DOTALL)
    assert flags and {"dd", "dc"} <= set(flags[1].split())
    memory.close()
