"""gdb's ``monitor``: a few of our own verbs, for who debugs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..errors import ParavirtError, one_line

if TYPE_CHECKING:
    from .debugger import Debugger

HELP = """\
translate ADDRESS   where an address lies in guest-physical memory
vcpus               what each vCPU is doing
ways                how vCPUs are stopped here
devices             the guest's devices
statistics          counts so far, as JSON
dump FILE           an ELF core of the machine (over a UNIX socket)
"""


def monitor(debugger: Debugger, index: int, command: str) -> str:
    """What `command`, written by whoever debugs, says; vCPU `index` is the one looked at."""
    verb, _, rest = command.strip().partition(" ")
    try:
        return _carry_out(debugger, index, verb, rest.strip())
    except ParavirtError as error:
        return f"{one_line(str(error))}\n"


def _carry_out(debugger: Debugger, index: int, verb: str, rest: str) -> str:
    from ..control import verbs

    machine = debugger.machine
    if verb == "translate":
        return _translate(debugger, index, rest)
    if verb == "vcpus":
        return "".join(f"vCPU {n}: {debugger.state(n)}\n" for n in range(len(machine.vcpus)))
    if verb == "ways":
        return debugger.cpus.ways()
    if verb == "devices":
        return "".join(f"{each['name']}: {each['kind']}\n" for each in verbs.device_list(machine, {}))
    if verb == "statistics":
        return json.dumps(verbs.statistics(machine, {}), indent=1) + "\n"
    if verb == "dump" and rest and not debugger.private:
        return "anybody on this host may be at a port: it writes no files; use --gdb unix:PATH or paravirt dump\n"
    if verb == "dump" and rest:
        from pathlib import Path

        return f"{debugger.write_core(Path(rest))} bytes of memory written to {one_line(rest)}\n"
    return HELP


def _translate(debugger: Debugger, index: int, text: str) -> str:
    try:
        address = int(text, 0)
    except ValueError:
        return f"{one_line(text)!r} is no address; write for example translate 0x201000\n"
    gpa = debugger.space(index).gpa(address) if 0 <= address < 1 << 64 else None
    return (
        f"{address:#x} lies at {machine_place(debugger, gpa)}\n" if gpa is not None else f"{address:#x} lies nowhere\n"
    )


def machine_place(debugger: Debugger, gpa: int) -> str:
    """A guest-physical address, with the function there."""
    return debugger.machine.place(gpa)
