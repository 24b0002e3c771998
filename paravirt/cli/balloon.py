"""``paravirt balloon``: how much of its memory a running guest is asked to give back."""

from __future__ import annotations

import argparse

from .common import add_command, given, print_json, show

EPILOG = """\
The guest is asked, not forced, and may take its time; without SIZE nothing is asked for.

examples:
  paravirt balloon my-guest 256M
  paravirt balloon my-guest
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "balloon", "ask a running guest for memory", EPILOG)
    parser.add_argument("machine", metavar="MACHINE", help="a name, a process, or the beginning of a UUID")
    parser.add_argument(
        "size", metavar="SIZE", nargs="?", help="how much it is to give, in place of what was asked for"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ParavirtError."""
    from ..config import parse_size, show_size
    from ..control.client import Remote

    size = {} if args.size is None else {"target_bytes": given("SIZE", parse_size, args.size)}
    memory = Remote(args.machine).ask("balloon", **size)
    if args.json:
        print_json(memory)
    else:
        show(f"asked for {show_size(memory['target_bytes'])}, given {show_size(memory['balloon_bytes'])}")
    return 0
