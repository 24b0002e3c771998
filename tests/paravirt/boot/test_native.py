"""Images and boot in C, for vendors, held against ours in Python: the same images, the same map."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hypercall_abi import CONSTANTS
from hypercall_abi.boot import BOOT_HEADER, BOOT_INFO, BOOT_MACHINE, BOOT_MEMORY, BOOT_PAGES, BOOT_TABLES
from paravirt._native import ffi, lib
from paravirt.boot.image import Image, parse_image
from paravirt.boot.layout import lay_out
from paravirt.config import MachineConfig
from paravirt.errors import BadNote, ParavirtError
from paravirt.memory import GuestMemory
from tests.support.built import GUESTS
from tests.support.elf import (
    BLOCK,
    CONSOLE,
    OPTIONAL,
    Elf,
    Load,
    R,
    W,
    X,
    cpu,
    manifest,
    pack_notes,
    privilege,
    require,
)

PAGE = 4096
RAM_BYTES = 16 << 20
TEXT_MOST = 16
RECORD, KIND, LEVEL = CONSTANTS["boot_record"], CONSTANTS["memory_kind"], CONSTANTS["privilege"]
GOOD = Elf(
    [Load(), Load(0x300000, b"data" * 8, memory_bytes=0x2000, flags=R | W)],
    [require({1: 0, 4: 0}), manifest((BLOCK, 0, "disk")), privilege(0), cpu(1)],
).build()
INTERESTING = st.sampled_from(
    [0, 1, 2, 0x7F, 0xFF, 0xFFF, 0x1000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 52, (1 << 64) - 1]
)


def parse(contents: bytes) -> tuple[Any, str]:
    """What C makes of an image, and why it refuses it, or "". What it points to is kept as long as the first."""
    image, kept = ffi.new("struct pv_image *"), ffi.from_buffer(contents)
    wrong = lib.pv_image_parse(image, kept, len(contents))
    KEPT[image] = kept
    return image, "" if wrong == ffi.NULL else ffi.string(wrong).decode()


KEPT: dict[Any, Any] = {}


def ours(contents: bytes) -> Image | None | str:
    """What Python makes of it; None: refused; a word: C is stricter here by design, or differs in words alone."""
    try:
        image = parse_image(memoryview(contents), Path("image.elf"))
    except BadNote as error:
        return "name" if "UTF-8" in str(error) or "proper name" in str(error) else None
    except ParavirtError:
        return None
    if len(image.segments) > lib.PV_MAX_SEGMENTS or len(image.notes.services) > lib.PV_MAX_REQUIRED:
        return "limit"
    return image


def agree(contents: bytes) -> None:
    expected = ours(contents)
    native, wrong = parse(contents)
    KEPT.clear()
    if isinstance(expected, str):
        return
    assert (expected is None) == bool(wrong), wrong or expected
    if expected is None:
        return
    segments = [native.segments[i] for i in range(native.segment_count)]
    assert [(s.gpa, s.memory_bytes, s.data_bytes, s.flags) for s in segments] == [
        (s.gpa, s.memory_bytes, len(s.data), s.flags) for s in expected.segments
    ]
    notes = expected.notes
    assert bool(native.plain) == expected.is_pvh
    assert (native.entry_gpa, native.privilege, native.cpu_level) == (
        expected.entry_gpa, notes.privilege, notes.cpu_level
    )  # fmt: skip
    assert native.version == (notes.version[0] << 16 | notes.version[1] if notes.version else 0)
    required = [native.required[i] for i in range(native.required_count)]
    assert {r.service: r.features for r in required} == notes.services
    named = [bytes(ffi.buffer(native.devices[i].name)).split(b"\0")[0] for i in range(native.device_count)]
    assert named == [entry.name.encode() for entry in notes.manifest]


def test_the_seed_is_good() -> None:
    assert parse(GOOD)[1] == ""
    agree(GOOD)


@pytest.mark.parametrize("guest", sorted(GUESTS.glob("*.elf")), ids=lambda path: path.stem)
def test_guests(guest: Path) -> None:
    agree(guest.read_bytes())


@given(st.binary(max_size=200))
@example(b"\x7fELF\2\1\1")
def test_arbitrary_bytes(contents: bytes) -> None:
    agree(contents)
    agree(GOOD[:64] + contents)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4))
def test_changed_bytes(changes: list[tuple[int, int]]) -> None:
    """NOTE-1, NOTE-2, NOTE-6, BOOT-14."""
    contents = bytearray(GOOD)
    for place, value in changes:
        contents[place] = value
    agree(bytes(contents))


@given(st.lists(st.tuples(st.integers(0, (64 + 3 * 56) // 8 - 1), INTERESTING), min_size=1, max_size=3))
def test_changed_fields(changes: list[tuple[int, int]]) -> None:
    contents = bytearray(GOOD)
    for index, value in changes:
        contents[8 * index : 8 * index + 8] = value.to_bytes(8, "little")
    agree(bytes(contents))


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 40), st.sampled_from([b"Paravirt\0", b"X\0"])), max_size=4)
)
def test_arbitrary_notes(listed: list[tuple[int, int, bytes]]) -> None:
    area = b"".join(
        len(owner).to_bytes(4, "little") + size.to_bytes(4, "little") + kind.to_bytes(4, "little")
        + owner.ljust(-(-len(owner) // 4) * 4, b"\0") + bytes(-(-size // 4) * 4)
        for kind, size, owner in listed
    )  # fmt: skip
    agree(Elf(note_bytes=pack_notes([require()]) + area).build())


# ---- boot ----


class Native:
    """A machine of the library's with `ranges` of memory; nothing runs."""

    def __init__(self, vcpus: int = 2, ranges: tuple[tuple[int, int], ...] = ((0, RAM_BYTES),)) -> None:
        config, wrong = ffi.new("struct pv_machine_config *"), ffi.new("const char **")
        config.api, config.vcpus = lib.PV_HOST_API, vcpus
        self._callbacks = [
            ffi.callback("void(struct pv_vcpu *)", lambda _vcpu: None),
            ffi.callback("int64_t(struct pv_vcpu *, uint32_t)", lambda _vcpu, _vector: 0),
            ffi.callback("int64_t(struct pv_vcpu *, struct pv_vcpu *)", lambda _caller, _target: 0),
            ffi.callback("uint64_t(struct pv_vcpu *)", lambda _vcpu: 0),
        ]
        ops = config.ops
        ops.kick = ops.upcall = self._callbacks[0]
        ops.upcall_vector, ops.start, ops.fault_address = self._callbacks[1:]
        self.machine = lib.pv_machine_create(config, wrong)
        assert self.machine != ffi.NULL
        self.maps = [mmap.mmap(-1, size) for _, size in ranges]
        self.views = [ffi.from_buffer(area) for area in self.maps]
        for (gpa, size), view in zip(ranges, self.views, strict=True):
            assert lib.pv_memory_add(lib.pv_machine_memory(self.machine), gpa, size, view) == 0
        lib.pv_machine_offer_all(self.machine)

    def boot(
        self,
        contents: bytes,
        line: str = "",
        level: int = LEVEL.USER,
        ports: tuple[int, int] = (lib.PV_TRAP_PORT, lib.PV_DOORBELL_PORT),
    ) -> tuple[Any, str]:
        """The entry state, and what is wrong, or ""."""
        self.image, wrong = parse(contents)
        assert not wrong
        self.line = ffi.new("char[]", line.encode())
        boot = ffi.new("struct pv_boot *", {"image": self.image, "privilege": level, "command_line": self.line})
        boot.trap_port, boot.doorbell_port = ports
        boot.uuid = list(range(16))
        entry = ffi.new("struct pv_entry_state *")
        said = lib.pv_boot(self.machine, boot, entry)
        return entry, "" if said == ffi.NULL else ffi.string(said).decode()

    def read(self, gpa: int, size_bytes: int) -> bytes:
        return bytes(ffi.buffer(lib.pv_memory_at(lib.pv_machine_memory(self.machine), gpa, size_bytes), size_bytes))

    def close(self) -> None:
        lib.pv_machine_destroy(self.machine)
        for view, area in zip(self.views, self.maps, strict=True):
            ffi.release(view)
            area.close()
        KEPT.clear()


