"""Where everything lies: from an image and a configuration to bytes in guest memory and an entry state.

The host's area is the top of low RAM: pages shared for good first, then what only the host and the
CPU use.  The rest of RAM is the guest's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from .._native import lib
from ..abi import VERSION, Constants, build, size_of
from ..config import PAGE_BYTES, MachineConfig
from ..errors import ConfigError
from ..memory import HIGH_RAM_BASE, GuestMemory, ram_ranges
from . import plain
from .image import Image, check_memory, entry_privilege
from .info import BOOT_RECORD, join, record
from .tables import (
    CODE_SELECTOR,
    DATA,
    DATA_SELECTOR,
    DEVICE,
    EVERYTHING,
    LARGE,
    NO_EXECUTE,
    PRESENT,
    READ_ONLY,
    SYSTEM,
    USER,
    WRITABLE,
    PageTables,
    gdt,
    linux_gdt,
    tss,
)

if TYPE_CHECKING:
    from ..mapped import MappedDisk

MMIO_BASE = 0xD000_0000  # virtio-mmio windows, a page each
MMIO_BYTES = int(lib.PV_MMIO_WINDOW_BYTES)  # of which the registers take so much
LOCAL_APIC_GPA = 0xFEE0_0000
FIRST_MMIO_LINE = 5
BOOT_INFO_MOST = 65536
SEED_BYTES = 32

X87, SSE, AVX, AVX512 = 1 << 0, 1 << 1, 1 << 2, 7 << 5  # bits of XCR0

BOOT_FLAG = Constants("BOOT_FLAG")
CPU_LEVEL = Constants("CPU_LEVEL")
MEMORY_KIND = Constants("MEMORY_KIND")
PRIVILEGE = Constants("PRIVILEGE")
TRAP_KIND = Constants("TRAP_KIND")


class Layout(NamedTuple):
    """Addresses of what the host puts into guest memory.  ``mode`` is a PV_MODE_ of the C core."""

    mode: int
    tss_bytes: int
    gdt_bytes: int
    host_gpa: int = 0
    vcpu_pages_gpa: int = 0
    time_page_gpa: int = 0
    continuity_page_gpa: int = 0
    boot_info_gpa: int = 0
    start_info_gpa: int = 0
    idt_gpa: int = 0
    gdt_gpa: int = 0
    tss_gpa: int = 0
    page_table_gpa: int = 0
    host_end_gpa: int = 0
    xcr0: int = 0
    windows: int = 0
    """Of virtio-mmio."""
    boot_info: bytes = b""
    disk: plain.InitialDisk = plain.InitialDisk()
    generation_gpa: int = 0
    """Where ACPI says that the generation id is; 0: nowhere."""

    @property
    def is_plain(self) -> bool:
        """Whether it is a plain guest's."""
        return self.mode in (lib.PV_MODE_PVH, lib.PV_MODE_LINUX)


def mmio_window_gpa(index: int) -> int:
    """Address of the register window of device `index`."""
    return MMIO_BASE + index * PAGE_BYTES


def _pages(size_bytes: int) -> int:
    return size_bytes + -size_bytes % PAGE_BYTES


def lay_out(
    config: MachineConfig,
    image: Image,
    memory: GuestMemory,
    windows: int,
    mapped: Iterable[MappedDisk] = (),
    generation: bytes = bytes(16),
) -> Layout:
    """Fills guest memory for `image` and says where things are.

    `windows` is the number of virtio-mmio register windows, `generation` the machine's generation id.  Raises
    ImageTooLarge, ConfigError.
    """
    check_memory(image, memory.ranges)  # before anything as large as the image says is made
    line = config.command_line + ("" if image.linux else mmio_command_line(windows))
    plain.check_command_line(image, line)
    one_tss = tss((lib.PV_TRAP_PORT, lib.PV_DOORBELL_PORT))
    tables = _map_guest(image, memory.ranges, windows)
    for disk in mapped:  # PMEM-1
        tables.map(disk.gpa, disk.size_bytes, READ_ONLY if disk.disk.read_only else DATA)
    descriptors = linux_gdt if image.linux else gdt
    layout = Layout(_mode(config, image), len(one_tss), len(descriptors(0, 1)), xcr0=_xcr0(image), windows=windows)
    layout = _place(config, image, layout, line, tables.page_count)
    kept_bytes = layout.host_end_gpa - layout.host_gpa
    check_memory(image, (*_free(image, max(layout.host_gpa, 0)), *memory.ranges[1:]), kept_bytes)
    if image.linux:
        tables = PageTables()
        tables.map(0, HIGH_RAM_BASE, EVERYTHING)
    else:
        _map_host(tables, layout)
    layout = layout._replace(disk=plain.place_initial_disk(image, layout.host_gpa))
    layout = layout._replace(boot_info=_boot_info(config, image, layout, line))
    for s in image.segments:
        memory.write(s.gpa, s.data)
    memory.write(layout.boot_info_gpa, layout.boot_info)
    if image.is_plain:
        generation_gpa = _write_plain(config, image, layout, memory, line.strip(), generation)
        layout = layout._replace(generation_gpa=generation_gpa)
    memory.write(layout.gdt_gpa, descriptors(layout.tss_gpa, layout.tss_bytes))
    memory.write(layout.tss_gpa, one_tss)
    for gpa, page in tables.build(layout.page_table_gpa):
        memory.write(gpa, page)
    return layout


