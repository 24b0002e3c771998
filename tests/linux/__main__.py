"""``./dev nested linux``: Linux as it is under ``paravirt run``, on an emulated hardware-style KVM; prints the time."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support import linux_image
from tests.support.tree import ROOT

from . import modules
from .files import initramfs, root_file_system


def _plain(error: BaseException) -> str:
    """In one line; who is told of a compiler that failed has read what that said."""
    if isinstance(error, subprocess.CalledProcessError):
        command = " ".join(map(str, error.cmd))
        return f"{command} failed; with linux-headers-cloud-amd64, make, gcc and binutils installed it should not"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; ./dev installs what is missing when run as root"
    return str(error)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev nested linux", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["modules"], help="with our modules, over both transports")
    parser.add_argument("--vcpus", type=int, metavar="N", default=2, help="vCPUs of the guest (2)")
    parser.add_argument("--timeout", type=float, default=1500, metavar="S", help="of all of it (1500)")
    parser.add_argument("--here", action="store_true", help="on this machine's own KVM; needs root, for a TAP device")
    args = parser.parse_args()
    began = time.monotonic()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    with tempfile.TemporaryDirectory(prefix="paravirt-linux.") as scratch:
        work = Path(scratch)
        try:
            kernel = linux_image.kernel() / "vmlinuz"
            if args.what:
                modules.prepare(work)
            else:
                (work / "initrd").write_bytes(initramfs())
                root_file_system(work / "root.img")
        except (pytest.skip.Exception, subprocess.CalledProcessError, OSError) as error:
            print(f"./dev nested linux: {_plain(error)}", file=sys.stderr)
            return 1
        print(f"Debian's kernel and its files are made after {time.monotonic() - began:.0f} s", flush=True)
        inside = [sys.executable, "-m", "tests.linux.inside", str(work), str(kernel), str(args.vcpus)]
        if args.what:
            inside = modules.command(work, kernel, args.vcpus)
        left = max(1.0, args.timeout - (time.monotonic() - began))
        nested = [str(ROOT / "tests/support/nested_kvm"), "--timeout", f"{left:.0f}", "--"]
        with subprocess.Popen(inside if args.here else [*nested, *inside], cwd=ROOT, stdout=subprocess.PIPE) as run:
            assert run.stdout
            for line in run.stdout:
                text = line.decode("utf-8", "replace").rstrip()
                print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)
        status = run.returncode
    print(f"Linux {'passed' if not status else 'FAILED'} after {time.monotonic() - began:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
