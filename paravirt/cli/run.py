"""``paravirt run``: boots a guest and says how it ended."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..boot.bundled import find_image
from ..config import (
    KVM_DEVICE,
    Budgets,
    MachineConfig,
    parse_console_bytes,
    parse_disk,
    parse_extension,
    parse_pin,
    parse_poll,
    parse_size,
)
from ..errors import BootRefused, GuestCrashed, GuestFailed, NativeMismatch, OutputError, ParavirtError, one_line
from .common import add_accelerator, add_command, given, given_each, populated, print_json, tell_accelerator
from .console import ConsoleFile

if TYPE_CHECKING:
    from ..attachments import Attachment
    from ..debug.address import GdbConfig
    from ..outcome import Outcome, Statistics

EPILOG = """\
The exit status is 0 if the guest shut down with success, 1 if it shut down with a failure; every
other end has a status of its own: 2 usage, 10- image, 30- disk, 40- host, 50- guest, 124 time-out,
130 interrupted.

examples:
  paravirt run hello
  paravirt run demo --disk input=docs.tar,ro --disk report=report.img --vcpus 2
  paravirt run my-guest.elf --memory 256M --trace trace.json --timeout 10
  paravirt run my-guest.elf --deny time --deny vcpu.start,trace --poison
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "run", "boot a guest and wait for its end", EPILOG)
    add = parser.add_argument
    add("image", metavar="IMAGE", help="an ELF file, a Linux kernel (bzImage), or the name of a bundled guest")
    add("--disk", action="append", default=[], metavar="NAME=PATH[,ro]",
        help="attach a raw file as the disk NAME, read-only with ,ro; further options: ,direct (past the page cache) "
        ",writethrough ,iops=N ,bps=SIZE (limits per second) ,queues=N; NAME=vhost:SOCKET[,ro][,patience=S]: one that "
        "another program serves, such as qemu-storage-daemon; may be repeated")  # fmt: skip
    add("--net", action="append", default=[], metavar="NAME[=LINK]",
        help="plug the network NAME into user (passt, no rights needed), tap:INTERFACE, fd:NUMBER, vhost:SOCKET "
        "(frames are another program's), or loop, which gives each frame back (user); options: ,mac=… ,mtu=… ,pairs=… "
        ",pps=… ,bps=… ,tcp=[ADDRESS/]HOST:GUEST ,udp=… ,patience=S; may be repeated")  # fmt: skip
    add("--capture", action="append", default=[], metavar="NAME=FILE",
        help="write the frames of the network NAME to FILE (pcapng); may be repeated")  # fmt: skip
    add("--vsock", action="append", default=[], metavar="NAME=PATH[,cid=N]",
        help="attach a vsock as NAME with a UNIX socket at PATH for programs of this host; "
        "port P of the host is PATH_P; may be repeated")  # fmt: skip
    add("--pmem", action="append", default=[], metavar="NAME=PATH[,ro]",
        help="map a raw file into the guest as the mapped disk NAME; may be repeated")  # fmt: skip
    _add_size(parser)
    add("--cmdline", default="", metavar="TEXT", help="command line for the guest")
    add("--initrd", type=Path, metavar="FILE", help="initial RAM disk, for kernels that are not written for paravirt")
    add("--console", default="-", metavar="FILE",
        help="where the guest's console goes; - is standard output, with standard input for it to read; "
        "with --json, - is standard error")  # fmt: skip
    add("--privilege", choices=("user", "supervisor"), default="user",
        help="level (CPL 3 or 0) of a guest that leaves the choice to the host (user)")  # fmt: skip
    add("--transport", choices=("auto", "calls", "mmio"), default="auto",
        help="how the guest reaches its devices: by calls, by virtio-mmio, or as its image expects (auto)")  # fmt: skip
    add("--poll", default="auto", metavar="auto|off|NS",
        help="how long devices' threads look for work before they sleep: at most 50 µs as experience says it pays "
        "(auto), not at all, or at most NS nanoseconds")  # fmt: skip
    add("--console-bytes", metavar="SIZE|off",
        help="how much the guest may write to its console (16M; plain guests: off)")  # fmt: skip
    add("--poison", action="store_true", help="scramble whatever the ABI calls undefined")
    add("--deny", action="append", default=[], metavar="SERVICE[.CALL]",
        help="switch a service or a call off; several separated by commas; may be repeated")  # fmt: skip
    add("--extension", action="append", default=[], metavar="NAME[,trusted][:OPTIONS]",
        help="offer a vendor's service: the path of a binary module, run in a process of its own unless trusted, "
        "or the name of a plug-in; may be repeated")  # fmt: skip
    _add_observers(parser)
    add("--timeout", type=float, metavar="S", help="stop the guest after so many seconds")
    add_accelerator(parser)
    add("--kvm-device", type=Path, metavar="PATH", help="the KVM device (/dev/kvm); naming one asks for KVM")
    add("--json", action="store_true", help="print one JSON object: outcome, statistics, durations")


