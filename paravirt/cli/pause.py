"""``paravirt pause``: a running guest is told, and stands still."""

from __future__ import annotations

import argparse

from ..errors import ConfigError
from .common import add_command, print_json, show

QUIET_MOST_S = 30.0
EPILOG = """\
A guest that has subscribed to the service continuity is told first and waited for; its time stands still then.

examples:
  paravirt pause my-guest
  paravirt resume my-guest
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "pause", "have a running guest stand still", EPILOG)
    parser.add_argument("machine", metavar="MACHINE", help="a name, a process, or the beginning of a UUID")
    parser.add_argument(
        "--timeout", type=float, default=1.0, metavar="S", help="how long to wait for a guest that was told (1)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ParavirtError."""
    from ..control.client import Remote

    if not 0 <= args.timeout <= QUIET_MOST_S:
        raise ConfigError(f"a time-out of {args.timeout:g} s: a guest is waited for from 0 to {QUIET_MOST_S:g} s")
    machine = Remote(args.machine)
    quiet = machine.ask("pause", timeout_s=args.timeout)
    if args.json:
        print_json(quiet)
    elif not quiet["told"]:
        show(f"{machine.name}: paused; the guest has not asked to be told")
    elif quiet["acknowledged"]:
        show(f"{machine.name}: paused; the guest was quiet after {quiet['waited_ns'] / 1e6:.1f} ms")
    else:
        show(f"{machine.name}: paused; the guest was told and has not acknowledged within {args.timeout:g} s")
    return 0
