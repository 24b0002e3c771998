"""The built guests as files: no warnings, the promised segments and notes, no instruction that a host may lack."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from itertools import filterfalse
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from hypercall_abi.devices.types import DEVICE_TYPE
from hypercall_abi.notes import (
    DEVICE_FLAG,
    NOTE,
    NOTE_DEVICE,
    NOTE_PRIVILEGE,
    NOTE_REQUIRE,
    NOTE_SERVICE,
    OWNER,
    PRIVILEGE,
)
from hypercall_abi.services import base, console, device, entropy, event, system, time, vcpu
from tests.guest_drivers.conftest import Build
from tests.support.tree import ROOT

PVH_ENTRY = 18
R, W, X = 4, 2, 1
# What KVMs that emulate CPL 0 lack, what not every CPU has, and what an upcall does not save.
FORBIDDEN = re.compile(r"\t(mfence|rdtscp|cmpxchg16b|popcnt|xsave|xrstor)")
VECTORS = re.compile(r".*%[xyz]?mm\d")  # conformance looks whether they are preserved


def judges(image: Path) -> bool:
    """Whether it is an image of host conformance, which has a start code of its own, or one to be refused."""
    return image.stem.startswith(("conformance_", "refused_", "rust_"))


def notes(elf: ELFFile) -> Iterator[tuple[str, int, bytes]]:
    """Owner, type and payload; types as numbers, which pyelftools' own walk turns into other systems' names."""
    for segment in elf.iter_segments("PT_NOTE"):
        data = segment.data()
        while data:
            name_bytes, payload_bytes, kind = struct.unpack_from("<III", data)
            start = 12 + (name_bytes + 3) // 4 * 4
            yield data[12 : 12 + name_bytes - 1].decode(), kind, data[start : start + payload_bytes]
            data = data[start + (payload_bytes + 3) // 4 * 4 :]


def good(build: Build) -> list[Path]:
    """The images that are not made to be refused."""
    return [path for path in build.images if not path.stem.startswith("refused_")]


def paravirt_notes(elf: ELFFile) -> dict[int, bytes]:
    """The payloads by type; none stands twice (NOTE-1)."""
    ours = [(kind, payload) for owner, kind, payload in notes(elf) if owner == OWNER]
    assert len({kind for kind, _ in ours}) == len(ours)
    return dict(ours)


def test_every_source_is_built_silently(build: Build) -> None:
    assert build.said == ""
    made = {path.stem for path in build.images if not judges(path)}
    sources = {path.stem for path in (ROOT / "guest_drivers/guests").glob("*.c")}
    assert made == sources | {"web"}  # which is made of several, and of lwIP


def test_a_frame_larger_than_a_stack_is_refused(cc: str, tmp_path: Path) -> None:
    source = "void fill(char *);\nint pv_main(void);\nint pv_main(void)\n{\n\tchar on_stack[%d];\n\n"
    source += "\tfill(on_stack);\n\treturn on_stack[0];\n}\n"
    for size, fits in ((4096, True), (16384, False)):
        (tmp_path / "large.c").write_text(source % size)
        at = ["-C", str(ROOT / "guest_drivers"), f"CC={cc}", f"GUEST={tmp_path / 'large.c'}", f"OUT={tmp_path}"]
        compiled = tmp_path / ".objects/guests/large.c.o"
        done = subprocess.run(["make", "-s", *at, str(compiled)], capture_output=True, text=True)
        assert (done.returncode == 0, "frame" in done.stderr) == (fits, not fits), done.stderr
        compiled.unlink(missing_ok=True)


def test_segments(build: Build) -> None:
    """Rule BOOT-4: each right on its own pages, none both writable and executable; nothing in page zero."""
    for path in good(build):
        with path.open("rb") as file:
            elf = ELFFile(file)
            loads = [s.header for s in elf.iter_segments("PT_LOAD")]
            assert sorted(h.p_flags for h in loads) == [R, R | X, R | W]
            assert all(h.p_vaddr == h.p_paddr and h.p_vaddr % 4096 == 0 and h.p_vaddr >= 4096 for h in loads)
            entry = elf.header.e_entry
            assert any(h.p_flags == R | X and h.p_vaddr <= entry < h.p_vaddr + h.p_memsz for h in loads)


def test_pvh_note(build: Build) -> None:
    for path in filterfalse(judges, build.images):
        with path.open("rb") as file:
            elf = ELFFile(file)
            ((kind, payload),) = ((kind, payload) for owner, kind, payload in notes(elf) if owner == "Xen")
            assert kind == PVH_ENTRY
            entry = int.from_bytes(payload, "little")
            code = next(s.header for s in elf.iter_segments("PT_LOAD") if s.header.p_flags == R | X)
            assert code.p_vaddr < entry < code.p_vaddr + code.p_memsz
            assert all(s.header.p_align == 4 for s in elf.iter_segments("PT_NOTE"))


def test_notes_of_demo(build: Build) -> None:
    with build["demo"].open("rb") as file:
        found = paravirt_notes(ELFFile(file))
    require = NOTE_REQUIRE.parse(found[NOTE.REQUIRE])
    assert (require.major, require.minor) == (1, 0)
    records = [found[NOTE.REQUIRE][at : at + NOTE_SERVICE.size] for at in range(8, len(found[NOTE.REQUIRE]), 16)]
    assert len(records) == require.services
    services = [NOTE_SERVICE.parse(r) for r in records]
    wanted = [m.SERVICE.number for m in (console, event, time, vcpu, device, system, entropy)]
    assert [s.service for s in services] == wanted
    assert all(s.features == 0 and s.flags == 0 for s in services)
    assert base.SERVICE.number not in wanted  # it is always there
    size = NOTE_DEVICE.size
    manifest = [NOTE_DEVICE.parse(found[NOTE.MANIFEST][at : at + size]) for at in (0, size)]
    assert len(found[NOTE.MANIFEST]) == 2 * size
    assert [(d.name, d.type, d.flags) for d in manifest] == [
        ("input", DEVICE_TYPE.BLOCK, DEVICE_FLAG.READ_ONLY),
        ("report", DEVICE_TYPE.BLOCK, 0),
    ]
    assert NOTE_PRIVILEGE.parse(found[NOTE.PRIVILEGE]).privilege == PRIVILEGE.ANY


def test_instructions(build: Build) -> None:
    if not shutil.which("objdump"):
        pytest.skip("no objdump")
    for path in good(build):
        done = subprocess.run(["objdump", "-d", path], capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        found = [s for s in lines if FORBIDDEN.search(s) or (not judges(path) and VECTORS.match(s))]
        assert "iretq" in done.stdout  # it is code that was looked at
        assert not found, f"{path.stem}: {found[:3]}"
