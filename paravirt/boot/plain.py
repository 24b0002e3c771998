"""What a plain guest finds in memory beside its image: firmware's tables, an initial RAM disk, and the start
information of the protocol by which it is entered, PVH or Linux's own.

Where that lies is ``layout.py``'s; what the tables say, the package ``acpi``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..abi import Constants
from ..config import PAGE_BYTES, show_size
from ..errors import ImageTooLarge
from . import linux, pvh
from .image import LARGE_PAGE_BYTES, Image

# Where kernels look for the RSDP that nobody has told them of: the end of a PC's first megabyte.
FIRMWARE_GPA, FIRMWARE_BYTES = 0xE_0000, 0x2_0000
E820_RAM, E820_RESERVED = 1, 2

MEMORY_KIND = Constants("MEMORY_KIND")
MemoryMap = Sequence[tuple[int, int, int]]


class InitialDisk(NamedTuple):
    """Where an initial RAM disk lies; nowhere if there is none."""

    gpa: int = 0
    size_bytes: int = 0


def place_initial_disk(image: Image, host_gpa: int) -> InitialDisk:
    """That of `image`, right below `host_gpa`, or lower if the kernel wants that.  Raises ImageTooLarge."""
    size_bytes = len(image.initial_disk)
    if not size_bytes:
        return InitialDisk()
    end = min(host_gpa, image.linux.initrd_end_gpa if image.linux else host_gpa)
    gpa = (end - size_bytes) // PAGE_BYTES * PAGE_BYTES
    used = max((s.end_gpa for s in image.segments if s.gpa < host_gpa), default=0)
    used = max(used, FIRMWARE_GPA + FIRMWARE_BYTES)
    if gpa < used:
        needed = used + size_bytes + 16 * LARGE_PAGE_BYTES
        needed += -needed % LARGE_PAGE_BYTES
        raise ImageTooLarge(
            f"the initial RAM disk of {show_size(size_bytes)} does not fit beside the kernel; "
            f"give at least {show_size(needed)} with --memory"
        )
    return InitialDisk(gpa, size_bytes)


def start_bytes(image: Image, info_bytes: int) -> int:
    """Room for the start information, if the boot information takes `info_bytes`, which says less of the same."""
    return info_bytes + (PAGE_BYTES if image.linux else 0)


def check_command_line(image: Image, line: str) -> None:
    """Raises ConfigError for one that the kernel would cut."""
    if image.linux:
        linux.check_command_line(image.linux, line.encode(), image.path)


def start_information(gpa: int, image: Image, memory_map: MemoryMap, line: str, disk: InitialDisk) -> bytes:
    """The block to be put at `gpa`."""
    e820 = [(at, size, E820_RESERVED if kind == MEMORY_KIND.HOST else E820_RAM) for at, size, kind in memory_map]
    if image.linux:
        params = linux.BootParams(line.encode(), e820, disk, FIRMWARE_GPA)
        return linux.boot_params(gpa, image.linux, params)
    modules = [disk] if disk.size_bytes else []
    return pvh.start_info(gpa, line, e820, modules, FIRMWARE_GPA)
