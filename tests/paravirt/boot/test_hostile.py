"""Whatever the bytes of an image are, loading it succeeds or raises an error of ours, soon."""

from __future__ import annotations

import contextlib
import struct
import time
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from paravirt.boot.image import IMAGE_MOST_BYTES, Image, check_against_host, check_memory, parse_image
from paravirt.boot.manifest import plan_devices
from paravirt.boot.notes import parse_notes
from paravirt.cli.inspect import describe
from paravirt.config import Disk
from paravirt.errors import ParavirtError
from tests.support.elf import BLOCK, Elf, Load, R, W, cpu, manifest, pack_notes, privilege, pvh, require

GOOD = Elf(
    [Load(), Load(0x300000, b"data" * 8, memory_bytes=0x2000, flags=R | W)],
    [require({1: 0, 4: 0}), manifest((BLOCK, 0, "disk")), privilege(0), cpu(1), pvh()],
).build()

INTERESTING = st.sampled_from(
    [0, 1, 2, 0x7F, 0xFF, 0xFFF, 0x1000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 52, (1 << 64) - 1]
)


def load(contents: bytes) -> Image | None:
    """Everything that is done with an image before a machine exists."""
    try:
        image = parse_image(memoryview(contents), Path("hostile.elf"))
    except ParavirtError:
        return None
    assert any(s.executable and s.gpa <= image.entry_gpa < s.end_gpa for s in image.segments)
    for one, next_one in zip(image.segments, image.segments[1:], strict=False):
        assert one.end_gpa <= next_one.gpa
    for segment in image.segments:
        assert len(segment.data) <= segment.memory_bytes
    describe(image)
    for check in (
        lambda: check_memory(image, [(0, 1 << 27)]),
        lambda: check_against_host(image, {1: 0, 4: 0}),
        lambda: plan_devices(image, [Disk("disk", Path("x"))]),
    ):
        with contextlib.suppress(ParavirtError):
            check()
    return image


def test_the_seed_is_good() -> None:
    assert load(GOOD) is not None


@given(st.binary(max_size=512))
@example(b"\x7fELF\2\1\1")
def test_arbitrary_bytes(contents: bytes) -> None:
    load(contents)
    load(GOOD[:8] + contents)
    load(GOOD[:64] + contents)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=8))
def test_changed_bytes(changes: list[tuple[int, int]]) -> None:
    contents = bytearray(GOOD)
    for place, value in changes:
        contents[place] = value
    load(bytes(contents))


@given(
    st.lists(
        st.tuples(st.integers(0, (64 + 3 * 56) // 2), st.sampled_from("<H <I <Q".split()), INTERESTING),
        min_size=1,
        max_size=6,
    )
)
def test_changed_fields(changes: list[tuple[int, str, int]]) -> None:
    contents = bytearray(GOOD)
    for place, code, value in changes:
        size = struct.calcsize(code)
        struct.pack_into(code, contents, place * 2, value & (1 << 8 * size) - 1)
    load(bytes(contents))


@given(st.lists(st.tuples(st.binary(max_size=600), st.sampled_from([4, 8])), max_size=3))
def test_arbitrary_note_segments(areas: list[tuple[bytes, int]]) -> None:
    with contextlib.suppress(ParavirtError):
        parse_notes(areas)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Paravirt", "Xen", "GNU", ""]),
            st.sampled_from([0, 1, 2, 3, 4, 5, 18, 0x7FFF, 0x8000]),
            st.binary(max_size=96),
        ),
        max_size=6,
    )
)
def test_arbitrary_notes(notes: list[tuple[str, int, bytes]]) -> None:
    with contextlib.suppress(ParavirtError):
        parse_notes([(pack_notes(notes), 4)])
    load(Elf(notes=notes).build())


def test_a_file_made_to_cost_time() -> None:
    """As many note segments as are taken, each as large and as full of notes as is taken, all the same bytes."""
    loads = [Load()] + [Load(0, b"", type=4, header={"p_offset": 4096, "p_filesz": 65536}) for _ in range(63)]
    contents = Elf(loads, []).build().ljust(4096, b"\0") + struct.pack("<III", 0, 0, 0) * 6000
    assert len(contents) < IMAGE_MOST_BYTES
    began = time.monotonic()
    load(contents)
    assert time.monotonic() - began < 10
