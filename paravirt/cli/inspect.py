"""``paravirt inspect``: what an image says of itself, as checked as for a run."""

from __future__ import annotations

import argparse
from typing import Any

from hypercall_abi import CONSTANTS, SERVICES
from hypercall_abi.notes import PRIVILEGE

from ..boot.bundled import find_image
from ..boot.image import Image, Segment, load_image
from ..boot.notes import DeviceEntry
from ..config import show_size
from .common import add_command, print_json, show, table

EPILOG = """\
examples:
  paravirt inspect demo
  paravirt inspect my-guest.elf --json
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "inspect", "show what an image says of itself: notes, manifest, segments", EPILOG)
    parser.add_argument("image", metavar="IMAGE", help="an ELF file, or the name of a bundled guest")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


KINDS = {
    "paravirt": "paravirt guest",
    "pvh": "plain guest, entered by PVH",
    "linux": "plain guest, entered by Linux's boot protocol",
}


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ImageError."""
    facts = describe(load_image(find_image(args.image)))
    if args.json:
        print_json(facts)
    else:
        show(_text(facts))
    return 0


def describe(image: Image) -> dict[str, Any]:
    """What is known of `image`, in plain values; addresses and sizes are numbers."""
    notes = image.notes
    return {
        "path": str(image.path),
        "kind": "linux" if image.linux else "pvh" if image.is_pvh else "paravirt",
        "entry_gpa": image.entry_gpa,
        "pvh_entry_gpa": notes.pvh_entry_gpa,
        "abi": list(notes.version) if notes.version else None,
        "services": [{"service": _service(n), "features": f} for n, f in notes.services.items()],
        "privilege": PRIVILEGE.name_of(notes.privilege).lower(),
        "cpu_level": notes.cpu_level,
        "manifest": None if image.is_plain else [_entry(e) for e in notes.manifest],
        "segments": [_segment(s) for s in image.segments],
    }


def _service(number: int) -> str:
    return next((s.name for s in SERVICES.values() if s.number == number), f"{number:#x}")


def _entry(entry: DeviceEntry) -> dict[str, Any]:
    kind = CONSTANTS["device_type"].name_of(entry.type).lower()
    return {"name": entry.name, "type": kind, "optional": entry.optional, "read_only": entry.read_only}


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "number": segment.number,
        "gpa": segment.gpa,
        "file_bytes": len(segment.data),
        "memory_bytes": segment.memory_bytes,
        "permissions": segment.permissions,
    }


def _text(facts: dict[str, Any]) -> str:
    head = [
        ["image", facts["path"]],
        ["kind", KINDS[facts["kind"]]],
        ["entry", f"{facts['entry_gpa']:#x}"],
    ]
    if facts["kind"] == "paravirt":
        if facts["pvh_entry_gpa"] is not None:
            head.append(["PVH entry", f"{facts['pvh_entry_gpa']:#x} (boots elsewhere too)"])
        head += [
            ["ABI", ".".join(map(str, facts["abi"])) if facts["abi"] else "any"],
            ["services", ", ".join(map(_service_text, facts["services"])) or "none required"],
            ["privilege", facts["privilege"]],
            ["CPU", f"x86-64-v{facts['cpu_level']}"],
        ]
    return "\n".join([table(head), "", _manifest_text(facts["manifest"]), "", _segments_text(facts["segments"])])


def _service_text(service: dict[str, Any]) -> str:
    features = f" (features {service['features']:#x})" if service["features"] else ""
    return f"{service['service']}{features}"


def _manifest_text(manifest: list[dict[str, Any]] | None) -> str:
    if manifest is None:
        return "devices: every one is offered"
    if not manifest:
        return "devices: none"
    rows = [["device", "type", "needed", "access"]]
    for e in manifest:
        needed, access = "no" if e["optional"] else "yes", "read" if e["read_only"] else "read, write"
        rows.append([e["name"], e["type"], needed, access])
    return table(rows)


def _segments_text(segments: list[dict[str, Any]]) -> str:
    rows = [["segment", "from", "to", "access", "file", "memory"]]
    for s in segments:
        end = s["gpa"] + s["memory_bytes"]
        sizes = (show_size(s["file_bytes"]), show_size(s["memory_bytes"]))
        rows.append([str(s["number"]), f"{s['gpa']:#x}", f"{end:#x}", s["permissions"], *sizes])
    return table(rows)
