"""Linux's boot protocol: headers that are believed or not, and the page of parameters as the protocol has it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paravirt.boot import linux
from paravirt.boot.image import load_image, parse_image
from paravirt.boot.plain import place_initial_disk
from paravirt.config import MachineConfig
from paravirt.errors import (
    BadEntry,
    BadSegments,
    ConfigError,
    ImageError,
    ImageTooLarge,
    ImageUnreadable,
    SoftwareUnsupported,
    TruncatedImage,
)
from paravirt.machine import Machine
from tests.support.built import GUESTS

PATH = Path("vmlinuz")
KERNEL = b"\x90" * 0x1000


def bzimage(
    *, version: int = 0x20F, flags: int = 1, xflags: int = 0x7F, at: int = 1 << 24, memory: int = 1 << 20,
    initrd_last: int = 0x7FFF_FFFF, line_bytes: int = 2047, kernel: bytes = KERNEL,
) -> bytes:  # fmt: skip
    """A kernel with one sector of setup code."""
    setup = bytearray(1024)
    setup[0x1F1] = 1
    struct.pack_into("<H4sH", setup, 0x200, 0x66EB, b"HdrS", version)
    setup[0x211] = flags
    struct.pack_into("<I", setup, 0x22C, initrd_last)
    struct.pack_into("<HI", setup, 0x236, xflags, line_bytes)
    struct.pack_into("<QI", setup, 0x258, at, memory)
    return bytes(setup) + kernel


def test_a_kernel_is_one_segment_where_it_wants_to_be() -> None:
    image = parse_image(memoryview(bzimage()), PATH)
    (segment,) = image.segments
    assert (segment.gpa, segment.memory_bytes, bytes(segment.data)) == (1 << 24, 1 << 20, KERNEL)
    assert image.entry_gpa == (1 << 24) + 0x200
    assert image.is_plain
    assert not image.is_pvh


@pytest.mark.parametrize(
    ("kernel", "error", "words"),
    [
        (bzimage(version=0x20B), BadEntry, "2.11 of Linux's boot protocol"),
        (bzimage(xflags=0x7E), BadEntry, "no 64-bit entry"),
        (bzimage(flags=0), BadEntry, "no 64-bit entry"),
        (bzimage(kernel=b""), TruncatedImage, "within its setup code"),
        (bzimage()[:0x230], TruncatedImage, "within its setup header"),
        (bzimage(at=0), BadSegments, "from 1M to 4G"),
        (bzimage(at=(1 << 24) + 1), BadSegments, "from 1M to 4G"),
        (bzimage(at=1 << 40), BadSegments, "from 1M to 4G"),
    ],
)
def test_kernels_that_are_refused(kernel: bytes, error: type[ImageError], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_image(memoryview(kernel), PATH)


@given(st.data())
def test_no_header_ends_the_host(data: st.DataObject) -> None:
    kernel = bytearray(bzimage())
    for _ in range(data.draw(st.integers(1, 8))):
        kernel[data.draw(st.integers(0x1F1, 0x268))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(kernel)))
    try:
        image = parse_image(memoryview(bytes(kernel[:cut])), PATH)
    except ImageError:
        return
    assert image.segments[0].gpa >= 1 << 20


def test_parameters() -> None:
    """Offsets of struct boot_params and of the setup header, from the protocol's tables."""
    header, _ = linux.parse_header(memoryview(bzimage()), PATH)
    memory_map = [(0x1000, 0x9F000, 1), (0xE0000, 0x20000, 2)]
    block = linux.boot_params(0x8000, header, linux.BootParams(b"quiet", memory_map, (0x300000, 77), 0xE0000))
    assert block[0x202:0x206] == b"HdrS"
    assert block[0x210] == 0xFF
    assert struct.unpack_from("<Q", block, 0x70) == (0xE0000,)
    assert struct.unpack_from("<II", block, 0x218) == (0x300000, 77)
    (text_gpa,) = struct.unpack_from("<I", block, 0x228)
    assert block[text_gpa - 0x8000 :].startswith(b"quiet\0")
    assert block[0x1E8] == 2
    assert struct.unpack_from("<QQI", block, 0x2D0 + 20) == memory_map[1]
    (data_gpa,) = struct.unpack_from("<Q", block, 0x250)
    assert struct.unpack_from("<QII", block, data_gpa - 0x8000) == (0, 9, 32)
    assert len(block) == data_gpa - 0x8000 + 16 + 32


def test_a_command_line_that_the_kernel_would_cut() -> None:
    header, _ = linux.parse_header(memoryview(bzimage(line_bytes=10)), PATH)
    linux.check_command_line(header, b"0123456789", PATH)
    with pytest.raises(ConfigError, match="takes 10"):
        linux.check_command_line(header, b"0123456789a", PATH)


def test_the_initial_disk_lies_where_the_kernel_wants_it() -> None:
    image = parse_image(memoryview(bzimage()), PATH)._replace(initial_disk=memoryview(bytes(5000)))
    assert place_initial_disk(image, 64 << 20) == ((64 << 20) - 8192, 5000)
    low = parse_image(memoryview(bzimage(initrd_last=(32 << 20) - 1)), PATH)
    assert place_initial_disk(low, 64 << 20) == (0, 0)
    low = low._replace(initial_disk=image.initial_disk)
    assert place_initial_disk(low, 64 << 20).gpa == (32 << 20) - 8192
    with pytest.raises(ImageTooLarge, match="at least .*M with --memory"):
        place_initial_disk(image._replace(initial_disk=memoryview(bytes(8 << 20))), 20 << 20)


def test_the_software_vcpu_does_not_enter_it(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(bzimage())
    with (
        pytest.raises(SoftwareUnsupported, match="use --accel kvm"),
        Machine(MachineConfig(kernel, memory_bytes=64 << 20, accel="software")),
    ):
        pytest.fail("it was made")


def test_no_initial_disk_for_a_guest_with_notes(tmp_path: Path) -> None:
    disk = tmp_path / "initrd"
    disk.write_bytes(b"x")
    with pytest.raises(ConfigError, match="takes no initial RAM disk"):
        load_image(GUESTS / "hello.elf", disk)


@pytest.mark.parametrize(
    ("contents", "says"), [(b"", "is empty; make it again"), (None, "cannot read the initial RAM")]
)
def test_an_initial_disk_that_is_none(contents: bytes | None, says: str, tmp_path: Path) -> None:
    kernel, disk = tmp_path / "vmlinuz", tmp_path / "initrd"
    kernel.write_bytes(bzimage())
    if contents is not None:
        disk.write_bytes(contents)
    with pytest.raises(ImageUnreadable, match=says):
        load_image(kernel, disk)
