"""memory / …: resident memory beyond guest RAM, of a first and of each further machine; and what a balloon gives.

Guest RAM is a memfd, which Linux counts apart (RssShmem).  The floor of the first is a bare Python
process.

    first                  a process with one machine
    growth                 each further machine of it, up to 8 in all; the plot has the mean at 2, 4 and 8
    balloon, kept          what stays resident of memory that the guest gave, in per cent
    balloon, give          from the host's wish until the guest has given it, per MiB; floor: as many holes punched by
                           the host into a file of its own
"""

from __future__ import annotations

import json
import mmap
import os
import statistics
import subprocess
import sys
import time

from paravirt import Machine, MachineConfig

from .common import guest
from .report import Row, make_row

FURTHER = 7
SIZES = (2, 4, 8)
MIB = 1 << 20
GUEST_BYTES, WISH_BYTES = 256 * MIB, 192 * MIB
TIMEOUT_S = 120

PROGRAM = """
import json, sys
def resident():
    fields = dict(line.split(":") for line in open("/proc/self/status"))
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile")) / 1024
bare = resident()
from tests.benchmarks.common import guest
from paravirt import Machine, MachineConfig
machines, taken = [], []
for _ in range(1 + int(sys.argv[1])):
    machine = Machine(MachineConfig(guest("hello")))
    machine.__enter__()
    machine.run()
    machines.append(machine)
    taken.append(resident())
print(json.dumps([bare, *taken]))
for machine in machines:
    machine.__exit__(None, None, None)
"""


def balloon() -> dict[str, float]:
    """One guest that touched all it has: bytes that stayed resident of those given, and seconds per MiB."""
    said = bytearray()
    config = MachineConfig(guest("balloon"), memory_bytes=GUEST_BYTES, console=said.extend, timeout_s=TIMEOUT_S)
    with Machine(config) as machine:
        machine.start()
        until = time.monotonic() + TIMEOUT_S
        while b"touched" not in said and time.monotonic() < until:
            time.sleep(0.001)
        before = machine.statistics().memory
        began = time.perf_counter()
        machine.balloon(WISH_BYTES)
        while (after := machine.statistics().memory).balloon_bytes < WISH_BYTES and time.monotonic() < until:
            time.sleep(0.0005)
        took = time.perf_counter() - began
        machine.balloon(0)
        machine.wait(TIMEOUT_S)
    given = before.resident_bytes - after.resident_bytes
    return {"kept": (WISH_BYTES - given) / WISH_BYTES * 100, "value": took * 1e6 / (WISH_BYTES / MIB)}


def punched() -> float:
    """Microseconds per MiB of holes punched into memory that was touched, a MiB at a time as the guest does it."""
    fd = os.memfd_create("floor", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, WISH_BYTES)
        with mmap.mmap(fd, WISH_BYTES) as memory:
            for at in range(0, WISH_BYTES, 4096):
                memory[at] = 1
            began = time.perf_counter()
            for at in range(0, WISH_BYTES, MIB):
                memory.madvise(mmap.MADV_REMOVE, at, MIB)
            return (time.perf_counter() - began) * 1e6 / (WISH_BYTES / MIB)
    finally:
        os.close(fd)


def run(rounds: int) -> list[Row]:
    """Each round in a process of its own."""
    first, growth, kept, give = [], [], [], []
    means: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(FURTHER)], check=True, text=True, stdout=subprocess.PIPE
        )
        bare, one, *more = json.loads(done.stdout)
        first.append({"value": one, "floor": bare})
        growth.append({"value": (more[-1] - one) / FURTHER})
        for size in SIZES:
            means[size].append((more[size - 2] - one) / (size - 1))
        taken = balloon()
        kept.append({"value": taken["kept"]})
        give.append({"value": taken["value"], "floor": punched()})
    points = [(size, statistics.median(found)) for size, found in means.items()]
    return [
        make_row("memory", "first", "MiB", first),
        make_row("memory", "growth", "MiB", growth, goal="<= 5 MiB each", points=points),
        make_row("memory", "balloon, kept", "%", kept),
        make_row("memory", "balloon, give", "us/MiB", give),
    ]
