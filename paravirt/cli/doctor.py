"""``paravirt doctor``: what this machine can do, and what to do about what it cannot."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from ..doctor import Verdict, examine
from .common import add_command, print_json, show, table

EPILOG = """\
The exit status is 0 if guests can run here (warnings included), 1 if they cannot.

examples:
  paravirt doctor
  paravirt doctor --json
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(
        subparsers, "doctor", "check what this machine can do and what to do about what it cannot", EPILOG
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--kvm-device", type=Path, metavar="PATH", help="the device that there must be (/dev/kvm, or a software vCPU)"
    )


def run(args: argparse.Namespace) -> int:
    """Carries the command out; 1 if a check failed."""
    findings = examine(args.kvm_device)
    failed = any(f.verdict == Verdict.FAIL for f in findings)
    if args.json:
        print_json({"able": not failed, "findings": [asdict(f) for f in findings]})
        return int(failed)
    rows = table([[f.verdict.upper().ljust(4), f.name, f.text] for f in findings]).splitlines()
    for row, finding in zip(rows, findings, strict=True):
        show(f"{row}\n      → {finding.advice}" if finding.advice else row)
    show("guests cannot run here" if failed else "guests can run here")
    return int(failed)
