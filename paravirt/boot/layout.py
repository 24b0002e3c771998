"""Where everything lies: from an image and a configuration to bytes in guest memory and an entry state.

The host's area is the top of low RAM: pages shared for good first, then what only the host and the
CPU use.  The rest of RAM is the guest's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypercall_abi import VERSION
from hypercall_abi.conventions import TRAP_KIND
from hypercall_abi.notes import PRIVILEGE

from .._native import lib
from ..config import MachineConfig
from ..errors import ConfigError
from ..memory import GuestMemory, ram_ranges
from . import pvh
from .image import Image, check_memory, entry_privilege
from .info import (
    BOOT_ABI,
    BOOT_FLAG,
    BOOT_MACHINE,
    BOOT_MEMORY,
    BOOT_PAGES,
    BOOT_RECORD,
    BOOT_TABLES,
    BOOT_VCPUS,
    built,
    join,
    record,
)
from .tables import (
    CODE_SELECTOR,
    DATA,
    DATA_SELECTOR,
    DEVICE,
    LARGE,
    NO_EXECUTE,
    PAGE,
    PRESENT,
    READ_ONLY,
    SYSTEM,
    USER,
    WRITABLE,
    PageTables,
    gdt,
    tss,
)

MMIO_BASE = 0xD000_0000  # virtio-mmio windows, a page each
LOCAL_APIC_GPA = 0xFEE0_0000
FIRST_MMIO_LINE = 5
BOOT_INFO_MOST = 65536
SEED_BYTES = 32
_RAM, _IMAGE, _HOST = 1, 2, 3  # constants memory_kind


@dataclass(frozen=True)
class Layout:
    """Addresses of what the host put into guest memory.  ``mode`` is a PV_MODE_ of the C core."""

    mode: int
    host_gpa: int
    host_bytes: int
    vcpu_pages_gpa: int
    time_page_gpa: int
    boot_info_gpa: int
    boot_info: bytes
    idt_gpa: int
    gdt_gpa: int
    gdt_bytes: int
    tss_gpa: int
    tss_bytes: int
    page_table_gpa: int


def mmio_window_gpa(index: int) -> int:
    """Address of the register window of device `index`."""
    return MMIO_BASE + index * PAGE


def _up(size_bytes: int, step: int = PAGE) -> int:
    return size_bytes + -size_bytes % step


def _map_all(image: Image, ranges: tuple[tuple[int, int], ...], devices: int) -> PageTables:
    tables = PageTables()
    for gpa, size in ranges:
        tables.map(gpa, size, DATA)
    tables.map(0, PAGE, 0)
    for s in image.segments:
        flags = PRESENT | USER | (WRITABLE if s.writable else 0) | (0 if s.executable else NO_EXECUTE)
        tables.map(s.gpa, s.memory_bytes, flags)
    if devices:
        tables.map(MMIO_BASE, devices * PAGE, DEVICE)
    tables.map(LOCAL_APIC_GPA, PAGE, DEVICE)
    return tables


def _memory_map(image: Image, ranges: tuple[tuple[int, int], ...], host_gpa: int) -> list[tuple[int, int, int]]:
    """(gpa, size, kind) in order, without gaps inside a range."""
    listed, at = [], 0
    for s in image.segments:
        if s.gpa > at:
            listed.append((at, s.gpa - at, _RAM))
        listed.append((max(at, s.gpa), s.end_gpa - max(at, s.gpa), _IMAGE))
        at = s.end_gpa
    listed.append((at, host_gpa - at, _RAM))
    listed.append((host_gpa, ranges[0][1] - host_gpa, _HOST))
    listed += [(gpa, size, _RAM) for gpa, size in ranges[1:]]
    return [entry for entry in listed if entry[1] > 0]


def mmio_command_line(devices: int) -> str:
    """The windows as virtio drivers look for them on a command line."""
    windows = (f" virtio_mmio.device=512@{mmio_window_gpa(i):#x}:{FIRST_MMIO_LINE + i}" for i in range(devices))
    return "".join(windows)


def _boot_info(config: MachineConfig, image: Image, layout: dict[str, int], line: str) -> bytes:
    privilege = entry_privilege(image, config.privilege)
    mandatory = BOOT_FLAG.MANDATORY
    level = PRIVILEGE.USER if privilege == "user" else PRIVILEGE.SUPERVISOR
    memory = b"".join(
        built(BOOT_MEMORY, gpa=gpa, size_bytes=size, kind=kind, flags=0)
        for gpa, size, kind in _memory_map(image, ram_ranges(config.memory_bytes), layout["host"])
    )
    abi = built(
        BOOT_ABI, major=VERSION[0], minor=VERSION[1], trap_kind=TRAP_KIND.PORT, trap=lib.PV_TRAP_PORT,
        doorbell=lib.PV_DOORBELL_PORT, privilege=level, vcpu=0,
    )  # fmt: skip
    pages = built(
        BOOT_PAGES, time_gpa=layout["time"], vcpu_gpa=layout["vcpus"], vcpu_stride_bytes=PAGE, continuity_gpa=0
    )
    tables = built(
        BOOT_TABLES, idt_gpa=layout["idt"], code_selector=CODE_SELECTOR[privilege],
        data_selector=DATA_SELECTOR[privilege], idt_bytes=PAGE,
    )  # fmt: skip
    text = line.encode() + b"\0"
    return join(
        [
            record(BOOT_RECORD.ABI, abi, mandatory),
            record(BOOT_RECORD.MEMORY_MAP, memory),
            record(BOOT_RECORD.VCPUS, built(BOOT_VCPUS, count=config.vcpus, flags=0)),
            record(BOOT_RECORD.PAGES, pages),
            record(BOOT_RECORD.COMMAND_LINE, text),
            record(BOOT_RECORD.MACHINE, built(BOOT_MACHINE, uuid=config.uuid.bytes, name=config.name)),
            record(BOOT_RECORD.SEED, os.urandom(SEED_BYTES)),
            record(BOOT_RECORD.TABLES, tables),
            *(record(kind, payload, flags) for kind, flags, payload in config.boot_records),
        ]
    )


def lay_out(config: MachineConfig, image: Image, memory: GuestMemory, devices: int) -> Layout:
    """Fills guest memory for `image` and says where things are.

    `devices` is the number of virtio-mmio windows.  Raises ImageTooLarge, ConfigError.
    """
    ranges = ram_ranges(config.memory_bytes)
    one_tss = tss((lib.PV_TRAP_PORT, lib.PV_DOORBELL_PORT))
    tables = _map_all(image, ranges, devices)
    # The boot information's size does not depend on addresses; the host's own map adds a table or two.
    names = ("vcpus", "time", "info", "idt", "gdt", "tss", "tables")
    line = config.command_line + mmio_command_line(devices)
    info_bytes = len(_boot_info(config, image, dict.fromkeys((*names, "host"), 0), line)) + 3 * BOOT_MEMORY.size
    info_bytes = max(info_bytes, pvh.START_INFO.sizeof() + 1024 + len(line))
    if info_bytes > BOOT_INFO_MOST:
        raise ConfigError(f"the boot information would be {info_bytes} bytes, at most 65536 fit; give less")
    gdt_bytes = (5 + 2 * config.vcpus) * 8
    sizes = (
        config.vcpus * PAGE, PAGE, _up(info_bytes), PAGE, _up(gdt_bytes), config.vcpus * PAGE, 0,
    )  # fmt: skip
    spare = 4 + (sum(sizes) // LARGE + 2)
    host_bytes = _up(sum(sizes) + (tables.page_count + spare) * PAGE)
    host_gpa = ranges[0][1] - host_bytes
    check_memory(image, ((0, max(host_gpa, 0)), *ranges[1:]))
    place, at = {"host": host_gpa}, host_gpa
    for name, size in zip(names, sizes, strict=True):
        place[name], at = at, at + size
    tables.map(place["time"], PAGE, READ_ONLY)
    tables.map(place["info"], _up(info_bytes), READ_ONLY)
    tables.map(place["gdt"], place["tables"] - place["gdt"], SYSTEM)
    tables.map(place["tables"], host_gpa + host_bytes - place["tables"], 0)
    info = _boot_info(config, image, place, line)
    for s in image.segments:
        memory.write(s.gpa, s.data)
    memory.write(place["gdt"], gdt(place["tss"], PAGE, len(one_tss), config.vcpus))
    for vcpu in range(config.vcpus):
        memory.write(place["tss"] + vcpu * PAGE, one_tss)
    if image.is_pvh:
        listed = [
            (gpa, size, pvh.E820_RESERVED if kind == _HOST else pvh.E820_RAM)
            for gpa, size, kind in _memory_map(image, ranges, host_gpa)
        ]
        memory.write(place["info"], pvh.start_info(place["info"], line.strip(), listed))
    else:
        memory.write(place["info"], info)
    for gpa, page in tables.build(place["tables"]):
        memory.write(gpa, page)
    user = entry_privilege(image, config.privilege) == "user"
    mode = lib.PV_MODE_PVH if image.is_pvh else lib.PV_MODE_USER if user else lib.PV_MODE_SUPERVISOR
    return Layout(
        mode, host_gpa, host_bytes, place["vcpus"], place["time"], place["info"], info, place["idt"],
        place["gdt"], gdt_bytes, place["tss"], len(one_tss), place["tables"],
    )  # fmt: skip
