"""``paravirt conform guest``: judges a guest under the strict host."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..attachments.net import parse_net
from ..attachments.pmem import parse_pmem
from ..attachments.vsock import parse_vsock
from ..boot.bundled import find_image
from ..config import MachineConfig, parse_disk, parse_size
from ..conform.guest import PLAIN, Run, choose, judge
from ..errors import ConfigError
from .common import add_accelerator, add_command, check_output, given, given_each, print_json, show, table

EPILOG = """\
The guest is run once as it is, and once more with each injection: legal behaviour of a host that is rare.
It must come to the same end every time (with boot-mandatory: refuse to boot). Writable disks are copied
for each run. TOUCHED counts the calls that an injection had a hand in; where it is -, it found nothing
to do, or works without any call. The exit status is 0 if nothing was found, 1 if the guest broke a rule.

examples:
  paravirt conform guest hello
  paravirt conform guest my-guest.elf --disk data=disk.img --vcpus 2 --junit result.xml
  paravirt conform guest my-guest.elf --inject clock --inject early-block
"""


UNFIT = (
    "FAILED: the guest does not come to its proper end even when nothing unusual happens; say with --status what that\n"
    "end is, or give the guest what it needs for it: --disk, --net, --input, --cmdline, --memory, --timeout"
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(
        subparsers, "guest", "run a guest under a strict host that does what is legal and rare", EPILOG
    )
    add = parser.add_argument
    add("image", metavar="IMAGE", help="an ELF file, or the name of a bundled guest")
    add("--status", type=int, default=0, metavar="N", help="status of the guest's proper end (0)")
    add("--inject", action="append", default=[], metavar="NAME", help="only this injection; may be repeated (all)")
    add("--disk", action="append", default=[], metavar="NAME=PATH[,ro]", help="attach a raw file as the disk NAME")
    add("--pmem", action="append", default=[], metavar="NAME=PATH[,ro]", help="map a raw file as the mapped disk NAME")
    add("--net", action="append", default=[], metavar="NAME[=LINK]",
        help="plug the network NAME into a link as paravirt run does; loop gives each frame back")  # fmt: skip
    add("--vsock", action="append", default=[], metavar="NAME=PATH", help="attach a vsock with a UNIX socket at PATH")
    add("--memory", default="128M", metavar="SIZE", help="guest memory (128M)")
    add("--vcpus", type=int, default=2, metavar="N", help="virtual CPUs (2)")
    add("--cmdline", default="", metavar="TEXT", help="command line for the guest")
    add("--input", type=Path, metavar="FILE", help="what the guest reads from its console (nothing)")
    add("--privilege", choices=("user", "supervisor"), default="user",
        help="level (CPL 3 or 0) of a guest that leaves the choice to the host (user)")  # fmt: skip
    add_accelerator(parser)
    add("--timeout", type=float, metavar="S", help="stop a run after so many seconds (60, then 20 times the first run)")
    add("--junit", type=Path, metavar="FILE", help="write the result as JUnit XML")
    add("--json", action="store_true", help="print one JSON object instead of a table")


def _configuration(args: argparse.Namespace) -> MachineConfig:
    text = b""
    if args.input:
        try:
            text = args.input.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {args.input}: {error.strerror}; give another --input") from error
    return MachineConfig(
        image=find_image(args.image),
        memory_bytes=given("--memory", parse_size, args.memory),
        vcpus=args.vcpus,
        disks=given_each("--disk", parse_disk, args.disk),
        devices=(
            *given_each("--pmem", parse_pmem, args.pmem),
            *given_each("--net", parse_net, args.net),
            *given_each("--vsock", parse_vsock, args.vsock),
        ),
        command_line=args.cmdline,
        console_input=text,
        privilege=args.privilege,
        timeout_s=args.timeout,
        accel=args.accel,
    )


def run(args: argparse.Namespace) -> int:
    """Carries the command out; 0 if nothing was found.  Raises ParavirtError."""
    check_output(args.junit, "--junit")
    runs = list(judge(_configuration(args), args.status, choose(args.inject), _progress))
    _progress("")
    passed = not any(run.findings for run in runs)
    if args.json:
        print_json({"passed": passed, "runs": [_plain(run) for run in runs]})
    else:
        show(_text(runs, passed))
    if args.junit:
        from ..conform.guest_report import write_junit

        write_junit(args.junit, args.image, runs)
    return 0 if passed else 1


def _plain(run: Run) -> dict[str, Any]:
    return {
        "injection": run.injection,
        "end": run.end._asdict(),
        "seconds": round(run.seconds, 3),
        "calls_touched": run.touched,
        "findings": [finding._asdict() for finding in run.findings],
    }


def _text(runs: Sequence[Run], passed: bool) -> str:
    rows = [("INJECTION", "TOUCHED", "TIME", "RESULT", "WHAT IT IS")]
    for each in runs:
        result = f"{len(each.findings)} found" if each.findings else "passed"
        rows.append((each.injection, str(each.touched or "-"), f"{each.seconds:.2f} s", result, each.doc))
    lines = [table(rows)]
    seen: dict[tuple[str, str], list[str]] = {}
    for each in runs:
        for finding in each.findings:
            where = f" (call {finding.call})" if finding.call else ""
            seen.setdefault((finding.rule, finding.text), []).append(f"{each.injection}{where}")
    lines += [
        f"{rule.replace(' ', ' or ') or 'END'}: {text}; in {', '.join(where)}" for (rule, text), where in seen.items()
    ]
    rules = sorted({rule.replace(" ", " or ") for rule, _ in seen if rule})
    if passed:
        lines.append("passed: the guest broke no rule")
    elif len(runs) == 1 and runs[0].injection == PLAIN and not rules:
        lines.append(UNFIT)
    else:
        what = f"broke {', '.join(rules)}" if rules else "did not come to its proper end"
        lines.append(f"FAILED: the guest {what}")
    return "\n".join(lines)


def _progress(name: str) -> None:
    if sys.stderr.isatty():
        with suppress(OSError):  # nobody may be left to tell
            print(f"\r\033[K{name and name + ' …'}", end="", file=sys.stderr, flush=True)
