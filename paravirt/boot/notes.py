"""The ELF notes of an image: what it needs and which devices it wants (rules NOTE-1 to NOTE-4).

The bytes are hostile: everything is checked here, once, and what comes out is plain values.  Where
the notes lie in the file is for ``image.py``; whether the host can give what they ask for, too;
the manifest is matched with the user's disks in ``manifest.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .._native import lib
from ..abi import Constants, parse, size_of, text
from ..errors import BadNote

CPU_LEVEL = Constants("CPU_LEVEL")
DEVICE_FLAG = Constants("DEVICE_FLAG")
NOTE = Constants("NOTE")
PRIVILEGE = Constants("PRIVILEGE")

OWNER = "Paravirt"
XEN_OWNER = "Xen"
XEN_PHYS32_ENTRY = 18  # the PVH entry point

_HEADER = struct.Struct("<III")  # size of the name, size of the payload, type


class DeviceEntry(NamedTuple):
    """One line of the manifest."""

    type: int
    name: str
    optional: bool
    read_only: bool


class Notes(NamedTuple):
    """What the notes say; the defaults are what an image without them says."""

    present: bool = False
    """False: no Paravirt note at all, a plain guest (NOTE-4)."""
    version: tuple[int, int] | None = None
    """Major and minor version of the ABI required."""
    services: dict[int, int] = {}
    """Services required: number → features."""
    manifest: tuple[DeviceEntry, ...] = ()
    privilege: int = PRIVILEGE.ANY
    cpu_level: int = CPU_LEVEL.V1
    pvh_entry_gpa: int | None = None


def _malformed(what: str) -> BadNote:
    return BadNote(f"{what}; build the image again with the macros of paravirt/notes.h", rule="NOTE-1")


def walk(area: bytes, align: int) -> Iterator[tuple[str, int, bytes]]:
    """Owner, type and payload of each note in `area`, whose notes are padded to `align` (4 or 8) bytes."""
    at = 0
    while at < len(area):
        if len(area) - at < _HEADER.size:
            if any(area[at:]):
                raise _malformed("the notes end in the middle of a header")
            return  # padding
        name_bytes, payload_bytes, kind = _HEADER.unpack_from(area, at)
        name_at = at + _HEADER.size
        payload_at = name_at + name_bytes + -name_bytes % 4
        payload_at += -payload_at % align
        end = payload_at + payload_bytes
        if name_at + name_bytes > len(area) or end > len(area):
            raise _malformed(f"a note at offset {at:#x} of its segment is longer than the segment")
        owner = area[name_at : name_at + name_bytes].rstrip(b"\0").decode("latin-1")
        yield owner, kind, area[payload_at:end]
        at = end + -end % align


def _records(record: str, payload: bytes, what: str) -> list[Any]:
    each = size_of(record)
    if len(payload) % each:
        raise _malformed(f"the note {what} has {len(payload)} bytes, not a multiple of {each}")
    return [parse(record, payload[at : at + each]) for at in range(0, len(payload), each)]


def _one(record: str, payload: bytes, what: str) -> Any:
    if len(payload) != size_of(record):
        raise _malformed(f"the note {what} has {len(payload)} bytes instead of {size_of(record)}")
    return _records(record, payload, what)[0]


def _require(payload: bytes) -> dict[str, Any]:
    head_bytes = size_of("note_require")
    head = _one("note_require", payload[:head_bytes], "REQUIRE")
    services = _records("note_service", payload[head_bytes:], "REQUIRE")
    if head.services != len(services):
        raise _malformed(f"the note REQUIRE counts {head.services} services and holds {len(services)}")
    if any(s.flags for s in services):
        raise _malformed("the note REQUIRE has flags that are not defined")
    required = {s.service: s.features for s in services}
    if len(required) != len(services):
        raise _malformed("the note REQUIRE names a service twice")
    return {"version": (head.major, head.minor), "services": required}


def _manifest(payload: bytes) -> dict[str, Any]:
    entries = []
    for device in _records("note_device", payload, "MANIFEST"):
        try:
            name = text(device.name)
        except UnicodeDecodeError as error:
            raise _malformed("the manifest has a device whose name is not UTF-8") from error
        if device.flags & ~(DEVICE_FLAG.OPTIONAL | DEVICE_FLAG.READ_ONLY):
            raise _malformed(f"the manifest's device {name!r} has flags that are not defined")
        if not name or not name.isprintable():
            raise _malformed(f"the manifest's device {name!r} has no proper name")
        optional, read_only = (bool(device.flags & f) for f in (DEVICE_FLAG.OPTIONAL, DEVICE_FLAG.READ_ONLY))
        entries.append(DeviceEntry(device.type, name, optional, read_only))
    if len({e.name for e in entries}) != len(entries):
        raise _malformed("the manifest names a device twice")
    if len(entries) > lib.PV_LIMIT_DEVICES:
        raise _malformed(f"the manifest has {len(entries)} devices, more than {lib.PV_LIMIT_DEVICES}")
    return {"manifest": tuple(entries)}


def _privilege(payload: bytes) -> dict[str, Any]:
    note = _one("note_privilege", payload, "PRIVILEGE")
    if note.flags or note.privilege not in PRIVILEGE.names():
        raise _malformed(f"the note PRIVILEGE has the value {note.privilege}, flags {note.flags}")
    return {"privilege": note.privilege}


def _cpu(payload: bytes) -> dict[str, Any]:
    note = _one("note_cpu", payload, "CPU")
    if note.flags or note.level not in CPU_LEVEL.names():
        raise _malformed(f"the note CPU has the level {note.level}, flags {note.flags}")
    return {"cpu_level": note.level}


def _pvh(payload: bytes) -> dict[str, Any]:
    if len(payload) not in (4, 8):
        raise BadNote(f"the PVH note (Xen, type 18) has {len(payload)} bytes; it must have 4 or 8")
    return {"pvh_entry_gpa": int.from_bytes(payload, "little")}


_PARSERS: dict[tuple[str, int], Callable[[bytes], dict[str, Any]]] = {
    (OWNER, NOTE.REQUIRE): _require,
    (OWNER, NOTE.MANIFEST): _manifest,
    (OWNER, NOTE.PRIVILEGE): _privilege,
    (OWNER, NOTE.CPU): _cpu,
    (XEN_OWNER, XEN_PHYS32_ENTRY): _pvh,
}


def parse_notes(areas: list[tuple[bytes, int]]) -> Notes:
    """The notes in `areas`, each the bytes of a note segment and its alignment.  Raises BadNote."""
    values: dict[str, Any] = {}
    seen: set[tuple[str, int]] = set()
    ours_bytes = 0
    for area, align in areas:
        for owner, kind, payload in walk(area, align):
            parser = _PARSERS.get((owner, kind))
            if owner == OWNER:
                values["present"] = True
                ours_bytes += len(payload)
                if ours_bytes > lib.PV_LIMIT_NOTE_BYTES:
                    raise _malformed(f"the Paravirt notes hold more than {lib.PV_LIMIT_NOTE_BYTES} bytes")
                if parser is None and kind >= NOTE.MANDATORY:
                    raise BadNote(
                        f"the image has a note of type {kind:#x} that a host must know; it is for a newer paravirt",
                        rule="NOTE-2",
                    )
            if parser is None:
                continue
            if (owner, kind) in seen:
                raise _malformed(f"the note {owner} {NOTE.name_of(kind) if owner == OWNER else kind} stands twice")
            seen.add((owner, kind))
            values |= parser(payload)
    return Notes(**values)
