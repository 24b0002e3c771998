"""The fixed tables of ACPI (6.5, chapter 5): heads with their checksums, XSDT, FADT, MADT, and the RSDP."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .._native import lib

OEM, OEM_TABLE, CREATOR = b"PVRT  ", b"PARAVIRT", b"PVRT"
LOCAL_APIC_GPA, IO_APIC_GPA = 0xFEE0_0000, 0xFEC0_0000

_HEAD = struct.Struct("<4sIBB6s8sI4sI")
_RSDP = struct.Struct("<8sB6sBIIQB3x")
_RSDP_OLD_BYTES = 20  # what its first checksum is of
_FADT_BYTES, _FADT_REVISION, _FADT_MINOR = 276, 6, 5
# Flags: WBINVD works; power and sleep buttons are not fixed hardware; reset register; headless; no PC hardware.
_FADT_FLAGS = 1 << 0 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 12 | 1 << 20
_NO_VGA, _NO_CMOS_CLOCK = 1 << 2, 1 << 5  # and, being zeros, neither legacy devices nor a keyboard controller
_SPACE_PORT, _ACCESS_BYTE = 1, 1
_MADT_LOCAL_APIC, _MADT_IO_APIC, _ENABLED = 0, 1, 1


def _checksum(data: bytes | bytearray) -> int:
    return -sum(data) & 0xFF


def table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A table: its head, then `body`."""
    size = _HEAD.size + len(body)
    parts = (signature, size, revision, 0, OEM, OEM_TABLE, 1, CREATOR, 1)
    data = bytearray(_HEAD.pack(*parts) + body)
    data[9] = _checksum(data)
    return bytes(data)


def rsdp(xsdt_gpa: int) -> bytes:
    """The pointer with which all begins; no RSDT, which would be for 32 bits."""
    data = bytearray(_RSDP.pack(b"RSD PTR ", 0, OEM, 2, 0, _RSDP.size, xsdt_gpa, 0))
    data[8] = _checksum(data[:_RSDP_OLD_BYTES])
    data[32] = _checksum(data)
    return bytes(data)


def xsdt(tables: Sequence[int]) -> bytes:
    """Where the other tables lie."""
    return table(b"XSDT", 1, struct.pack(f"<{len(tables)}Q", *tables))


def _port(number: int) -> bytes:
    """A register of a byte, as a generic address (5.2.3.2)."""
    return struct.pack("<BBBBQ", _SPACE_PORT, 8, 0, _ACCESS_BYTE, number)


def fadt(dsdt_gpa: int) -> bytes:
    """Fixed hardware: none but what ends and resets the machine (5.2.9)."""
    data = bytearray(_FADT_BYTES)
    struct.pack_into("<H", data, 109, _NO_VGA | _NO_CMOS_CLOCK)
    struct.pack_into("<I", data, 112, _FADT_FLAGS)
    data[116:128] = _port(lib.PV_RESET_PORT)
    data[128] = lib.PV_RESET_VALUE
    data[131] = _FADT_MINOR
    struct.pack_into("<Q", data, 140, dsdt_gpa)
    data[244:256] = _port(lib.PV_SLEEP_CONTROL_PORT)
    data[256:268] = _port(lib.PV_SLEEP_STATUS_PORT)
    data[268:276] = OEM_TABLE
    return table(b"FACP", _FADT_REVISION, bytes(data[_HEAD.size :]))


def madt(vcpus: int) -> bytes:
    """Interrupt controllers: a local APIC for each vCPU, and the I/O APIC, whose inputs begin at zero (5.2.12)."""
    body = struct.pack("<II", LOCAL_APIC_GPA, 0)
    for index in range(vcpus):
        body += struct.pack("<BBBBI", _MADT_LOCAL_APIC, 8, index, index, _ENABLED)
    body += struct.pack("<BBBBII", _MADT_IO_APIC, 12, 0, 0, IO_APIC_GPA, 0)
    return table(b"APIC", 5, body)
