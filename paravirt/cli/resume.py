"""``paravirt resume``: a guest that was paused goes on."""

from __future__ import annotations

import argparse

from .common import add_command, print_json, show

REASONS = ("resumed", "restored", "cloned", "migrated")
EPILOG = """\
A guest that has subscribed to the service continuity is told how much time it missed.  If the whole host was copied
or restored while the machine was paused, --as says so: the machine becomes another one, with a new generation id.

examples:
  paravirt pause my-guest
  paravirt resume my-guest
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "resume", "let a guest that was paused go on", EPILOG)
    parser.add_argument("machine", metavar="MACHINE", help="a name, a process, or the beginning of a UUID")
    parser.add_argument(
        "--as",
        dest="event",
        choices=REASONS,
        default=REASONS[0],
        help="what happened to it meanwhile, by other means than paravirt's, as the guest is told (resumed)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ParavirtError."""
    from ..control.client import Remote

    machine = Remote(args.machine)
    missed_ns = machine.ask("resume", event=args.event)
    if args.json:
        print_json({"missed_ns": missed_ns})
    else:
        show(f"{machine.name}: goes on after {missed_ns / 1e9:.3f} s")
    return 0
