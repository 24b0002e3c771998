"""growth / …: what a unit of work costs at 1, 2 and 4 vCPUs, queues, machines and sizes of memory.

The value is the cost at 4, the floor the cost at 1, in the same run: a ratio above 1 says that the figure grows faster
than its work.  The plot has all points.

    call, vCPUs        a trap by each of so many vCPUs at once: time of all per call
    call, machines     the same by so many machines of one process, each with a vCPU
    call, processes    the same, each machine in a process of its own
    start, vCPUs       a machine with so many vCPUs, from the API's call to its end, per vCPU
    start, memory      a machine with so many times 64 MiB, per 64 MiB
    start, machines    so many machines of one process that live at once, per machine
    memory, machines   resident set beyond guest RAM, per machine after the first
    block, machines    4 KiB reads from the page cache by so many machines at once: time of all per request
    block, QEMUs       the same by so many processes of QEMU, whose guests poll
    block, queues      the same by one machine with so many vCPUs, each with a queue of its own
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from paravirt import Disk, Machine, MachineConfig

from . import memory
from .block import CASES, disk_file, qemu
from .common import TIMEOUT_S, bench_line, guest, qemu_command, run_guest
from .report import Row, make_row, missing_row

SIZES = (1, 2, 4)
MIB = 1 << 20
CALLS, REQUESTS = 20_000, 60_000


def call_vcpus(n: int) -> float:
    """ns per call."""
    return _together([run_guest("bench_vcpus", vcpus=n, command_line=f"calls={CALLS}")[1]], "calls")


def call_machines(n: int) -> float:
    """ns per call, of all machines of one process."""
    return _together(_told_at_once(n, MachineConfig(guest("bench_vcpus"), command_line=f"calls={CALLS}")), "calls")


def call_processes(n: int) -> float:
    """The same, each machine in a process of its own."""
    command = [sys.executable, "-m", "paravirt", "run", str(guest("bench_vcpus")), "--cmdline", f"calls={CALLS}"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(n)]
    return _together([process.communicate(timeout=TIMEOUT_S)[0] for process in processes], "calls")


def _told_at_once(n: int, config: MachineConfig) -> list[str]:
    consoles = [bytearray() for _ in range(n)]
    with ExitStack() as stack:
        machines = [stack.enter_context(Machine(config.replace(console=c.extend))) for c in consoles]
        for machine in machines:
            machine.start()
        for machine in machines:
            machine.wait(TIMEOUT_S)
    return [console.decode() for console in consoles]


def _together(told: list[str], unit: str) -> float:
    return _cost([bench_line(text) for text in told], unit)


def _cost(figures: list[dict[str, float]], unit: str) -> float:
    return max(f["ns"] for f in figures) / sum(f[unit] for f in figures)


def start_vcpus(n: int) -> float:
    """ms per vCPU."""
    return run_guest("hello", vcpus=n)[0] * 1e3 / n


def start_memory(n: int) -> float:
    """ms per 64 MiB."""
    return run_guest("hello", memory_bytes=n * 64 * MIB)[0] * 1e3 / n


def start_machines(n: int) -> float:
    """ms per machine."""
    began = time.perf_counter()
    with ExitStack() as stack:
        for _ in range(n):
            stack.enter_context(Machine(MachineConfig(guest("hello")))).run()
    return (time.perf_counter() - began) * 1e3 / n


def memory_machines(n: int) -> float:
    """MiB per machine after the first."""
    command = [sys.executable, "-c", memory.PROGRAM, str(n)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    _, one, *more = json.loads(done.stdout)
    return float(more[-1] - one) / n


def block_machines(n: int, path: Path) -> float:
    """ns per request, of all machines."""
    disk, words = Disk("disk", path, read_only=True), f"requests={REQUESTS} wait=event"
    config = MachineConfig(guest("bench_block"), disks=(disk,), command_line=words)
    return _together(_told_at_once(n, config), "requests")


def block_qemus(n: int, path: Path) -> float:
    """The same of QEMU's, which is there."""
    case = CASES[0]._replace(words=CASES[0].words | {"requests": REQUESTS})
    with ThreadPoolExecutor(n) as pool:
        figures = list(pool.map(lambda _: qemu(case, path), range(n)))
    return _cost([f for f in figures if f], "requests")


def block_queues(n: int, path: Path) -> float:
    """ns per request, of all queues."""
    disk = Disk("disk", path, read_only=True)
    words = f"requests={REQUESTS} queues={n} wait=event"
    return _together([run_guest("bench_block", vcpus=n, disks=(disk,), command_line=words)[1]], "requests")


def run(rounds: int) -> list[Row]:
    """Each size in turn, so many times."""
    with disk_file() as path:
        figures: dict[str, tuple[str, Callable[[int], float]]] = {
            "call, vCPUs": ("ns", call_vcpus),
            "call, machines": ("ns", call_machines),
            "call, processes": ("ns", call_processes),
            "start, vCPUs": ("ms", start_vcpus),
            "start, memory": ("ms", start_memory),
            "start, machines": ("ms", start_machines),
            "memory, machines": ("MiB", memory_machines),
            "block, machines": ("ns", lambda n: block_machines(n, path)),
            "block, QEMUs": ("ns", lambda n: block_qemus(n, path)),
            "block, queues": ("ns", lambda n: block_queues(n, path)),
        }
        return [_row(name, unit, measure, rounds) for name, (unit, measure) in figures.items()]


def _row(name: str, unit: str, measure: Callable[[int], float], rounds: int) -> Row:
    if name == "block, QEMUs" and not qemu_command(guest("bench_block")):
        return missing_row("growth", name, unit, "no QEMU here")
    measure(SIZES[0])  # what is loaded but once
    taken = [{size: measure(size) for size in SIZES} for _ in range(rounds)]
    points = [(size, statistics.median(t[size] for t in taken)) for size in SIZES]
    values = [{"value": t[SIZES[-1]], "floor": t[SIZES[0]]} | {f"at {size}": t[size] for size in SIZES} for t in taken]
    return make_row("growth", name, unit, values, goal="<= 1 x the cost at 1", points=points)