def mapped(read: Any, root: int, gpa: int) -> int:
    """Flags of the page at `gpa` (present, writable, user, uncached, no execute), 0: not mapped. By a walk."""
    table = root
    for shift in (39, 30, 21, 12):
        entry = int.from_bytes(read(table + 8 * (gpa >> shift & 511), 8), "little")
        if not entry & 1:
            return 0
        if shift == 12 or (shift == 21 and entry & 0x80):
            base = entry & 0x000F_FFFF_FFFF_F000
            assert base + (gpa & ((1 << shift) - 1)) == gpa, "not mapped one to one"
            return entry & (0x17 | 1 << 63)
        table = entry & 0x000F_FFFF_FFFF_F000
    raise AssertionError("a page of 1 GiB")


IMAGES = {
    "plain": Elf(),
    "segments": Elf(
        [
            Load(memory_bytes=0x5000),
            Load(0x300000, b"data" * 8, memory_bytes=0x402000, flags=R | W),
            Load(0x206000, b"ro", flags=R),
            Load(0x1000, b"\xeb\xfe", memory_bytes=PAGE, flags=R | W | X),
        ]
    ),
    "large": Elf([Load(), Load(0x400000, b"", memory_bytes=0x400000, flags=R)]),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("ranges", [((0, RAM_BYTES),), ((0, RAM_BYTES), (1 << 32, 4 << 20))], ids=["low", "high"])
def test_memory_is_mapped_as_by_our_own_host(name: str, ranges: Any, tmp_path: Path) -> None:
    """BOOT-2, BOOT-4, BOOT-11, BOOT-12."""
    contents = IMAGES[name].build()
    native = Native(ranges=ranges)
    entry, wrong = native.boot(contents)
    assert wrong == ""
    image = parse_image(memoryview(contents), tmp_path)
    memory = GuestMemory(RAM_BYTES, ffi.new("struct pv_memory *"))
    layout = lay_out(MachineConfig(tmp_path, memory_bytes=RAM_BYTES, vcpus=2), image, memory, 0)
    lowest = min(layout.host_gpa, entry.rdi & -PAGE) - 3 * PAGE
    for gpa in (*range(0, lowest, PAGE), 0xFEE0_0000, 0xFEE0_1000, RAM_BYTES, 1 << 40):
        theirs = mapped(memory.read, layout.page_table_gpa, gpa)
        assert mapped(native.read, entry.cr3, gpa) == theirs, f"{gpa:#x}"
    if len(ranges) > 1:
        assert mapped(native.read, entry.cr3, (1 << 32) + PAGE) == 7 | 1 << 63
    for segment in image.segments:
        assert native.read(segment.gpa, len(segment.data)) == bytes(segment.data)
    memory.close()
    native.close()


def records(native: Native, gpa: int) -> dict[int, tuple[int, bytes]]:
    """Boot information: type → flags, payload (BOOT-8, BOOT-16)."""
    head = BOOT_INFO.parse(native.read(gpa, BOOT_INFO.size))
    body = native.read(gpa, head.size_bytes)
    found: dict[int, tuple[int, bytes]] = {}
    at, kinds = BOOT_INFO.size, []
    while at < len(body):
        record = BOOT_HEADER.parse(body[at:])
        payload_at = at + BOOT_HEADER.size
        end = payload_at + record.size_bytes
        assert record.type not in found and not any(body[end : end + -end % 8])
        found[record.type] = record.flags, body[payload_at:end]
        kinds.append(record.type)
        at = end + -end % 8
    assert (at, kinds[-1], len(kinds)) == (len(body), RECORD.END, head.records)
    return found


def test_boot_information_and_the_hosts_area() -> None:
    """BOOT-8, BOOT-9, BOOT-12, BOOT-16; the host's pages are the guest's to read at most."""
    native = Native(vcpus=3, ranges=((0, RAM_BYTES), (1 << 32, 4 << 20)))
    entry, wrong = native.boot(IMAGES["segments"].build(), "a=1 b", LEVEL.SUPERVISOR)
    assert wrong == ""
    found = records(native, entry.rdi)
    assert set(found) == set(range(9))
    assert found[RECORD.COMMAND_LINE][1] == b"a=1 b\0"
    assert BOOT_MACHINE.parse(found[RECORD.MACHINE][1]).uuid == bytes(range(16))
    listed = found[RECORD.MEMORY_MAP][1]
    ranges = [BOOT_MEMORY.parse(listed[at:]) for at in range(0, len(listed), BOOT_MEMORY.size)]
    assert ranges[0].gpa == PAGE
    for one, following in zip(ranges, ranges[1:], strict=False):
        assert one.gpa + one.size_bytes <= following.gpa and not one.size_bytes % PAGE
    assert {r.gpa for r in ranges if r.kind == KIND.IMAGE} == {0x1000, 0x200000, 0x206000, 0x300000}
    host = next(r for r in ranges if r.kind == KIND.HOST)
    assert host.gpa + host.size_bytes == RAM_BYTES
    assert sum(r.size_bytes for r in ranges) == RAM_BYTES - PAGE + (4 << 20)
    pages, tables = BOOT_PAGES.parse(found[RECORD.PAGES][1]), BOOT_TABLES.parse(found[RECORD.TABLES][1])
    read_only, data = 5 | 1 << 63, 7 | 1 << 63
    for gpa, flags in (
        (pages.vcpu_gpa, data),
        (pages.vcpu_gpa + 2 * PAGE, data),
        (pages.time_gpa, read_only),
        (entry.rdi & -PAGE, read_only),
        (tables.idt_gpa, data),
        (entry.gdt.base_gpa, 3 | 1 << 63),
        (entry.task.base_gpa, 3 | 1 << 63),
        (entry.cr3, 0),
        (RAM_BYTES - PAGE, 0),
    ):
        assert host.gpa <= gpa and mapped(native.read, entry.cr3, gpa) == flags, f"{gpa:#x}"
    assert (entry.code_selector, entry.data_selector, entry.level) == (8, 16, 0)
    assert (tables.code_selector, tables.data_selector, tables.idt_gpa) == (8, 16, entry.idt.base_gpa)
    bitmap = native.read(entry.task.base_gpa + 104, entry.task.limit + 1 - 104)
    opened = [port for port in range(8 * len(bitmap)) if not bitmap[port // 8] >> port % 8 & 1]
    assert opened == [
        *range(lib.PV_TRAP_PORT, lib.PV_TRAP_PORT + 4),
        *range(lib.PV_DOORBELL_PORT, lib.PV_DOORBELL_PORT + 4),
    ]
    native.close()


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ((0xFCB4, 0xFCB0), ""),
        ((0, 4), ""),
        ((0xFCB5, 0), "the port of the trap or the doorbell is above 0xfcb4"),
        ((0, 0xFFFF), "the port of the trap or the doorbell is above 0xfcb4"),
        ((0x5050, 0x5053), "the ports of trap and doorbell overlap"),
        ((0x5050, 0x5050), "the ports of trap and doorbell overlap"),
    ],
)
def test_ports_that_the_tss_has_room_for(ports: tuple[int, int], said: str) -> None:
    """One that is too high would have its bitmap written over the page tables."""
    native = Native()
    entry, wrong = native.boot(IMAGES["plain"].build(), ports=ports)
    assert wrong == said
    if not said:
        bitmap = native.read(entry.task.base_gpa + 104, entry.task.limit + 1 - 104)
        opened = [port for port in range(8 * len(bitmap)) if not bitmap[port // 8] >> port % 8 & 1]
        assert opened == sorted(port + n for port in ports for n in range(4))
        assert bitmap[-1] == 0xFF
        assert entry.task.limit < 2 * PAGE
        assert mapped(native.read, entry.cr3, 1 << 40) == 0
    native.close()


@given(
    st.lists(st.tuples(st.integers(1, 15), st.integers(1, 0x180)), min_size=1, max_size=TEXT_MOST), st.integers(1, 64)
)
def test_there_is_always_room_for_tables(pieces: list[tuple[int, int]], vcpus: int) -> None:
    """Whatever segments an image has: it is mapped, or refused for what it is."""
    loads: list[Load] = []
    at = 1
    for gap, count in pieces:
        at += gap
        loads.append(Load(at * PAGE, b"\xeb\xfe", memory_bytes=count * PAGE, flags=R | X if len(loads) % 2 == 0 else R))
        at += count
    native = Native(vcpus)
    entry, wrong = native.boot(Elf(loads, header={"e_entry": loads[0].gpa}).build())
    assert "page tables" not in wrong
    if not wrong:
        for load in loads:
            assert mapped(native.read, entry.cr3, load.gpa) & 5 == 5
    native.close()


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ([require(version=(1, 1))], "NOTE-7"),
        ([require(version=(2, 0))], "NOTE-7"),
        ([require({0x8000: 0})], "NOTE-5"),
        ([require({7: 1 << 40})], "NOTE-5"),
        ([require(), manifest((CONSOLE, 0, "console"))], "NOTE-3"),
        ([require(), manifest((CONSOLE, OPTIONAL, "console"))], ""),
    ],
)
def test_what_is_not_offered_refuses_the_image(notes: Any, said: str) -> None:
    native = Native()
    _, wrong = native.boot(Elf(notes=notes).build())
    assert said in wrong and bool(said) == bool(wrong)
    native.close()


@pytest.mark.parametrize(
    ("loads", "line", "ranges", "said"),
    [
        ([Load(memory_bytes=RAM_BYTES)], "", ((0, RAM_BYTES),), "BOOT-14"),
        ([Load(memory_bytes=RAM_BYTES - 0x200000 - PAGE)], "", ((0, RAM_BYTES),), "BOOT-14"),
        ([Load()], "x" * 70000, ((0, RAM_BYTES),), "shorten the command line"),
        ([Load()], "", ((PAGE, RAM_BYTES),), "begin with a region"),
        ([Load(PAGE)], "", ((0, 16 * PAGE),), "not enough memory"),
    ],
)
def test_what_does_not_fit_is_said(loads: list[Load], line: str, ranges: Any, said: str) -> None:
    native = Native(ranges=ranges)
    _, wrong = native.boot(Elf(loads, header={"e_entry": loads[0].gpa}).build(), line)
    assert re.search(said, wrong)
    native.close()
