"""Names of addresses: right for a real guest, none for a damaged one, never an exception."""

from __future__ import annotations

import re
import struct
import subprocess
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from paravirt.boot.image import Image, load_image
from paravirt.boot.symbols import place
from tests.support.built import GUESTS
from tests.support.elf import CODE_GPA, Elf


def test_a_function_is_named() -> None:
    image = load_image(GUESTS / "crash.elf")
    nm = subprocess.run(["nm", "-S", image.path], check=True, capture_output=True, text=True).stdout
    found = re.search(r"^(\w+) (\w+) T pv_main$", nm, re.MULTILINE)
    assert found
    start, size = int(found[1], 16), int(found[2], 16)
    assert place(image, start) == f"{start:#x} (pv_main+0x0)"
    assert place(image, start + size - 1) == f"{start + size - 1:#x} (pv_main+{size - 1:#x})"
    assert place(image, 0x10) == "0x10"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=200))
def test_damage_costs_the_name_only(damage: list[tuple[int, int]]) -> None:
    good = load_image(Path(GUESTS / "hello.elf"))
    data = bytearray(good.contents)
    for at, value in damage:
        data[at % len(data)] = value
    damaged: Image = good._replace(contents=memoryview(bytes(data)))
    assert place(damaged, good.entry_gpa).startswith(hex(good.entry_gpa))


def test_many_tables_of_many_symbols_are_soon_given_up(tmp_path: Path) -> None:
    """60000 section headers that name the same 100000 symbols: a guest that fails may not keep its host busy."""
    data = bytearray(Elf().build())
    data += bytes(-len(data) % 8)
    symbols_at, symbols_bytes = len(data), 24 * 100_000
    data += bytes(symbols_bytes)
    header = struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, symbols_at, symbols_bytes, 1, 0, 8, 24)
    strings = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, symbols_at, 24, 0, 0, 1, 0)
    struct.pack_into("<Q", data, 40, len(data))
    struct.pack_into("<HHH", data, 58, 64, 60_002, 1)
    data += header + strings + header * 60_000
    path = tmp_path / "many.elf"
    path.write_bytes(data)
    image = load_image(path)
    began = time.monotonic()
    assert place(image, CODE_GPA) == hex(CODE_GPA)
    assert time.monotonic() - began < 5
