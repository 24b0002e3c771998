"""start / process, warm and cold: until the guest's first word is with the host, beside QEMU's whole start.

process: from the call of the API, in a process that runs already; warm: the same with a machine of a pool; cold:
from the start of the command.  The floor of the first is what KVM itself takes to make a machine with a vCPU.
"""

from __future__ import annotations

import compileall
import sys
import time
from pathlib import Path

import paravirt
from paravirt import Machine, MachineConfig, Pool
from paravirt._native import ffi, lib

from .common import first_byte_s, guest, qemu_command
from .report import Row, make_row

COLD_PER_ROUND = 3
PATIENCE_S = 30.0
REST_S = 0.02  # as between two requests of a server


def process_s() -> float:
    """From the call to the guest's first word."""
    heard: list[float] = []
    began = time.perf_counter()
    with Machine(MachineConfig(guest("hello"), console=lambda _: heard.append(time.perf_counter()))) as machine:
        machine.run()
    return heard[0] - began


def warm_s(pool: Pool) -> float:
    """From taking one of those that are ready to the guest's first word."""
    heard: list[float] = []
    if not pool.wait(PATIENCE_S):
        raise RuntimeError("the pool does not fill")
    time.sleep(REST_S)
    began = time.perf_counter()
    with pool.take(lambda _: heard.append(time.perf_counter())) as machine:
        machine.run()
    return heard[0] - began


def floor_s() -> float:
    """KVM's own part: a machine and a vCPU made."""
    began = time.perf_counter()
    machine, kvm = ffi.new("struct pv_machine *"), ffi.new("struct pv_kvm *")
    vcpu = ffi.new("struct pv_vcpu *", {"machine": machine})
    lib.pv_machine_init(machine)
    assert lib.pv_kvm_create(kvm, b"/dev/kvm", machine) == 0
    machine.vcpu_count = 1
    assert lib.pv_kvm_vcpu_create(kvm, vcpu) == 0
    took = time.perf_counter() - began
    lib.pv_kvm_vcpu_destroy(vcpu)
    lib.pv_kvm_destroy(kvm)
    return took


def run(rounds: int) -> list[Row]:
    """Ours, the floor and QEMU in turn; each the median of a few starts."""
    qemu = qemu_command(guest("hello"))
    cold = [sys.executable, "-m", "paravirt", "run", "hello"]
    # As pip leaves an installed package; Python here may be told not to write bytecode by itself.
    compileall.compile_dir(Path(paravirt.__file__).parent, quiet=1)
    process_s()
    processes, warms, colds = [], [], []
    with Pool(MachineConfig(guest("hello")), 2) as pool:
        for _ in range(rounds * COLD_PER_ROUND):
            peer = {"peer": first_byte_s(qemu) * 1e3} if qemu else {}
            processes.append({"value": process_s() * 1e3, "floor": floor_s() * 1e3} | peer)
            warms.append({"value": warm_s(pool) * 1e3, "floor": processes[-1]["floor"]} | peer)
            colds.append({"value": first_byte_s(cold) * 1e3} | peer)
    why = "" if qemu else "no QEMU here"
    return [
        make_row("start", "process", "ms", processes, goal="<= 0.5 x QEMU", why=why),
        make_row("start", "warm", "ms", warms, why=why),
        make_row("start", "cold", "ms", colds, goal="<= 2 x QEMU", why=why),
    ]