def _free(image: Image, host_gpa: int) -> tuple[tuple[int, int], ...]:
    """Where the image may lie in low RAM."""
    if not image.is_plain:
        return ((0, host_gpa),)
    above = plain.FIRMWARE_GPA + plain.FIRMWARE_BYTES
    return (0, plain.FIRMWARE_GPA), (above, max(host_gpa - above, 0))


def _write_plain(
    config: MachineConfig, image: Image, layout: Layout, memory: GuestMemory, line: str, generation: bytes
) -> int:
    """Where the generation id is."""
    from ..acpi.dsdt import Window  # for plain guests alone
    from ..acpi.firmware import RESET_VECTOR_GPA, generation_place, reset_code, tables_at

    windows = [Window(mmio_window_gpa(n), MMIO_BYTES, FIRST_MMIO_LINE + n) for n in range(layout.windows)]
    memory.write(plain.FIRMWARE_GPA, tables_at(plain.FIRMWARE_GPA, config.vcpus, windows, generation))
    memory.write(RESET_VECTOR_GPA, reset_code())
    memory_map = _memory_map(image, memory.ranges, layout)
    start = plain.start_information(layout.start_info_gpa, image, memory_map, line, layout.disk)
    memory.write(layout.start_info_gpa, start)
    if image.initial_disk:
        memory.write(layout.disk.gpa, image.initial_disk)
    return generation_place(plain.FIRMWARE_GPA)


def _mode(config: MachineConfig, image: Image) -> int:
    if image.linux:
        return int(lib.PV_MODE_LINUX)
    if image.is_pvh:
        return int(lib.PV_MODE_PVH)
    user = entry_privilege(image, config.privilege) == "user"
    return int(lib.PV_MODE_USER if user else lib.PV_MODE_SUPERVISOR)


def _xcr0(image: Image) -> int:
    """State components of the CPU level that the image asks for (BOOT-10); what boots by itself brings its own."""
    level = image.notes.cpu_level
    if image.is_plain or level < CPU_LEVEL.V3:
        return 0
    return X87 | SSE | AVX | (AVX512 if level >= CPU_LEVEL.V4 else 0)


def _place(config: MachineConfig, image: Image, layout: Layout, line: str, table_pages: int) -> Layout:
    """The host's area, from the top of low RAM down."""
    # The size of the boot information depends on no address; the host's area adds a line or two to its map.
    info_bytes = len(_boot_info(config, image, layout, line)) + 2 * size_of("boot_memory")
    if info_bytes > BOOT_INFO_MOST:
        raise ConfigError(f"the boot information would be {info_bytes} bytes, at most {BOOT_INFO_MOST} fit; give less")
    sizes = {
        "vcpu_pages_gpa": config.vcpus * PAGE_BYTES,
        "time_page_gpa": PAGE_BYTES,
        "continuity_page_gpa": PAGE_BYTES,
        "boot_info_gpa": _pages(info_bytes),
        "start_info_gpa": _pages(plain.start_bytes(image, info_bytes)) if image.is_plain else 0,
        "idt_gpa": PAGE_BYTES,
        "gdt_gpa": _pages(layout.gdt_bytes),
        "tss_gpa": PAGE_BYTES,
        "page_table_gpa": 0,
    }
    # Mapping the area itself splits at most every large page that it touches.
    split = sum(sizes.values()) // LARGE + 2
    end = ram_ranges(config.memory_bytes)[0][1]
    host = at = end - (sum(sizes.values()) + (table_pages + split) * PAGE_BYTES)
    places = {}
    for name, size in sizes.items():
        places[name], at = at, at + size
    return layout._replace(host_gpa=host, host_end_gpa=end, **places)  # type: ignore[arg-type]


def _map_guest(image: Image, ranges: tuple[tuple[int, int], ...], windows: int) -> PageTables:
    tables = PageTables()
    for gpa, size in ranges:
        tables.map(gpa, size, DATA)
    tables.map(0, PAGE_BYTES, 0)
    for s in image.segments:
        flags = PRESENT | USER | (WRITABLE if s.writable else 0) | (0 if s.executable else NO_EXECUTE)
        tables.map(s.gpa, s.memory_bytes, flags)
    if windows:
        tables.map(MMIO_BASE, windows * PAGE_BYTES, DEVICE)
    tables.map(LOCAL_APIC_GPA, PAGE_BYTES, DEVICE)
    return tables


