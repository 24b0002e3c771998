"""``python -m tests.linux.debug``: gdb on Linux as it is, under an emulated hardware-style KVM.

It attaches to a kernel that runs, reads it through its own page tables, steps it, and opens its core.  That KVM does
not stop a guest at a breakpoint by itself, so none is set (docs/howto/debug.md).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.support.tree import ROOT

BANNER = b"Linux version "
PATIENCE_S = 300
STEPS = 3


def inside(work: Path, kernel: Path) -> None:
    """Under that KVM: the kernel boots, then gdb comes."""
    from paravirt.config import MachineConfig
    from paravirt.debug.address import parse_gdb
    from paravirt.machine import Machine
    from tests.support.gdb import gdb

    console = bytearray()
    heard = threading.Event()

    def hear(data: bytes) -> None:
        console.extend(data)
        if b"Kernel command line" in console:
            heard.set()

    place = parse_gdb(f"unix:{work}/gdb,go")
    config = MachineConfig(
        kernel, memory_bytes=256 << 20, console=hear, gdb=place, cpu="x86-64-v2", accel="kvm",
        command_line="console=ttyS0 earlyprintk=serial,ttyS0 panic=-1 mitigations=off cryptomgr.notests",
    )  # fmt: skip
    with Machine(config) as machine:
        machine.start()
        if not heard.wait(PATIENCE_S):
            sys.exit(f"the kernel said only {bytes(console[-500:])!r}")
        vmlinux, core = kernel.with_name("vmlinux"), work / "core"
        commands = ["info threads", "p/x $cr3", "set $count = $rcx", "set $at = $rip", *["stepi"] * STEPS]
        commands += ["p $rip != $at || $rcx != $count", "p/x $cs & 3", "x/2i $rip", f"monitor dump {core}", "detach"]
        said = gdb(vmlinux, f"target remote {work}/gdb", *commands)
        print(said)
        checks = {
            "it attached": '"vCPU 0"' in said,
            "it has page tables": bool(re.search(r"^\$1 = 0x[1-9a-f]", said, re.M)),
            "it stepped": "$2 = 1" in said,
            "memory is read through its tables": "=> 0x" in said and "Cannot access memory" not in said,
            "it was dumped": "bytes of memory written" in said,
        }
        opened = gdb(vmlinux, "x/2i $rip", "p/x $rip", core=[str(core)])
        print(opened)
        checks["the core opens, and has what is mapped"] = "=> 0x" in opened and "Cannot access" not in opened
        before = len(console)
        until = time.monotonic() + PATIENCE_S
        while len(console) == before and not machine.ending and time.monotonic() < until:
            time.sleep(0.1)
        checks["it runs on"] = len(console) > before or machine.ending  # it has no root file system to run on with
    for what, good in checks.items():
        print(f"linux: {'ok' if good else 'FAILED'} {what}")
    if not all(checks.values()):
        sys.exit(1)


def main() -> int:
    """Starts it there."""
    from tests.support import linux_image

    with tempfile.TemporaryDirectory(prefix="paravirt-gdb.") as scratch:
        words = [sys.executable, "-m", "tests.linux.debug", scratch, str(linux_image.kernel() / "vmlinuz")]
        return subprocess.run([str(ROOT / "tests/support/nested_kvm"), "--", *words], cwd=ROOT).returncode


if __name__ == "__main__":
    if len(sys.argv) == 3:
        inside(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        sys.exit(main())
