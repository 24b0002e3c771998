"""``paravirt dump``: an ELF core of a running machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from .common import add_command, check_output, print_json, show

EPILOG = """\
The guest stands still while the core is written; the file is as sparse as its memory is.

examples:
  paravirt dump my-guest core
  gdb my-guest.elf core
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "dump", "write a core of a running machine, for gdb", EPILOG)
    parser.add_argument("machine", metavar="MACHINE", help="a name, a process, or the beginning of a UUID")
    parser.add_argument("file", metavar="FILE", type=Path, help="where the core is written; an old one is replaced")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ParavirtError."""
    from ..control.client import Remote

    check_output(args.file, "FILE")
    size = Remote(args.machine).ask("dump", path=str(args.file), directory=str(Path.cwd()))
    if args.json:
        print_json({"file": str(args.file), "memory_bytes": size})
    else:
        show(f"{args.file}: {size >> 10}K of memory")
    return 0
