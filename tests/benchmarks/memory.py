"""memory / first and memory / growth: resident memory beyond guest RAM, of a first and of each further machine.

Guest RAM is a memfd, which Linux counts apart (RssShmem).  The floor of the first is a bare Python
process.
"""

from __future__ import annotations

import json
import subprocess
import sys

from .report import Row, make_row

FURTHER = 4

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


def run(rounds: int) -> list[Row]:
    """Each round in a process of its own."""
    first, growth = [], []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(FURTHER)], check=True, text=True, stdout=subprocess.PIPE
        )
        bare, one, *more = json.loads(done.stdout)
        first.append({"value": one, "floor": bare})
        growth.append({"value": (more[-1] - one) / FURTHER})
    return [
        make_row("memory", "first", "MiB", first),
        make_row("memory", "growth", "MiB", growth, goal="<= 5 MiB each"),
    ]
