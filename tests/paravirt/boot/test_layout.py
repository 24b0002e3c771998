"""Where things lie in guest memory: the map says of a page what its mapping allows (BOOT-2, BOOT-4, BOOT-12)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paravirt.boot import layout as lay
from paravirt.boot.image import Image, Segment, check_memory
from paravirt.boot.notes import Notes
from paravirt.boot.tables import PRESENT, USER, WRITABLE, PageTables
from paravirt.config import PAGE_BYTES
from paravirt.errors import ImageTooLarge
from paravirt.memory import ram_ranges

LOW = 8 << 20
HOST = LOW - 16 * PAGE_BYTES

sizes = st.integers(1, 3 * PAGE_BYTES)


@st.composite
def images(draw: st.DrawFn) -> Image:
    segments, at = [], 0x10000
    for number in range(draw(st.integers(1, 5))):
        at += draw(st.integers(0, 2)) * PAGE_BYTES + draw(st.sampled_from([0, 0x123]))
        size = draw(sizes)
        segments.append(Segment(number, at, memoryview(b""), size, draw(st.sampled_from([4, 5, 6]))))
        at += size + -(at + size) % PAGE_BYTES
    return Image(Path("x"), 0x10000, tuple(segments), Notes(present=True), memoryview(b""))


def walk(tables: PageTables, gpa: int) -> int:
    """The flags that the tables, as bytes, give for an address."""
    pages = dict(tables.build(1 << 40))
    table = 1 << 40
    for shift in (39, 30, 21, 12):
        entry = int.from_bytes(pages[table][(gpa >> shift) % 512 * 8 :][:8], "little")
        if not entry & PRESENT or shift == 12 or entry & 0x80:
            return entry
        table = entry & 0x000F_FFFF_FFFF_F000
    raise AssertionError


@given(images())
def test_the_memory_map(image: Image) -> None:
    """BOOT-12."""
    listed = lay._memory_map(image, ((0, LOW),), lay.Layout(0, 0, 0, HOST))
    assert listed[0][0] == PAGE_BYTES, "page zero is in no range"
    assert sum(size for _, size, _ in listed) == LOW - PAGE_BYTES
    for (gpa, size, _), (after, _, _) in zip(listed, listed[1:], strict=False):
        assert gpa + size == after
    assert all(gpa % PAGE_BYTES == size % PAGE_BYTES == 0 for gpa, size, _ in listed)
    tables = lay._map_guest(image, ((0, LOW),), 0)
    for gpa, size, kind in listed:
        if kind == lay.MEMORY_KIND.RAM:
            for edge in (gpa, gpa + size - PAGE_BYTES):
                assert walk(tables, edge) & (PRESENT | USER | WRITABLE) == PRESENT | USER | WRITABLE
    assert not walk(tables, 0) & PRESENT


def test_memory_beyond_the_hole_is_in_the_map() -> None:
    image = Image(Path("x"), 0, (), Notes(present=True), memoryview(b""))
    ranges = ram_ranges(5 << 30)
    listed = lay._memory_map(image, ranges, lay.Layout(0, 0, 0, ranges[0][1] - PAGE_BYTES))
    assert (*ranges[1], lay.MEMORY_KIND.RAM) in listed


def test_advice_counts_what_the_host_keeps() -> None:
    segment = Segment(0, LOW - 5 * PAGE_BYTES, memoryview(b""), PAGE_BYTES, 6)
    image = Image(Path("x"), 0, (segment,), Notes(present=True), memoryview(b""))
    with pytest.raises(ImageTooLarge, match="at least 10M"):
        check_memory(image, ((0, HOST),), LOW - HOST)
    with pytest.raises(ImageTooLarge, match="at least 8M"):
        check_memory(image, ((0, HOST),), 0)
