"""``paravirt demo``: the main job on real files, verified."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..boot.bundled import find_image
from ..config import MachineConfig, parse_size
from ..errors import ConfigError
from .common import add_accelerator, add_command, given, print_json, show, tell_accelerator
from .console import ConsoleFile

if TYPE_CHECKING:
    from ..machine import Machine

SOURCE = Path(__file__).resolve().parents[2]
DEFAULT_TREES = ("docs", "hypercall_abi")

EPILOG = """\
examples:
  paravirt demo
  paravirt demo --vcpus 4 --poison --trace demo.json
  paravirt demo --qcow2
  paravirt demo --tree ~/src --memory 512M
  paravirt demo --repeat 100 --quiet
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "demo", "show and verify the whole of it with a guest that reads a disk", EPILOG)
    add = parser.add_argument
    add(
        "--tree",
        action="append",
        type=Path,
        metavar="DIR",
        help="what is packed; may be repeated (docs and hypercall_abi of the source tree; "
        "installed by pip, where docs are not: the package hypercall_abi)",
    )
    add("--guest", default="demo", metavar="IMAGE", help="another build of the guest (demo)")
    add("--memory", default="128M", metavar="SIZE", help="guest memory, a multiple of 2M, at least 4M (128M)")
    add("--vcpus", type=int, default=2, metavar="N", help="virtual CPUs (2)")
    add("--privilege", choices=("user", "supervisor"), default="user", help="CPL 3 or CPL 0 (user)")
    add("--transport", choices=("calls", "mmio"), default="calls", help="how the guest reaches its disks (calls)")
    add("--qcow2", action="store_true", help="the disks are qcow2 images, served by qemu-storage-daemon (vhost-user)")
    add("--poison", action="store_true", help="scramble whatever the ABI calls undefined")
    add_accelerator(parser)
    add("--trace", type=Path, metavar="FILE", help="write a trace of calls, exits and requests (Chrome, Perfetto)")
    add("--timeout", type=float, default=60, metavar="S", help="stop the guest after so many seconds (60)")
    add("--repeat", type=int, default=1, metavar="N", help="do it N times in a row")
    add("--quiet", action="store_true", help="do not show the guest's console")
    add("--json", action="store_true", help="print one JSON object; the console goes to standard error")


def _trees(given: list[Path] | None) -> list[Path]:
    if given:
        return [tree.resolve() for tree in given]
    import hypercall_abi  # where it is installed, its files lie elsewhere than ours

    beside = [SOURCE / name for name in DEFAULT_TREES]
    return [tree for tree in beside if tree.is_dir()] or [Path(hypercall_abi.__file__).parent]


def _configuration(args: argparse.Namespace, console: ConsoleFile) -> MachineConfig:
    return MachineConfig(
        image=find_image(args.guest),
        memory_bytes=given("--memory", parse_size, args.memory),
        vcpus=args.vcpus,
        console=None if args.quiet else console.write,
        privilege=args.privilege,
        transport=args.transport,
        poison=args.poison,
        accel=args.accel,
        trace=args.trace,
        timeout_s=args.timeout,
        name="demo",
    )


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises DemoFailed and whatever the machine raises."""
    from ..demo import Files, Qcow2Files, run_demo
    from ..outcome import plain

    if args.repeat < 1:
        raise ConfigError(f"--repeat must be 1 or more, it is {args.repeat}")
    stream = sys.stderr if args.json else sys.stdout
    console = ConsoleFile(stream.fileno(), "standard error" if args.json else "standard output")

    def said(text: str) -> None:
        if not args.quiet:
            show(f"demo: {text}", stream)

    def made(machine: Machine) -> None:
        if turn == 0:
            tell_accelerator(machine)
        console.watch(machine)

    config, trees = _configuration(args, console), _trees(args.tree)
    began = time.monotonic()
    for turn in range(args.repeat):
        with tempfile.TemporaryDirectory(prefix="paravirt-demo-") as work:
            done = run_demo(config, trees, Path(work), said, made, Qcow2Files if args.qcow2 else Files)
            console.check()
        if args.repeat > 1:
            _progress(turn + 1, args.repeat, stream.isatty())
    seconds = time.monotonic() - began
    if args.json:
        verified = {"files": done.files, "bytes": done.size_bytes, "runs": args.repeat, "seconds": seconds}
        print_json({"verified": verified, "outcome": plain(done.outcome)})
    times = f", {args.repeat} times in a row" if args.repeat > 1 else ""
    show(
        f"demo: verified: {done.files} files, {done.size_bytes:,} bytes, on the console and on the disk report"
        f"{times}, in {seconds:.2f} s",
        stream,
    )
    return 0


def _progress(done: int, of: int, terminal: bool) -> None:
    end = "\n" if done == of else "\r"
    if terminal or done % 10 == 0:
        print(f"demo: {done} of {of} runs held", end=end if terminal else "\n", file=sys.stderr, flush=True)
