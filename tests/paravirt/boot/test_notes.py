"""ELF notes: what good ones say, and every way to be malformed (NOTE-1, NOTE-2)."""

from __future__ import annotations

import struct

import pytest

from paravirt.boot.notes import DeviceEntry, Notes, parse_notes
from paravirt.errors import BadNote
from tests.support.elf import (
    BLOCK,
    CPU,
    MANIFEST,
    NET,
    OPTIONAL,
    PRIVILEGE,
    READ_ONLY,
    REQUIRE,
    Note,
    cpu,
    manifest,
    pack_notes,
    privilege,
    pvh,
    require,
)


def parse(*notes: Note) -> Notes:
    return parse_notes([(pack_notes(list(notes)), 4)])


def test_no_notes() -> None:
    """NOTE-4."""
    assert parse_notes([]) == Notes()
    assert not parse(("GNU", 3, b"x" * 20)).present


@pytest.mark.parametrize("align", [4, 8])
def test_all_notes(align: int) -> None:
    notes = [
        require({4: 0, 7: 1}),
        ("GNU", 5, b"odd"),
        manifest((BLOCK, READ_ONLY, "input"), (NET, OPTIONAL, "n" * 32), (BLOCK, 0, "größe")),
        privilege(1),
        cpu(2),
        pvh(0x1234, 8),
    ]
    assert parse_notes([(pack_notes(notes, align), align)]) == Notes(
        present=True,
        version=(1, 0),
        services={4: 0, 7: 1},
        manifest=(
            DeviceEntry(BLOCK, "input", optional=False, read_only=True),
            DeviceEntry(NET, "n" * 32, optional=True, read_only=False),
            DeviceEntry(BLOCK, "größe", optional=False, read_only=False),
        ),
        privilege=1,
        cpu_level=2,
        pvh_entry_gpa=0x1234,
    )


def test_notes_may_stand_in_several_segments() -> None:
    notes = parse_notes([(pack_notes([require()]), 4), (pack_notes([cpu(2)], 8), 8), (bytes(7), 4)])
    assert (notes.version, notes.cpu_level) == ((1, 0), 2)


def test_unknown_notes() -> None:
    """NOTE-2."""
    assert parse(require(), ("Paravirt", 0x7FFF, b"future")).present
    for kind in (0x8000, 0xFFFFFFFF):
        with pytest.raises(BadNote, match=r"a host must know.*\(NOTE-2\)"):
            parse(require(), ("Paravirt", kind, b""))
    assert not parse(("Parasol", 0x8000, b"")).present


@pytest.mark.parametrize("note", [require(), manifest(), privilege(0), cpu(1), pvh()])
def test_a_note_that_stands_twice(note: Note) -> None:
    """NOTE-1."""
    with pytest.raises(BadNote, match=r"twice.*\(NOTE-1\)"):
        parse(note, note)


def service(number: int, flags: int = 0) -> bytes:
    return struct.pack("<IIQ", number, flags, 0)


@pytest.mark.parametrize(
    ("note", "text"),
    [
        (("Paravirt", REQUIRE, b""), "REQUIRE has 0 bytes instead of 8"),
        (("Paravirt", REQUIRE, bytes(7)), "REQUIRE has 7 bytes instead of 8"),
        (("Paravirt", REQUIRE, bytes(9)), "REQUIRE has 1 bytes, not a multiple of 16"),
        (("Paravirt", REQUIRE, struct.pack("<HHI", 1, 0, 1)), "counts 1 services and holds 0"),
        (("Paravirt", REQUIRE, struct.pack("<HHI", 1, 0, 0xFFFFFFFF)), "counts 4294967295 services"),
        (("Paravirt", REQUIRE, struct.pack("<HHI", 1, 0, 0) + service(4)), "counts 0 services and holds 1"),
        (("Paravirt", REQUIRE, struct.pack("<HHI", 1, 0, 1) + service(4, 1)), "flags that are not defined"),
        (("Paravirt", REQUIRE, struct.pack("<HHI", 1, 0, 2) + service(4) * 2), "names a service twice"),
        (("Paravirt", MANIFEST, bytes(39)), "39 bytes, not a multiple of 40"),
        (manifest((BLOCK, 4, "disk")), "'disk' has flags that are not defined"),
        (manifest((BLOCK, 0, "")), "no proper name"),
        (manifest((BLOCK, 0, "a\nb")), "no proper name"),
        (manifest((BLOCK, 0, b"a\0b")), "no proper name"),
        (manifest((BLOCK, 0, b"\xff\xfe")), "not UTF-8"),
        (manifest((BLOCK, 0, "disk"), (NET, 0, "disk")), "names a device twice"),
        (manifest(*((BLOCK, 0, f"disk{i}") for i in range(33))), "33 devices, more than 32"),
        (privilege(3), "PRIVILEGE has the value 3, flags 0"),
        (privilege(1, 1), "PRIVILEGE has the value 1, flags 1"),
        (("Paravirt", PRIVILEGE, bytes(4)), "PRIVILEGE has 4 bytes instead of 8"),
        (("Paravirt", PRIVILEGE, bytes(16)), "PRIVILEGE has 16 bytes instead of 8"),
        (cpu(0), "CPU has the level 0"),
        (cpu(5), "CPU has the level 5"),
        (cpu(1, 1), "CPU has the level 1, flags 1"),
        (("Paravirt", CPU, b""), "CPU has 0 bytes"),
        (("Paravirt", 5, bytes(16385)), "more than 16384 bytes"),
    ],
)
def test_malformed(note: Note, text: str) -> None:
    """NOTE-1, NOTE-6."""
    with pytest.raises(BadNote, match=text) as caught:
        parse(note)
    assert caught.value.rule == "NOTE-1"


@pytest.mark.parametrize("size", [0, 1, 3, 5, 7, 9, 16])
def test_a_pvh_note_of_a_wrong_size(size: int) -> None:
    with pytest.raises(BadNote, match=f"{size} bytes; it must have 4 or 8"):
        parse(pvh(size_bytes=size))


@pytest.mark.parametrize(
    ("area", "text"),
    [
        (b"\1" * 11, "in the middle of a header"),
        (pack_notes([require()]) + b"\1", "in the middle of a header"),
        (struct.pack("<III", 0xFFFFFFFF, 0, 1), "longer than the segment"),
        (struct.pack("<III", 9, 0xFFFFFFFF, 1) + b"Paravirt\0\0\0\0", "longer than the segment"),
        (struct.pack("<III", 9, 1, 1) + b"Paravirt\0\0\0\0", "longer than the segment"),
        (struct.pack("<III", 9, 8, 1) + b"Parav", "longer than the segment"),
    ],
)
def test_notes_that_do_not_fit_their_segment(area: bytes, text: str) -> None:
    """NOTE-1."""
    with pytest.raises(BadNote, match=text) as caught:
        parse_notes([(area, 4)])
    assert caught.value.rule == "NOTE-1"


def test_the_last_note_need_not_be_padded() -> None:
    area = struct.pack("<III", 9, 3, 7) + b"Paravirt\0\0\0\0" + b"odd"
    assert parse_notes([(area, 4)]).present
