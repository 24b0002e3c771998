"""``./dev nested memtest86+``: a kernel that is not Linux, by Linux's boot protocol: it draws its screen on the serial
port and tests memory for as long as it is let.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support import linux_image
from tests.support.tree import ROOT

PACKAGE = "memtest86+"
ENOUGH = 3  # times that it says of a pattern that there were no errors
LIMIT_S = 300.0


def image(work: Path) -> Path:
    """The kernel, from its Debian package."""
    linux_image.run("apt-get", "download", PACKAGE, cwd=work)
    linux_image.run("dpkg-deb", "-x", next(work.glob("*.deb")), work / "tree")
    return work / "tree/boot/memtest86+x64.bin"


def watch(kernel: Path, until: float) -> str:
    """What is wrong with what it says, or nothing."""
    command = [str(ROOT / "tests/support/nested_kvm"), "--", sys.executable, "-m", "paravirt", "run", str(kernel),
               "--memory", "8M", "--cpu", "x86-64-v2", "--cmdline", "console=ttyS0,115200"]  # fmt: skip
    said = b""
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            while time.monotonic() < until and said.count(b"Errors: 0 ") < ENOUGH:
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    return f"it ended early: {said[-200:].decode(errors='replace')}"
                said += data
        finally:
            process.terminate()
    if b"Memtest86+" not in said or b"Status: Testing" not in said:
        return "it did not begin to test"
    return "" if said.count(b"Errors: 0 ") >= ENOUGH else "it did not get far enough in time"


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="paravirt-memtest.") as scratch:
        Path(scratch).chmod(0o755)
        try:
            kernel = image(Path(scratch))
        except pytest.skip.Exception as error:
            print(f"./dev nested memtest86+: {error}", file=sys.stderr)
            return 1
        wrong = watch(kernel, began + LIMIT_S)
    verdict = f"FAILED: {wrong}," if wrong else "tests memory"
    print(f"memtest86+ {verdict} after {time.monotonic() - began:.0f} s")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
