"""``paravirt replay``: makes recorded calls again and shows the first difference."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import ACCELERATORS
from ..errors import ConfigError, one_line
from .common import add_command, print_json, show

if TYPE_CHECKING:
    from ..recording.reader import Life
    from ..recording.replay import Verdict

EPILOG = """\
FILE is what paravirt run --record wrote. Its calls are made by a guest of this package in a machine like the one
recorded, and their answers compared: status, value and output, except for what may differ between two runs (times,
random bytes). A launcher is any command that boots the ELF file {image} and puts its console on standard output; it
may also use {memory} (bytes), {vcpus} and {privilege}. The exit status is 0 if all answers are the same, 1 if not.

examples:
  paravirt run demo --disk input=docs.tar,ro --record demo.pcapng
  paravirt replay demo.pcapng
  paravirt replay demo.pcapng --model
  paravirt replay demo.pcapng --launcher 'my-vmm --kernel {image} --cpus {vcpus}'
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    add = add_command(
        subparsers, "replay", "make recorded calls again and show the first difference", EPILOG
    ).add_argument
    add("recording", type=Path, metavar="FILE", help="a recording")
    add("--launcher", metavar="COMMAND", help="the host to replay into: a command with {image} in it (paravirt run)")
    add("--model", action="store_true", help="judge the answers by the reference model of the ABI, without a machine")
    add("--privilege", choices=("user", "supervisor"), help="level (CPL 3 or 0) to replay at (as recorded)")
    add("--accel", choices=ACCELERATORS, help="what our host runs the guest with; see paravirt run (its own choice)")
    add("--timeout", type=float, default=120.0, metavar="S", help="give up after so many seconds (120)")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carries the command out; 0 if all answers are the same.  Raises RecordingError and ConfigError."""
    from ..conform.launch import check_launcher
    from ..recording.convert import convert
    from ..recording.judge import judge
    from ..recording.reader import read
    from ..recording.replay import Host, replay

    if not 0 < args.timeout < 1e9:
        raise ConfigError(f"the time-out must be more than 0 s and less than 10^9 s, it is {args.timeout}")
    if args.model and (args.launcher or args.privilege or args.accel):
        raise ConfigError(
            "--model runs nothing, so --launcher, --privilege and --accel say nothing to it; leave them out"
        )
    if args.launcher is not None:
        check_launcher(args.launcher)
    host = Host(args.launcher, args.privilege, args.accel, args.timeout)
    verdicts = []
    for life in read(args.recording):
        if args.model:
            verdicts.append((life, judge(life)))
        else:
            with tempfile.TemporaryDirectory(prefix="paravirt-replay-") as place:
                verdicts.append((life, replay(convert(life), host, Path(place))))
        if not verdicts[-1][1].same:
            break
    if args.json:
        print_json({"same": verdicts[-1][1].same, "lives": [_plain(*verdict) for verdict in verdicts]})
    else:
        wanted = "answered as the ABI allows" if args.model else "answered as recorded"
        show("\n".join(line for verdict in verdicts for line in _lines(*verdict, wanted)))
    return 0 if verdicts[-1][1].same else 1


def _lines(life: Life, verdict: Verdict, wanted: str) -> Iterator[str]:
    for why in dict.fromkeys(why for _, why in verdict.left_out):
        calls = [call for call, reason in verdict.left_out if reason == why]
        first = f"call {calls[0].number}, {calls[0].name}"
        more = f" and {len(calls) - 1} more are" if len(calls) > 1 else " is"
        yield one_line(f"{first},{more} left out: {why}")
    if verdict.difference:
        found = verdict.difference
        yield one_line(f"call {found.call.number} of vCPU {found.call.vcpu} differs: {found.name}")
        yield from (f"  {one_line(line)}" for line in found.what)
    elif verdict.problem:
        yield one_line(verdict.problem)
    yield one_line(
        f"{life.image}: {verdict.calls} {'call' if verdict.calls == 1 else 'calls'} {wanted}"
        + ("" if verdict.same else ", then not")
    )


def _plain(life: Life, verdict: Verdict) -> dict[str, Any]:
    found = verdict.difference
    return {
        "image": life.image,
        "image_sha256": life.image_sha256,
        "calls": verdict.calls,
        "left_out": [{"call": call.number, "name": call.name, "why": why} for call, why in verdict.left_out],
        "difference": found
        and {"call": found.call.number, "vcpu": found.call.vcpu, "name": found.name, "what": list(found.what)},
        "problem": verdict.problem or None,
    }
