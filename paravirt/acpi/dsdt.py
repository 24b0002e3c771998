"""Which devices the machine has, for the table DSDT: the serial port, virtio-mmio windows, ours, the generation id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .._native import lib
from . import aml

VIRTIO_ID = "LNRO0005"  # by which Linux and others know a virtio-mmio window
PLATFORM_ID = "PVRT0001"
GENERATION_ID = "PVRT0002"
CHANGED = 0x80  # what a VM generation id notifies with


class Window(NamedTuple):
    """A virtio-mmio window."""

    gpa: int
    size_bytes: int
    line: int


def _serial() -> bytes:
    return aml.device(
        "COM1",
        aml.define("_HID", aml.eisa_id("PNP0501")),
        aml.define("_UID", aml.integer(1)),
        aml.define("_CRS", aml.resources(aml.ports(lib.PV_SERIAL_PORT, lib.PV_SERIAL_PORTS),
                                         aml.interrupt(lib.PV_SERIAL_LINE))),
    )  # fmt: skip


def _window(number: int, window: Window) -> bytes:
    return aml.device(
        f"VR{number:02X}",
        aml.define("_HID", aml.string(VIRTIO_ID)),
        aml.define("_UID", aml.integer(number)),
        aml.define("_CRS", aml.resources(aml.memory(window.gpa, window.size_bytes), aml.interrupt(window.line))),
    )


def _platform() -> bytes:
    """The hypercall ABI itself: the ports of its trap and doorbell; the rest a driver learns by CPUID."""
    return aml.device(
        "PVRT",
        aml.define("_HID", aml.string(PLATFORM_ID)),
        aml.define("_UID", aml.integer(0)),
        aml.define("_CRS", aml.resources(aml.ports(lib.PV_TRAP_PORT, 4), aml.ports(lib.PV_DOORBELL_PORT, 4))),
    )


def _generation(gpa: int) -> bytes:
    """The VM generation id ("Virtual Machine Generation ID", Microsoft): where its 16 bytes lie."""
    return aml.device(
        "VGEN",
        aml.define("_HID", aml.string(GENERATION_ID)),
        aml.define("_CID", aml.package(aml.string("VM_Gen_Counter"), aml.string("VMGENCTR"))),
        aml.define("_DDN", aml.string("VM_Gen_Counter")),
        aml.define("ADDR", aml.package(aml.integer(gpa & 0xFFFF_FFFF), aml.integer(gpa >> 32))),
    )


def _events() -> bytes:
    """The generic event device (5.6.9): its one interrupt says that the generation id has changed."""
    return aml.device(
        "GEDV",
        aml.define("_HID", aml.string("ACPI0013")),
        aml.define("_UID", aml.integer(0)),
        aml.define("_CRS", aml.resources(aml.interrupt(lib.PV_GENERATION_LINE))),
        aml.method("_EVT", 1, aml.notify("\\_SB_.VGEN", CHANGED)),
    )


def definitions(windows: Sequence[Window], generation_gpa: int) -> bytes:
    """The body of the DSDT."""
    fixed = _serial(), _platform(), _generation(generation_gpa), _events()
    devices = *fixed, *(_window(n, w) for n, w in enumerate(windows))
    off = aml.package(*(aml.integer(n) for n in (lib.PV_SLEEP_TYPE_OFF, 0, 0, 0)))
    return aml.define("\\_S5_", off) + aml.scope("\\_SB_", *devices)
