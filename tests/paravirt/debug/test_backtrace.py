"""Who called whom in a guest that crashed, and images whose frame rows are not what they should be."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paravirt.boot.bundled import GUESTS
from paravirt.boot.symbols import section
from paravirt.config import MachineConfig
from paravirt.debug.cfi import row_at
from paravirt.errors import GuestCrashed
from paravirt.machine import Machine
from tests.support.gdb import symbols

CRASH = GUESTS / "crash.elf"
IMAGE, SYMBOLS = CRASH.read_bytes(), symbols(CRASH)


@pytest.mark.kvm
@pytest.mark.parametrize(
    ("how", "called"),
    [
        ("divide", ["pv_main", "run_paravirt", "pv_start_paravirt", "pv_entry"]),
        ("panic", ["pv_main", "run_paravirt", "pv_start_paravirt", "pv_entry"]),
        ("vcpu", ["page", "pv_start_cpu", "pv_cpu_entry"]),
    ],
)
def test_a_crash_says_who_called(how: str, called: list[str]) -> None:
    config = MachineConfig(CRASH, command_line=how, vcpus=2, timeout_s=60)
    with Machine(config) as machine, pytest.raises(GuestCrashed) as crash:
        machine.run()
    assert [re.findall(r"\((\w+)\+", place)[0] for place in crash.value.backtrace] == called


def test_rows_are_those_that_another_reader_finds() -> None:
    said = subprocess.run(["readelf", "-wF", CRASH], capture_output=True, text=True, check=True, timeout=60).stdout
    rows = re.findall(r"^([0-9a-f]{16}) (rsp|rbp)\+(\d+) ", said, re.M)
    assert len(rows) > 100
    for address, base, offset in rows:
        if int(address, 16):  # else it is a CIE's
            found = row_at(memoryview(IMAGE), int(address, 16))
            assert found
            assert (found.base, found.offset) == ({"rbp": 6, "rsp": 7}[base], int(offset)), address


def test_what_the_image_does_not_say_nobody_knows() -> None:
    assert row_at(memoryview(IMAGE), 0x1234) is None
    assert row_at(memoryview(b""), 0x1234) is None


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=12))
def test_damaged_rows_hurt_nobody(changes: list[tuple[int, int]]) -> None:
    rows = bytes(section(memoryview(IMAGE), b".debug_frame"))
    damaged, begin = bytearray(IMAGE), IMAGE.index(rows)
    for at, value in changes:
        damaged[begin + at % len(rows)] = value
    for address in (SYMBOLS["pv_main"] + 20, SYMBOLS["pv_entry"], SYMBOLS["pv_trap"]):
        row_at(memoryview(damaged), address)
