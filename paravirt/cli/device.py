"""``paravirt device``: devices that come, go and change while their machine runs; and those without one of ours."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, GuestTimeout
from . import device_serve
from .common import add_command, given, print_json, show, table

if TYPE_CHECKING:
    from ..control.client import Remote

EPILOG = """\
MACHINE is a machine of this user's: its name, its process or the beginning of its UUID, as paravirt top shows them.
A device that arrives stands in the image's manifest as one that may be missing.

examples:
  paravirt device list my-guest
  paravirt device add my-guest --disk data=disk.img
  paravirt device grow my-guest data 2G
  paravirt device remove my-guest data
  paravirt device link my-guest lan down
  paravirt device block --socket disk.sock --disk disk.img
"""
KINDS = ("disk", "net", "vsock")
LOOK_S = 0.05


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(
        subparsers, "device", "attach, detach and change devices of a running machine, or serve one to others", EPILOG
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = _add_verb(verbs, "list", "show the devices of a machine")
    listing.add_argument("--json", action="store_true", help="print one JSON array")
    add = _add_verb(verbs, "add", "attach devices, as paravirt run takes them").add_argument
    add("--disk", action="append", default=[], metavar="NAME=PATH[,ro]", help="a disk; may be repeated")
    add("--net", action="append", default=[], metavar="NAME[=LINK]", help="a network; may be repeated")
    add("--vsock", action="append", default=[], metavar="NAME=PATH[,cid=N]", help="a vsock; may be repeated")
    remove = _add_verb(verbs, "remove", "detach a device, once the guest gives it back")
    remove.add_argument("name", metavar="NAME", help="the device")
    remove.add_argument("--timeout", type=float, default=30.0, metavar="S", help="how long to wait for the guest (30)")
    grow = _add_verb(verbs, "grow", "make a disk larger, or tell the guest that its file is")
    grow.add_argument("name", metavar="NAME", help="the disk")
    grow.add_argument("size", metavar="SIZE", nargs="?", help="how large it is to be (as its file is now)")
    link = _add_verb(verbs, "link", "plug the cable of a network in or out")
    link.add_argument("name", metavar="NAME", help="the network")
    link.add_argument("state", choices=("up", "down"), help="in, or out")
    device_serve.add_parsers(verbs)


def _add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    parser = add_command(verbs, name, summary, EPILOG)
    parser.add_argument("machine", metavar="MACHINE", help="a name, a process, or the beginning of a UUID")
    return parser


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ParavirtError."""
    if args.verb in device_serve.KINDS:
        return device_serve.run(args)
    from ..control.client import Remote

    does = {"list": _list, "add": _add, "remove": _remove, "grow": _grow, "link": _link}[args.verb]
    does(Remote(args.machine), args)
    return 0


def _list(machine: Remote, args: argparse.Namespace) -> None:
    devices = machine.ask("device list")
    if args.json:
        print_json(devices)
    elif devices:
        show(table([(each["name"], each["kind"], "leaving" if each["leaving"] else "") for each in devices]))
    else:
        show(f"the machine {machine.name!r} has no devices")


def _add(machine: Remote, args: argparse.Namespace) -> None:
    wanted = [(kind, text) for kind in KINDS for text in getattr(args, kind)]
    if not wanted:
        raise ConfigError(f"nothing is to be attached; give {', '.join(f'--{kind}' for kind in KINDS)}")
    try:
        directory = str(Path.cwd())
    except OSError as error:
        raise ConfigError(f"the current directory is gone ({error.strerror}); change to another") from error
    for kind, text in wanted:
        machine.ask("device add", kind=kind, text=text, directory=directory)


def _remove(machine: Remote, args: argparse.Namespace) -> None:
    if not 0 <= args.timeout < 1e9:
        raise ConfigError(f"a time-out of {args.timeout:g} s: it must be from 0 to 10^9")
    until = time.monotonic() + args.timeout
    gone = machine.ask("device remove", name=args.name)
    while not gone:
        if time.monotonic() >= until:
            raise GuestTimeout(
                f"the guest has not given {args.name!r} back within {args.timeout:g} s; it was asked to, and the "
                "device goes when it does"
            )
        time.sleep(LOOK_S)
        gone = not any(each["leaving"] and each["name"] == args.name for each in machine.ask("device list"))


def _grow(machine: Remote, args: argparse.Namespace) -> None:
    from ..config import parse_size, show_size

    size_bytes = None if args.size is None else given("SIZE", parse_size, args.size)
    show(f"{args.name}: {show_size(machine.ask('device grow', name=args.name, size_bytes=size_bytes))}")


def _link(machine: Remote, args: argparse.Namespace) -> None:
    machine.ask("device link", name=args.name, up=args.state == "up")
