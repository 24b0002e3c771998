"""``paravirt top``: what the machines of this user are doing."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, one_line
from .common import add_command, print_json, show, table

if TYPE_CHECKING:
    from ..control.client import Snapshot

EPILOG = """\
Counts are per second of the last interval; depth is the chains that a back end has taken and not
given back, of each queue in use; times are shown as the part of a CPU that they are. With --json and
--openmetrics they are counts since the start.

examples:
  paravirt top
  paravirt top --interval 5 --looks 1
  paravirt top --openmetrics > /var/lib/node_exporter/paravirt.prom
"""
CLEAR = "\x1b[H\x1b[2J"
UNITS = ("", "k", "M", "G", "T")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "top", "show what this user's machines are doing", EPILOG)
    add = parser.add_argument
    add("--interval", type=float, default=1.0, metavar="S", help="seconds between two looks (1)")
    add("--looks", type=int, metavar="N", help="leave after so many (when interrupted)")
    once = parser.add_mutually_exclusive_group()
    once.add_argument("--json", action="store_true", help="print one JSON array of the machines and leave")
    once.add_argument("--openmetrics", action="store_true", help="print their statistics as OpenMetrics and leave")


def _short(value: float) -> str:
    """Three digits or so."""
    for unit in UNITS:
        if value < 1000 or unit == UNITS[-1]:
            return f"{value:.0f}{unit}" if value >= 10 or value == int(value) else f"{value:.1f}{unit}"
        value /= 1000
    raise AssertionError("the last unit takes all")


def _each(counts: dict[str, float]) -> str:
    """Those that are not zero; of times, how much of a CPU they are."""
    times = {name.removesuffix("_ns"): f"{value / 1e7:.0f}%" for name, value in counts.items() if name.endswith("_ns")}
    shown = ((name.removesuffix("_ns"), value) for name, value in counts.items() if value)
    return " ".join(f"{name} {times.get(name) or _short(value)}" for name, value in shown)


def _vcpus(name: str, machine: Snapshot, rate: Any) -> list[list[str]]:
    rows = []
    for number, (vcpu, per_second) in enumerate(zip(machine["statistics"]["vcpus"], rate["vcpus"], strict=True)):
        counts = [_short(per_second[count]) for count in ("calls", "ring_calls", "upcalls", "exits")]
        rows.append([name, str(number), vcpu["state"].lower(), *counts, _each(per_second["exits_for"])])
    return rows


def _devices(name: str, machine: Snapshot, rate: Any) -> list[list[str]]:
    rows = []
    for device, per_second in zip(machine["statistics"]["devices"], rate["devices"], strict=True):
        depth = " ".join(f"{q['in_flight']}/{q['size']}" for q in device["queues"] if q["size"])
        counts = {count: per_second[count] for count in ("doorbells", "interrupts")}
        more = _each({count: value for count, value in per_second["more"].items() if count not in counts})
        rows.append([name, device["name"], depth or "-", *map(_short, counts.values()), device["fault"] or more])
    return rows


def _rows(
    name: str, machine: Snapshot, before: Any, seconds: float
) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """A machine's in the tables of machines, vCPUs and devices."""
    from ..top import rates

    statistics = machine["statistics"]
    rate = rates(before, statistics, seconds)
    sizes = [f"{n / (1 << 20):.1f}M" for n in (machine["memory_bytes"], statistics["memory"]["resident_bytes"])]
    run_s = f"{statistics['run_ns'] / 1e9:.0f}"
    state = "paused" if machine["paused"] else "running"
    row = [name, str(machine["pid"]), state, machine["accelerator"], *sizes, run_s]
    return row, _vcpus(name, machine, rate), _devices(name, machine, rate)


def _screen(before: dict[str, Any], machines: list[Snapshot], seconds: float) -> str:
    """The tables, from what was counted at the look before, and a line about each machine that is in none."""
    from ..top import ALIEN, about_alien, names

    overview = [["machine", "pid", "state", "accelerator", "memory", "resident", "run s"]]
    vcpus = [["machine", "vcpu", "state", "calls", "ring", "upcalls", "exits", "for"]]
    devices = [["machine", "device", "depth", "doorbells", "interrupts", "more"]]
    aliens = []
    for name, machine in zip(names(machines), machines, strict=True):
        try:
            row, its_vcpus, its_devices = _rows(name, machine, before.get(machine["uuid"]), seconds)
        except ALIEN:
            aliens.append(about_alien(machine))
            continue
        overview.append(row)
        vcpus += its_vcpus
        devices += its_devices
    tables = [each for each in (overview, vcpus, devices) if len(each) > 1]
    return "\n\n".join([*map(table, tables), *aliens]) if machines else "none of this user's machines runs"


def _fitting(screen: str) -> str:
    """As much as the terminal has room for: what it would wrap or scroll is not a table any more."""
    columns, lines = shutil.get_terminal_size()
    return "\n".join(line[:columns] for line in screen.splitlines()[: lines - 1])


def _tell(text: str) -> None:
    print(f"paravirt: {one_line(text)}", file=sys.stderr)


def _watch(interval_s: float, looks: int | None) -> None:
    from ..top import read_all

    live = sys.stdout.isatty()
    before = {machine["uuid"]: machine.get("statistics") for machine in read_all()}
    while looks is None or looks > 0:
        began = time.monotonic()
        time.sleep(interval_s)
        machines = read_all()
        screen = _screen(before, machines, time.monotonic() - began)
        show(CLEAR + _fitting(screen) if live else screen + "\n")
        before = {machine["uuid"]: machine.get("statistics") for machine in machines}
        looks = looks - 1 if looks is not None else None


def run(args: argparse.Namespace) -> int:
    """Carries the command out."""
    from ..top import openmetrics, read_all

    if not 0.1 <= args.interval <= 3600:
        raise ConfigError(f"an interval of {args.interval:g} s: it must be from 0.1 to 3600")
    if args.looks is not None and args.looks < 1:
        raise ConfigError(f"{args.looks} looks: it must be at least 1")
    if args.json:
        print_json(read_all())
    elif args.openmetrics:
        show(openmetrics(read_all(), _tell))
    else:
        _watch(args.interval, args.looks)
    return 0