def _map_host(tables: PageTables, layout: Layout) -> None:
    tables.map(layout.time_page_gpa, layout.idt_gpa - layout.time_page_gpa, READ_ONLY)  # and the boot information
    tables.map(layout.gdt_gpa, layout.page_table_gpa - layout.gdt_gpa, SYSTEM)
    tables.map(layout.page_table_gpa, layout.host_end_gpa - layout.page_table_gpa, 0)


def _memory_map(image: Image, ranges: tuple[tuple[int, int], ...], layout: Layout) -> list[tuple[int, int, int]]:
    """(gpa, size, kind) of whole pages in order; page zero is not in it (BOOT-12)."""
    taken: list[tuple[int, int, int]] = []
    used = [(s.gpa, s.end_gpa) for s in image.segments]
    if layout.disk.size_bytes:
        used.append((layout.disk.gpa, layout.disk.gpa + layout.disk.size_bytes))
    for first, last in sorted(used):
        start, end = first // PAGE_BYTES * PAGE_BYTES, _pages(last)
        if taken and start <= taken[-1][1]:
            taken[-1] = (taken[-1][0], max(end, taken[-1][1]), MEMORY_KIND.IMAGE)
        else:
            taken.append((start, end, MEMORY_KIND.IMAGE))
    host_gpa = layout.host_gpa
    taken.append((host_gpa, ranges[0][1], MEMORY_KIND.HOST))
    if image.is_plain:
        taken.append((plain.FIRMWARE_GPA, plain.FIRMWARE_GPA + plain.FIRMWARE_BYTES, MEMORY_KIND.HOST))
    listed = []
    for gpa, size in ranges:
        at = gpa or PAGE_BYTES
        for start, end, kind in sorted(t for t in taken if gpa <= t[0] < gpa + size):
            listed += [(at, start - at, MEMORY_KIND.RAM), (start, end - start, kind)]
            at = end
        listed.append((at, gpa + size - at, MEMORY_KIND.RAM))
    return [entry for entry in listed if entry[1] > 0]


def mmio_command_line(windows: int) -> str:
    """The windows as virtio drivers look for them on a command line."""
    each = (f" virtio_mmio.device=512@{mmio_window_gpa(i):#x}:{FIRST_MMIO_LINE + i}" for i in range(windows))
    return "".join(each)


def _boot_info(config: MachineConfig, image: Image, layout: Layout, line: str) -> bytes:
    level = entry_privilege(image, config.privilege)
    abi = build(
        "boot_abi",
        major=VERSION[0],
        minor=VERSION[1],
        trap_kind=TRAP_KIND.PORT,
        trap=lib.PV_TRAP_PORT,
        doorbell=lib.PV_DOORBELL_PORT,
        privilege=PRIVILEGE.USER if level == "user" else PRIVILEGE.SUPERVISOR,
        vcpu=0,
    )
    memory = b"".join(
        build("boot_memory", gpa=gpa, size_bytes=size, kind=kind, flags=0)
        for gpa, size, kind in _memory_map(image, ram_ranges(config.memory_bytes), layout)
    )
    pages = build(
        "boot_pages",
        time_gpa=layout.time_page_gpa,
        vcpu_gpa=layout.vcpu_pages_gpa,
        vcpu_stride_bytes=PAGE_BYTES,
        continuity_gpa=0 if "continuity" in config.deny else layout.continuity_page_gpa,
    )
    tables = build(
        "boot_tables",
        idt_gpa=layout.idt_gpa,
        code_selector=CODE_SELECTOR[level],
        data_selector=DATA_SELECTOR[level],
        idt_bytes=PAGE_BYTES,
    )
    return join(
        [
            record(BOOT_RECORD.ABI, abi, BOOT_FLAG.MANDATORY),
            record(BOOT_RECORD.MEMORY_MAP, memory),
            record(BOOT_RECORD.VCPUS, build("boot_vcpus", count=config.vcpus, flags=0)),
            record(BOOT_RECORD.PAGES, pages),
            record(BOOT_RECORD.COMMAND_LINE, line.encode() + b"\0"),
            record(BOOT_RECORD.MACHINE, build("boot_machine", uuid=config.uuid, name=config.name.encode())),
            record(BOOT_RECORD.SEED, os.urandom(SEED_BYTES)),
            *([] if image.is_plain else [record(BOOT_RECORD.TABLES, tables)]),
            *(record(kind, payload, flags) for kind, flags, payload in config.boot_records),
        ]
    )
