"""``paravirt extension``: which extensions there are, what one says of itself, the header for its guests."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..abi import Call
from ..config import parse_extension
from ..extensions import GROUP, open_extension
from ..extensions.base import Extension
from ..extensions.header import guest_header
from .common import add_command, print_json, show, table

PACKAGES = Path(__file__).resolve().parents[2]
INCLUDES = (PACKAGES / "paravirt/extensions/include", PACKAGES / "hypercall_abi/include")

EPILOG = """\
examples:
  paravirt extension list
  paravirt extension show ./counter.so
  paravirt extension header ./counter.so > counter.h
  gcc $(paravirt extension cflags) -shared -fPIC -o counter.so counter.c
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "extension", "show extensions, and what a guest needs to call them", EPILOG)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = add_command(actions, "list", "the plug-ins that are installed", EPILOG)
    shown = add_command(actions, "show", "what an extension says of itself", EPILOG)
    header = add_command(actions, "header", "the C header for guests that call it", EPILOG)
    add_command(actions, "cflags", "where a binary module's compiler finds its headers", EPILOG)
    for action in (listing, shown):
        action.add_argument("--json", action="store_true", help="print one JSON object")
    for action in (shown, header):
        action.add_argument("extension", metavar="NAME", help="the path of a binary module, or the name of a plug-in")


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ExtensionError."""
    if args.action == "list":
        _list(args.json)
        return 0
    if args.action == "cflags":
        show(" ".join(f"-I{directory}" for directory in INCLUDES))
        return 0
    extension = open_extension(parse_extension(args.extension))
    try:
        if args.action == "header":
            show(guest_header(extension).rstrip())
        elif args.json:
            print_json(describe(extension))
        else:
            show(_text(extension))
    finally:
        extension.close()
    return 0


def _list(as_json: bool) -> None:
    from ..extensions.plugin import plugins

    found = {name: point.value for name, point in sorted(plugins().items())}
    if as_json:
        print_json(found)
    elif found:
        show(table([("NAME", "CLASS"), *found.items()]))
    else:
        show(f"no plug-in is installed (entry points of {GROUP}); a binary module is named by its path")


def describe(extension: Extension) -> dict[str, Any]:
    """What is known of it, in plain values."""
    return {
        "name": extension.name,
        "vendor": extension.vendor,
        "version": extension.version,
        "service": extension.service.number,
        "features": extension.features,
        "state_version": extension.state_version,
        "calls": {name: {"number": c.number, "registers": c.registers} for name, c in extension.service.calls.items()},
    }


def _text(extension: Extension) -> str:
    number = extension.service.number
    facts = [
        ("service", f"{extension.name} ({number:#x}, {'experiment' if number >= 0xC000 else 'vendor'})"),
        ("vendor", extension.vendor or "not said"),
        ("version", extension.version or "not said"),
        ("features", f"{extension.features:#x}"),
        ("state", f"version {extension.state_version}"),
    ]

    def row(name: str, call: Call) -> tuple[str, str, str]:
        return f"0x{number << 16 | call.number:08x}", f"{extension.name}.{name}", str(call.registers)

    calls = [row(name, call) for name, call in extension.service.calls.items()]
    return f"{table(facts)}\n\n{table([('ID', 'CALL', 'REGISTERS'), *calls])}"
