"""Linux without a module of ours, whose generator of random numbers hears of a copy by the VM generation id of ACPI.

Debian's kernel for clouds has no driver for that; the one by which KVM is emulated here does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support import linux_image

from . import asked
from .inside import CPU, KERNEL_ARGUMENTS, LIMIT_S

KERNEL = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nested-kvm" / "kernel" / "vmlinux"
RESEEDED = "crng reseeded due to virtual machine fork"
SCRIPT = f"""
dd if=/dev/random of=/dev/null bs=1 count=1 2>/dev/null
echo "{asked.MARK}copy told"
for try in $(seq 300); do dmesg | grep "{RESEEDED}" && break; sleep 0.1; done
poweroff -f
"""


def prepare(work: Path) -> None:
    """Makes the files of the test in `work`."""
    (work / "generation").write_bytes(linux_image.initramfs(SCRIPT))


def wrong(work: Path) -> Iterator[str]:
    """Boots it; what is wrong."""
    if not KERNEL.exists():
        print("no kernel with a driver for the VM generation id is here: that is not tried")
        return
    command = [sys.executable, "-m", "paravirt", "run", str(KERNEL), "--initrd", str(work / "generation"),
               "--cmdline", f"{KERNEL_ARGUMENTS} random.trust_cpu=on", "--memory", "256M", "--cpu", CPU,
               "--timeout", str(LIMIT_S)]  # fmt: skip
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        for raw in process.stdout:
            lines.append(raw.decode("utf-8", "replace").rstrip())
            print(f"acpi   {lines[-1]}", flush=True)
            asked.serve(lines[-1], process)
    if not any(RESEEDED in line for line in lines):
        yield "Linux has not heard of a copy by the VM generation id"
    if process.returncode:
        yield f"`paravirt run` ended with status {process.returncode}"
