"""``paravirt conform``: judges a host by the conformance images, or a guest; packs the images for release."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ACCELERATORS
from ..errors import ConfigError
from .common import add_command, check_output, given, print_json, show

if TYPE_CHECKING:
    from ..conform.host import Run

EPILOG = """\
examples:
  paravirt conform host
  paravirt conform host --chapter calls --chapter event --privilege user
  paravirt conform host --launcher 'my-vmm --kernel {image} --cpus {vcpus}' --junit result.xml
  paravirt conform guest my-guest.elf --disk data=disk.img
  paravirt conform images .
"""

IMAGES_EPILOG = """\
examples:
  paravirt conform images .
"""

HOST_EPILOG = """\
Without --launcher this package's own host is judged. A launcher is any command that boots the ELF file
{image} and puts its console on standard output; it may also use {disk} (a raw disk of 1 MiB, to be
attached under the name scratch), {fixed} (one of 64 KiB, to be attached read-only as fixed), {mapped} and
{frozen} (the same for mapped disks, of 2052 KiB and 64 KiB), {socks} (a path for a vsock's socket),
{memory}, {vcpus} and {privilege}. The exit
status is 0 if every case passed, 1 if not.

examples:
  paravirt conform host
  paravirt conform host --chapter calls --chapter event --privilege user
  paravirt conform host --launcher 'my-vmm --kernel {image} --cpus {vcpus}' --junit result.xml
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "conform", "judge a host or a guest", EPILOG)
    sides = parser.add_subparsers(dest="side", metavar="SIDE", required=True)
    _add_host(sides)
    _add_guest(sides)
    _add_images(sides)


def _add_host(sides: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = add_command(sides, "host", "run the images that judge a host", HOST_EPILOG).add_argument
    add("--launcher", metavar="COMMAND", help="the host to judge: a command with {image} in it (paravirt run)")
    add("--chapter", action="append", default=[], metavar="NAME", help="only this chapter; may be repeated (all)")
    add("--privilege", choices=("user", "supervisor", "both"), default="both",
        help="level (CPL 3 or 0) at which images run (both)")  # fmt: skip
    add("--vcpus", type=int, default=2, metavar="N", help="virtual CPUs (2)")
    add("--memory", default="64M", metavar="SIZE", help="guest memory (64M)")
    add("--poison", action=argparse.BooleanOptionalAction, default=True,
        help="have our host scramble whatever the ABI calls undefined (yes)")  # fmt: skip
    add("--accel", choices=ACCELERATORS, help="what our host runs guests with; see paravirt run (its own choice)")
    add("--junit", type=Path, metavar="FILE", help="write the result as JUnit XML")
    add("--json", action="store_true", help="print one JSON object instead of tables")
    add("--timeout", type=float, default=120.0, metavar="S", help="stop an image after so many seconds (120)")


def _add_guest(sides: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from . import conform_guest

    conform_guest.add_parser(sides)


def _add_images(sides: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(sides, "images", "write the images as a tar file, to be run without Python", IMAGES_EPILOG)
    parser.add_argument("directory", type=Path, metavar="PATH", help="the directory to write it to")


def run(args: argparse.Namespace) -> int:
    """Carries the command out; 0 if everything passed.  Raises ConfigError and OutputError."""
    return SIDES[args.side](args)


def _run_images(args: argparse.Namespace) -> int:
    from ..conform import release

    show(str(release.write(args.directory)))
    return 0


def _run_guest(args: argparse.Namespace) -> int:
    from . import conform_guest

    return conform_guest.run(args)


def _run_host(args: argparse.Namespace) -> int:
    from ..conform import report
    from ..conform.host import Plan, choose

    _check(args)
    check_output(args.junit, "--junit")
    chapters = choose(args.chapter)
    plan = Plan(
        chapters=chapters,
        privileges=("user", "supervisor") if args.privilege == "both" else (args.privilege,),
        launcher=args.launcher,
        vcpus=args.vcpus,
        memory=args.memory,
        poison=args.poison,
        accel=args.accel,
        timeout_s=args.timeout,
    )
    runs = _judge(plan, args.json)
    verdict = report.weigh(runs)
    if args.json:
        print_json(report.plain(runs, verdict, not args.chapter))
    else:
        show(report.summary(verdict, not args.chapter))
    if args.junit:
        report.write_junit(args.junit, runs)
    return 0 if verdict.passed else 1


def _check(args: argparse.Namespace) -> None:
    from ..config import VCPUS_MOST, parse_size

    given("--memory", parse_size, args.memory)
    if not 1 <= args.vcpus <= VCPUS_MOST:
        raise ConfigError(f"{args.vcpus} vCPUs: a machine has from 1 to {VCPUS_MOST}")
    if not 0 < args.timeout < 1e6:
        raise ConfigError(f"the time-out must be more than 0 s and less than 10^6 s, it is {args.timeout:g}")
    if args.launcher is not None and args.accel:
        raise ConfigError("--accel is for our own host; write it into the launcher's command instead")


def _judge(plan: object, quiet: bool) -> list[Run]:
    from ..conform import host, report

    assert isinstance(plan, host.Plan)
    runs: list[Run] = []
    for _, group in groupby(host.judge(plan, _progress), key=lambda run: run.chapter):
        chapter = list(group)
        runs += chapter
        _clear()
        if not quiet:
            show(report.chapter_table(chapter) + "\n")
    return runs


def _progress(chapter: str, mode: str, cases: Sequence[object]) -> None:
    """A line that is written over, for people; a case may take a second, an image at CPL 0 a minute."""
    if sys.stderr.isatty() and len(cases) % 10 == 0:
        _say(f"\r\033[K{chapter} {mode} … {len(cases)} cases")


def _clear() -> None:
    if sys.stderr.isatty():
        _say("\r\033[K")


def _say(text: str) -> None:
    with suppress(OSError):  # nobody may be left to tell
        print(text, end="", file=sys.stderr, flush=True)


SIDES = {"host": _run_host, "guest": _run_guest, "images": _run_images}
