"""calls / trap: guest time of a trivial call (base.version), median of 10⁵, beside the floor.

The floor is a C loop over KVM_RUN (floor.c): the same guest, the same trap, no handler.  Batches are
shown per call.  The floor of a call ring is two threads that hand the same records to each other; at depth 1
it is a word that goes there and one that comes back.  No peer: QEMU has no call that a guest could make.
"""

from __future__ import annotations

import ctypes
import json
import tempfile
import threading
import time
from pathlib import Path

from paravirt import Machine, MachineConfig
from paravirt._native import ffi, lib
from paravirt.config import Privilege

from .common import address, compile_c, guest
from .report import Row, make_row

TURNS = 10_000  # of a ring's floor
RINGS = {"ring batch 32": 32, "ring depth 1": 0}  # figure: submissions of a turn of the floor
GOALS = {
    "trap": "<= 1.10 x floor",
    "ring batch 32": "<= 5 x floor, no exits",
    "ring depth 1": "<= 2 x floor, no exits",
}
GET_GOING_S = 0.05  # of the seconds that 10⁵ traps take


def build_floor(to: Path) -> ctypes.CDLL:
    """Compiles and loads floor.c."""
    loaded = compile_c("floor.c", to)
    loaded.floor_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    loaded.floor_run.restype = None
    loaded.floor_ring.argtypes = [ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32]
    loaded.floor_ring.restype = ctypes.c_uint64
    return loaded


def ring_floor(floor: ctypes.CDLL, size: int, hz: float) -> float:
    """ns per submission of a ring without calls; with `size` 0, of a round trip."""
    ticks = (ctypes.c_uint64 * TURNS)()
    return float(floor.floor_ring(size, ticks, TURNS)) * 1e9 / hz / max(size, 1)


def figures(text: bytes) -> dict[str, dict[str, float]]:
    """The guest's lines: figure → ns per call at the median and at the 99th percentile; exits of all rounds, hz."""
    found = {}
    for line in text.decode().splitlines():
        f = json.loads(line)
        ns = 1e9 / f["hz"] / f["calls"]
        found[f["figure"]] = {"value": f["median_ticks"] * ns, "p99": f["p99_ticks"] * ns}
        found[f["figure"]] |= {"exits": f["exits"], "count": f["count"], "hz": f["hz"]}
    return found


def measure(privilege: Privilege, floor: ctypes.CDLL | None) -> dict[str, dict[str, float]]:
    """One run of the guest `bench`; with `floor`, its traps are answered there after a start like any other."""
    console = bytearray()
    config = MachineConfig(guest("bench"), console=console.extend, privilege=privilege, timeout_s=300)
    with Machine(config) as machine:
        if floor is None:
            machine.run()
            return figures(bytes(console))
        machine.start()
        time.sleep(GET_GOING_S)
        vcpu = machine.vcpus[0].native
        vcpu.stop = 1
        vcpu.machine.ops.kick(vcpu)
        machine.vcpus[0].join()
        vcpu.stop = 0
        arguments = address(vcpu), address(ffi.addressof(lib, "pv_dispatch"))
        thread = threading.Thread(target=floor.floor_run, args=arguments)
        thread.start()
        machine.wait()
        thread.join()
    return figures(bytes(console))


def goal(figure: str, rounds: list[dict[str, float]]) -> str:
    """What is wanted; of rings also how many exits there were in how many turns, in the round with the fewest."""
    if figure not in RINGS:
        return GOALS.get(figure, "")
    fewest = min(rounds, key=lambda r: r["exits"])
    return f"{GOALS[figure]}: {fewest['exits']:,} in {fewest['count']:,} turns"


def run(rounds: int, privilege: Privilege = "user") -> list[Row]:
    """Ours and the floor in turn."""
    taken: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as work:
        floor = build_floor(Path(work))
        for _ in range(rounds):
            ours, bare = measure(privilege, None), measure(privilege, floor)
            for figure, value in ours.items():
                more = {"floor": bare[figure]["value"]} if figure == "trap" else {}
                if figure in RINGS:
                    more = {"floor": ring_floor(floor, RINGS[figure], value["hz"])}
                taken.setdefault(figure, []).append(value | more)
    return [make_row("calls", name, "ns", values, goal=goal(name, values)) for name, values in taken.items()]