def _add_size(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--memory", default="128M", metavar="SIZE", help="guest memory, a multiple of 2M, at least 4M (128M)")
    add("--hugepages", action="store_true", help="guest memory in huge pages, or an error")
    add("--populate", action="store_true", help="back all guest memory before the guest starts")
    add("--balloon", default="0", metavar="[NAME=]SIZE",
        help="how much of it the guest is asked to give back (0); with NAME, by the balloon device NAME")  # fmt: skip
    add("--vcpus", type=int, default=1, metavar="N", help="virtual CPUs (1)")
    add("--cpu", default="host", metavar="MODEL[,+FEATURE][,-FEATURE]",
        help="the CPU that the guest sees, on KVM: the host's, or x86-64-v1 to x86-64-v4, with nothing beyond that but "
        "what is added (host)")  # fmt: skip
    add("--pin", metavar="CPU,…", default="", help="the host's CPU that each vCPU stays on, one for each")


def _add_observers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--trace", type=Path, metavar="FILE", help="write a trace of calls, exits and requests (Chrome, Perfetto)")
    add("--record", type=Path, metavar="FILE", help="record every call with its data (pcapng; see paravirt replay)")
    add("--gdb", metavar="[HOST]:PORT|unix:PATH[,go]",
        help="listen for a debugger (gdb), which the guest waits for unless ,go is given; without HOST for one on "
        "this host")  # fmt: skip


@contextmanager
def _console(args: argparse.Namespace) -> Iterator[ConsoleFile]:
    if args.console == "-":
        yield ConsoleFile(2, "standard error") if args.json else ConsoleFile(1, "standard output")
        return
    try:
        fd = os.open(args.console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"cannot write the console to {args.console}: {why}; give another --console") from error
    try:
        yield ConsoleFile(fd, args.console)
    finally:
        os.close(fd)


def _devices(args: argparse.Namespace) -> tuple[Attachment, ...]:
    """What is attached beside disks; a kind that is not there is not loaded."""
    found: list[Attachment] = []
    if args.net or args.capture:
        from ..attachments.net import parse_capture, parse_net

        nets = given_each("--net", parse_net, args.net)
        for text in args.capture:
            nets = given("--capture", partial(parse_capture, nets=nets), text)
        found += nets
    if args.vsock:
        from ..attachments.vsock import parse_vsock

        found += given_each("--vsock", parse_vsock, args.vsock)
    if args.pmem:
        from ..attachments.pmem import parse_pmem

        found += given_each("--pmem", parse_pmem, args.pmem)
    return tuple(found)


def _balloon(text: str) -> tuple[tuple[Attachment, ...], int]:
    if "=" not in text:
        return (), parse_size(text)
    from ..attachments.balloon import parse_balloon

    return parse_balloon(text)


def _gdb(text: str | None) -> GdbConfig | None:
    if text is None:
        return None
    from ..debug.address import parse_gdb

    return parse_gdb(text)


def _configuration(args: argparse.Namespace, console: ConsoleFile) -> MachineConfig:
    image = find_image(args.image)
    balloons, balloon_bytes = given("--balloon", _balloon, args.balloon)
    return MachineConfig(
        image=image,
        memory_bytes=given("--memory", parse_size, args.memory),
        huge_pages=args.hugepages,
        populate=args.populate,
        progress=populated,
        balloon_bytes=balloon_bytes,
        vcpus=args.vcpus,
        cpu=args.cpu,
        pin=given("--pin", parse_pin, args.pin) if args.pin else (),
        disks=given_each("--disk", parse_disk, args.disk),
        devices=(*balloons, *_devices(args)),
        command_line=args.cmdline,
        initrd=args.initrd,
        console=console.write,
        console_input=0 if args.console == "-" else b"",
        privilege=args.privilege,
        poison=args.poison,
        extensions=given_each("--extension", parse_extension, args.extension),
        deny=frozenset(name for text in args.deny for name in text.split(",")),
        trace=args.trace,
        record=args.record,
        timeout_s=args.timeout,
        transport=args.transport,
        budgets=_budgets(args),
        name=image.stem[:40] or "guest",
        gdb=_gdb(args.gdb),
        accel="kvm" if args.kvm_device and args.accel == "auto" else args.accel,
        kvm_device=args.kvm_device or KVM_DEVICE,
    )


def _budgets(args: argparse.Namespace) -> Budgets:
    most = args.console_bytes
    return Budgets(
        console_bytes=None if most is None else given("--console-bytes", parse_console_bytes, most),
        poll_ns=given("--poll", parse_poll, args.poll),
    )


def _boot(config: MachineConfig, console: ConsoleFile, answer: dict[str, Any]) -> Outcome:
    """Runs the machine; what it did is in `answer` however it ended."""
    began_ns = time.monotonic_ns()
    try:
        from ..control.server import Published
        from ..machine import Machine  # loads the C core
        from ..outcome import plain
    except ImportError as error:
        raise NativeMismatch(f"the C core does not load: {error}; see paravirt doctor") from error
    with Machine(config) as machine, Published(machine):
        tell_accelerator(machine)
        if machine.gdb:
            machine.gdb.tell(config.image)
        console.watch(machine)
        created_ns = time.monotonic_ns()
        try:
            return machine.run()
        finally:
            answer["durations"] = {"create_ns": created_ns - began_ns, "run_ns": time.monotonic_ns() - created_ns}
            statistics = machine.statistics()
            answer["statistics"] = plain(statistics)
            _tell_faults(statistics)
            for fault in machine.extensions.faults():
                _tell(fault)


def _tell_faults(statistics: Statistics) -> None:
    """What stopped for the guest's mistake looks like a guest that hangs; so it is said."""
    rings = [(f"the call ring of vCPU {n}", vcpu.ring_fault) for n, vcpu in enumerate(statistics.vcpus)]
    for what, fault in [*((f"the device {d.name!r}", d.fault) for d in statistics.devices), *rings]:
        if fault is None:
            continue
        from hypercall_abi import RULES  # only when something went wrong

        rule = RULES.get(fault)
        said = f"its driver broke {rule.id}: {rule.text}" if rule else "the host's side of it failed"
        _tell(f"{what} was stopped: {said}")


def _tell(text: str) -> None:
    with suppress(OSError):  # nobody may be left to tell
        print(f"paravirt: {one_line(text)}", file=sys.stderr)


def _judge(outcome: Outcome) -> None:
    """Raises unless the guest shut down with success."""
    if outcome.reason == "BOOT_REFUSED":
        raise BootRefused(
            f"the guest cannot run here, its status is {outcome.status}; see its console for what it lacks"
        )
    if outcome.reason == "DEBUGGER":
        raise GuestFailed("a debugger ended the guest")
    if outcome.kind != "shutdown" or outcome.reason != "POWEROFF" or outcome.status:
        raise GuestFailed(
            f"the guest ended with {outcome.reason or outcome.kind}, status {outcome.status}; see its console"
        )


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ParavirtError, also for a guest's failure, and KeyboardInterrupt."""
    answer: dict[str, Any] = {"outcome": None, "error": None, "statistics": None, "durations": None}
    try:
        with _console(args) as console:
            outcome = _boot(_configuration(args, console), console, answer)
            answer["outcome"] = {"kind": outcome.kind, "reason": outcome.reason, "status": outcome.status}
            console.check()
            _judge(outcome)
    except ParavirtError as error:
        kind = type(error)
        backtrace = error.backtrace if isinstance(error, GuestCrashed) else ()
        for number, place in enumerate(backtrace):
            _tell(f"#{number} {place}")
        answer["error"] = {
            "type": kind.__name__,
            "text": str(error),
            "rule": error.rule,
            "exit_status": error.exit_status,
            "backtrace": backtrace,
        }
        raise
    finally:
        if args.json and (answer["outcome"] or answer["error"]):
            print_json(answer)
    return 0
