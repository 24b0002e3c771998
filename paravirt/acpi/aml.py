"""ACPI's machine language (ACPI 6.5, 20.2), as far as our definitions need it: names, devices, resources.

Each function encodes one construct and takes those inside of it as bytes.
"""

from __future__ import annotations

import struct

_NAME, _SCOPE, _DEVICE, _PACKAGE, _BUFFER, _STRING = b"\x08", b"\x10", b"\x5b\x82", b"\x12", b"\x11", b"\x0d"
_ROOT, _DUAL, _MULTI = b"\\", b"\x2e", b"\x2f"
_METHOD, _NOTIFY = b"\x14", b"\x86"
_END_TAG = b"\x79\x00"  # a checksum of zero: none
_CONSUMER, _EDGE = 1, 2  # of an interrupt; active high and exclusive are zeros


def name(path: str) -> bytes:
    """A name such as ``_HID``, ``COM1`` or ``\\_SB_.COM1``; each segment has four characters."""
    root = _ROOT if path.startswith("\\") else b""
    segments = [part.ljust(4, "_").encode("ascii") for part in path.lstrip("\\").split(".")]
    prefix = {1: b"", 2: _DUAL}.get(len(segments), _MULTI + bytes([len(segments)]))
    return root + prefix + b"".join(segments)


def integer(value: int) -> bytes:
    """A number in the shortest form."""
    if value in (0, 1):
        return bytes([value])
    for prefix, form in ((b"\x0a", "<B"), (b"\x0b", "<H"), (b"\x0c", "<I"), (b"\x0e", "<Q")):
        if value < 1 << 8 * struct.calcsize(form):
            return prefix + struct.pack(form, value)
    raise ValueError(f"{value:#x} does not fit 64 bits")


def string(text: str) -> bytes:
    """Text in ASCII."""
    return _STRING + text.encode("ascii") + b"\0"


def eisa_id(identifier: str) -> bytes:
    """An identifier such as ``PNP0501`` in the compressed form that stands for it (19.6.36)."""
    letters = [ord(letter) - 0x40 for letter in identifier[:3]]
    number = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(identifier[3:], 16)
    return integer(int.from_bytes(struct.pack(">I", number), "little"))


def _sized(body: bytes) -> bytes:
    """A construct's contents behind its own length, which counts itself (PkgLength)."""
    if len(body) + 1 < 1 << 6:
        return bytes([len(body) + 1]) + body
    for more in (1, 2, 3):
        length = len(body) + 1 + more
        if length < 1 << 4 + 8 * more:
            return bytes([more << 6 | length & 0xF]) + (length >> 4).to_bytes(more, "little") + body
    raise ValueError(f"{len(body)} bytes are too many for one construct")


def define(path: str, value: bytes) -> bytes:
    """Name (path, value)."""
    return _NAME + name(path) + value


def scope(path: str, *contents: bytes) -> bytes:
    """Scope (path) {…}."""
    return _SCOPE + _sized(name(path) + b"".join(contents))


def device(path: str, *contents: bytes) -> bytes:
    """Device (path) {…}."""
    return _DEVICE + _sized(name(path) + b"".join(contents))


def method(path: str, arguments: int, *terms: bytes) -> bytes:
    """Method (path, arguments) {…}."""
    return _METHOD + _sized(name(path) + bytes([arguments]) + b"".join(terms))


def notify(path: str, value: int) -> bytes:
    """Notify (path, value)."""
    return _NOTIFY + name(path) + integer(value)


def package(*elements: bytes) -> bytes:
    """Package () {…}."""
    return _PACKAGE + _sized(bytes([len(elements)]) + b"".join(elements))


def resources(*descriptors: bytes) -> bytes:
    """ResourceTemplate () {…}, of what follows."""
    body = b"".join(descriptors) + _END_TAG
    return _BUFFER + _sized(integer(len(body)) + body)


def memory(gpa: int, size_bytes: int) -> bytes:
    """Memory32Fixed: a range of registers, to be read and written (6.4.3.4)."""
    return struct.pack("<BHBII", 0x86, 9, 1, gpa, size_bytes)


def ports(first: int, count: int) -> bytes:
    """IO: ports from `first` on, all 16 bits of them decoded (6.4.2.5)."""
    return struct.pack("<BBHHBB", 0x47, 1, first, first, 1, count)


def interrupt(line: int) -> bytes:
    """Interrupt: an input of the I/O APIC, edge, active high, exclusive (6.4.3.6)."""
    return struct.pack("<BHBBI", 0x89, 6, _CONSUMER | _EDGE, 1, line)
