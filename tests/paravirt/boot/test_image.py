"""Images: what a good one is read as, and the error of every way to be a bad one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paravirt import errors
from paravirt.boot.image import (
    NOTE_SEGMENT_MOST_BYTES,
    Image,
    check_against_host,
    check_memory,
    entry_privilege,
    load_image,
    parse_image,
)
from paravirt.config import MIB
from tests.support.elf import CODE_GPA, PT_INTERP, SPIN, Elf, Load, R, W, X, cpu, privilege, pvh, require

DATA_GPA = 0x300000


def parse(elf: Elf) -> Image:
    return parse_image(memoryview(elf.build()), Path("guest.elf"))


def refused(elf: Elf, error: type[errors.ParavirtError], text: str, rule: str | None = None) -> None:
    with pytest.raises(error, match=text) as caught:
        parse(elf)
    assert caught.value.rule == rule
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_reads_a_good_image(tmp_path: Path) -> None:
    loads = [Load(DATA_GPA, b"data", memory_bytes=0x3000, flags=R | W), Load()]
    image = load_image(Elf(loads, [require({4: 0}), pvh(CODE_GPA + 1)]).write(tmp_path / "guest.elf"))
    assert image.entry_gpa == CODE_GPA
    assert not image.is_pvh
    assert image.notes.version == (1, 0)
    assert image.notes.services == {4: 0}
    assert image.notes.pvh_entry_gpa == CODE_GPA + 1
    code, data = image.segments
    assert (code.number, code.gpa, bytes(code.data), code.memory_bytes, code.permissions) == (
        1,
        CODE_GPA,
        SPIN,
        2,
        "r-x",
    )
    assert (data.number, data.gpa, bytes(data.data), data.end_gpa, data.permissions) == (
        0, DATA_GPA, b"data", DATA_GPA + 0x3000, "rw-",
    )  # fmt: skip


@pytest.mark.parametrize("size", [4, 8])
def test_an_image_without_our_notes_is_a_plain_guest(size: int) -> None:
    """NOTE-4."""
    image = parse(Elf([Load(data=SPIN * 8)], [pvh(CODE_GPA + 4, size)], header={"e_entry": 0xFFFFFFFF81000000}))
    assert image.is_pvh
    assert image.entry_gpa == CODE_GPA + 4


def test_a_plain_guest_may_have_other_virtual_addresses() -> None:
    image = parse(Elf([Load(header={"p_vaddr": 0xFFFFFFFF80200000})], [pvh()]))
    assert image.segments[0].gpa == CODE_GPA


# ---- the file ----


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(errors.ImageUnreadable, match="No such file"):
        load_image(tmp_path / "none.elf")


def test_a_directory_a_device_and_a_fifo_are_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "fifo"):
        with pytest.raises(errors.ImageUnreadable):
            load_image(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # as root, file modes refuse nothing
    with pytest.raises(errors.ImageUnreadable, match="Permission denied"):
        load_image(tmp_path / "guest.elf")


def test_a_path_with_nul_and_one_with_control_characters(tmp_path: Path) -> None:
    with pytest.raises(errors.ImageUnreadable, match="null"):
        load_image(Path("a\0b"))
    with pytest.raises(errors.ImageUnreadable) as caught:
        load_image(tmp_path / "a\nb\x1b[31m")
    assert "a\\nb\\x1b[31m" in str(caught.value)


def test_a_file_larger_than_any_image(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(errors.ImageUnreadable, match="larger than 1G"):
        load_image(path)


# ---- headers ----


@pytest.mark.parametrize("contents", [b"", b"\x7fEL", b"#!/bin/sh\n", bytes(4096)])
def test_not_an_elf(contents: bytes) -> None:
    with pytest.raises(errors.NotElf):
        parse_image(memoryview(contents), Path("x"))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"e_machine": 183}, "EM_AARCH64"),
        ({"e_machine": 3}, "EM_386"),
        ({"e_machine": 0xFFFF}, "65535"),
        ({"e_type": 3}, "ET_DYN"),
        ({"e_type": 1}, "ET_REL"),
        ({"e_ident": b"\x7fELF\1\1\1".ljust(16, b"\0")}, "not a 64-bit little-endian"),
        ({"e_ident": b"\x7fELF\2\2\1".ljust(16, b"\0")}, "not a 64-bit little-endian"),
    ],
)
def test_wrong_machine(header: dict[str, int | bytes], text: str) -> None:
    refused(Elf(header=header), errors.WrongMachine, text)


def test_a_program_for_an_operating_system() -> None:
    refused(Elf([Load(), Load(0, b"/lib/ld.so\0", type=PT_INTERP)]), errors.WrongMachine, "PT_INTERP")


def test_every_truncation_is_refused() -> None:
    """Whatever the length: cut in the headers, in the notes, in a segment."""
    whole = Elf([Load(data=SPIN * 64), Load(DATA_GPA, b"data" * 16, flags=R | W)]).build()
    for length in range(len(whole)):
        with pytest.raises(errors.NotElf if length < 4 else errors.TruncatedImage):
            parse_image(memoryview(whole[:length]), Path("x"))
    parse_image(memoryview(whole), Path("x"))


@pytest.mark.parametrize(
    ("header", "error", "text"),
    [
        ({"e_phnum": 0}, errors.BadSegments, "no program headers"),
        ({"e_phnum": 0xFFFF}, errors.BadSegments, "65535 program headers"),
        ({"e_phentsize": 32}, errors.BadSegments, "of 56 bytes"),
        ({"e_phoff": 1 << 63}, errors.TruncatedImage, "program headers"),
        ({"e_phoff": (1 << 64) - 1}, errors.TruncatedImage, "program headers"),
        ({"e_entry": 0}, errors.BadEntry, "entry at 0x0, outside"),
        ({"e_entry": CODE_GPA + 2}, errors.BadEntry, "outside"),
        ({"e_entry": CODE_GPA - 1}, errors.BadEntry, "outside"),
        ({"e_entry": (1 << 64) - 1}, errors.BadEntry, "outside"),
    ],
)
def test_bad_header(header: dict[str, int | bytes], error: type[errors.ParavirtError], text: str) -> None:
    refused(Elf(header=header), error, text)


# ---- segments ----


def test_no_segments() -> None:
    refused(Elf([]), errors.BadSegments, "nothing to load")
    refused(Elf([Load(data=b"")]), errors.BadSegments, "nothing to load")


@pytest.mark.parametrize("second", [CODE_GPA, CODE_GPA + 1, CODE_GPA - 1])
def test_overlapping_segments(second: int) -> None:
    loads = [Load(), Load(second, b"12")]
    refused(Elf(loads), errors.BadSegments, r"segment \d .* and segment \d .* overlap")


def test_an_overlap_only_in_memory() -> None:
    loads = [Load(memory_bytes=0x200000), Load(DATA_GPA, b"1")]
    refused(Elf(loads), errors.BadSegments, "overlap")


@pytest.mark.parametrize("gpa", [(1 << 64) - 1, (1 << 64) - 4096, 1 << 52, (1 << 63)])
def test_a_segment_that_wraps_or_is_out_of_reach(gpa: int) -> None:
    refused(Elf([Load(), Load(gpa, b"12")]), errors.BadSegments, "segment 1 .* wraps")


@pytest.mark.parametrize("size", [(1 << 64) - 1, 1 << 52])
def test_a_segment_too_large_to_be(size: int) -> None:
    refused(Elf([Load(memory_bytes=size)]), errors.BadSegments, "segment 0 .* wraps")


def test_a_segment_larger_in_the_file_than_in_memory() -> None:
    refused(Elf([Load(memory_bytes=1)]), errors.BadSegments, "more bytes than memory")


@pytest.mark.parametrize("field", ["p_offset", "p_filesz"])
def test_a_segment_beyond_the_file(field: str) -> None:
    load = Load(memory_bytes=1 << 51, header={field: 1 << 50})
    refused(Elf([load]), errors.TruncatedImage, "segment 0 ends at byte")
    refused(Elf([Load(header={"p_offset": (1 << 64) - 1})]), errors.TruncatedImage, "segment 0 ends at byte")


def test_virtual_and_physical_addresses_differ() -> None:
    refused(Elf([Load(header={"p_vaddr": 0})]), errors.BadSegments, "one to one", "BOOT-17")


def test_page_zero_is_not_for_segments() -> None:
    refused(Elf([Load(), Load(4095, b"1")]), errors.BadSegments, "page zero", "BOOT-2")
    assert parse(Elf([Load(), Load(4096, b"1")])).segments[0].gpa == 4096


def test_segments_of_different_access_share_no_page() -> None:
    refused(Elf([Load(), Load(CODE_GPA + 4095, b"1", flags=R | W)]), errors.BadSegments, "share a page", "BOOT-4")
    assert len(parse(Elf([Load(), Load(CODE_GPA + 4095, b"1")])).segments) == 2
    assert len(parse(Elf([Load(), Load(CODE_GPA + 4096, b"1", flags=R | W)])).segments) == 2


def test_the_entry_is_executable() -> None:
    refused(Elf([Load(flags=R | W)]), errors.BadEntry, "outside of every executable segment")
    refused(Elf([Load(flags=R | X)], [pvh(DATA_GPA)]), errors.BadEntry, "entry at 0x300000")


def test_neither_our_notes_nor_pvh() -> None:
    """NOTE-4 offers every device to a plain guest; it still needs an entry."""
    refused(Elf(notes=[]), errors.BadEntry, "neither Paravirt notes nor a PVH entry", "NOTE-4")
    refused(Elf(notes=[("GNU", 1, bytes(16))]), errors.BadEntry, "neither", "NOTE-4")


def test_the_note_segment_is_bounded() -> None:
    refused(Elf(note_bytes=bytes(NOTE_SEGMENT_MOST_BYTES + 1)), errors.BadNote, "larger than 64K")


# ---- against the host ----


def test_segments_fit_the_memory() -> None:
    image = parse(Elf([Load(), Load(7 * MIB, b"1", memory_bytes=2 * MIB)]))
    check_memory(image, [(0, 10 * MIB)])
    with pytest.raises(errors.ImageTooLarge, match=r"segment 1 \(0x700000–0x900000 r-x\).* at least 10M with --memory"):
        check_memory(image, [(0, 8 * MIB)])
    with pytest.raises(errors.ImageTooLarge, match="link the image elsewhere"):
        check_memory(image, [(0, 8 * MIB), (10 * MIB, 8 * MIB)])
    with pytest.raises(errors.ImageTooLarge, match="at least 4M"):
        check_memory(image, [])


@pytest.mark.parametrize(("version", "good"), [((1, 0), True), ((1, 1), False), ((2, 0), False), ((0, 0), False)])
def test_the_version_is_offered(version: tuple[int, int], good: bool) -> None:
    """NOTE-7."""
    image = parse(Elf(notes=[require(version=version)]))
    if good:
        check_against_host(image, {})
    else:
        with pytest.raises(errors.AbiNotOffered, match=f"needs ABI {version[0]}.{version[1]}, this host offers 1.0"):
            check_against_host(image, {})


def test_required_services_and_features_are_offered() -> None:
    """NOTE-5."""
    image = parse(Elf(notes=[require({4: 0, 7: 0b101})]))
    check_against_host(image, {4: 0, 7: 0b111})
    with pytest.raises(errors.ServiceNotOffered, match="requires the service time.*NOTE-5"):
        check_against_host(image, {7: 0b111})
    with pytest.raises(errors.ServiceNotOffered, match="features 0x4 of the service device.*NOTE-5"):
        check_against_host(image, {4: 0, 7: 0b011})
    with pytest.raises(errors.ServiceNotOffered, match="requires the service 0x8001"):
        check_against_host(parse(Elf(notes=[require({0x8001: 0})])), {})


def test_the_cpu_is_new_enough() -> None:
    """NOTE-9."""
    image = parse(Elf(notes=[require(), cpu(3)]))
    check_against_host(image, {}, cpu_level=3)
    with pytest.raises(errors.CpuNotOffered, match="x86-64-v3, this one has v2"):
        check_against_host(image, {}, cpu_level=2)
    check_against_host(parse(Elf(notes=[require(), cpu(1)])), {})


def test_the_level_of_entry() -> None:
    anywhere = parse(Elf(notes=[require(), privilege(0)]))
    assert entry_privilege(anywhere, "user") == "user"
    assert entry_privilege(anywhere, "supervisor") == "supervisor"
    assert entry_privilege(parse(Elf(notes=[privilege(1)])), "supervisor") == "user"
    assert entry_privilege(parse(Elf(notes=[privilege(2)])), "user") == "supervisor"
    assert entry_privilege(parse(Elf(notes=[pvh()])), "user") == "supervisor"
    assert entry_privilege(anywhere._replace(notes=parse(Elf()).notes), "user") == "user"
