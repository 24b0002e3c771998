"""Boots Linux with our modules on this machine's KVM, over virtio-mmio and over calls, and judges what it says.

Arguments: the directory with the files, the kernel, how many vCPUs over calls; with virtio-mmio it is one.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.tap import tap_device

from . import asked, generation
from .files import blank_disk
from .inside import CPU, KERNEL_ARGUMENTS, LIMIT_S, http_server

MEMORY_MIB, BALLOON_MIB = 256, 16
DISK_BYTES = 4 << 20
DEVICES = 6  # two disks, a network, a balloon, a console, entropy
CHECKS = {"mmio": 3, "calls": 26}  # that the guest makes; fewer mean that it stopped early
RESULTS = {"mmio": 3, "calls": 5}
MORE = 2  # of both with a vCPU that can go
PANIC = "sysrq triggered crash"


def _run(work: Path, kernel: str, vcpus: int, transport: str, port: int) -> tuple[list[str], int]:
    expected = {"transport": transport, "port": port, "pages": BALLOON_MIB * 256, "devices": DEVICES,
                "size": DISK_BYTES}  # fmt: skip
    # Only ttyPV0 is a console: a serial port that is one, too, takes the input for as long as the kernel runs.
    arguments = KERNEL_ARGUMENTS.replace("console=ttyS0", "console=ttyPV0 earlyprintk=ttyS0")
    words = [*arguments.split(), *(f"expect.{name}={value}" for name, value in expected.items())]
    blank_disk(work / "scratch.img", 16 << 20)
    command = [sys.executable, "-m", "paravirt", "run", kernel, "--initrd", str(work / "initrd"),
               "--cmdline", " ".join(words), "--memory", f"{MEMORY_MIB}M", "--vcpus", str(vcpus), "--cpu", CPU,
               "--disk", f"data={work}/served/file,ro", "--disk", f"scratch={work}/scratch.img",
               "--net", "net=tap:linux0", "--balloon", f"balloon={BALLOON_MIB}M",
               *(["--deny", "entropy"] if transport == "mmio" else []),
               "--transport", transport, "--timeout", str(LIMIT_S)]  # fmt: skip
    lines = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        assert process.stdin and process.stdout
        for raw in process.stdout:
            lines.append(raw.decode("utf-8", "replace").rstrip())
            print(f"{transport:5}  {lines[-1]}", flush=True)
            lines += asked.serve(lines[-1], process, work / "served/file")
    return lines, process.returncode


def _results(lines: list[str]) -> list[str]:
    return [line.partition("linux: result ")[2] for line in lines if "linux: result " in line]


def _judge(transport: str, vcpus: int, lines: list[str], status: int, digest: str) -> Iterator[str]:
    """What is wrong."""
    failed = [line for line in lines if "linux: FAILED" in line]
    yield from failed
    more = MORE if vcpus > 1 else 0
    made = len(failed) + sum("linux: ok" in line for line in lines)
    if made != CHECKS[transport] + more:
        yield f"{made} checks were made over {transport}, not {CHECKS[transport] + more}"
    results = _results(lines)
    if len(results) != RESULTS[transport] + more or any(not text.endswith(digest) for text in results):
        yield f"the data came otherwise over {transport}: {'; '.join(results)}"
    if transport == "mmio" and status:
        yield f"`paravirt run` ended with status {status}"
    if transport == "calls" and sum(asked.QUIET in line for line in lines) != 2:
        yield "a pause was not acknowledged"
    if transport == "calls" and not (status and any(line.startswith("paravirt: ") and PANIC in line for line in lines)):
        yield f"no crash report, status {status}"


def main() -> int:
    work, kernel, vcpus = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    (work / "served").mkdir(exist_ok=True)
    contents = os.urandom(DISK_BYTES)
    (work / "served" / "file").write_bytes(contents)
    digest = hashlib.sha256(contents).hexdigest()
    wrong: list[str] = []
    with tap_device("linux0"), http_server(work / "served") as port:
        for transport in CHECKS:
            count = vcpus if transport == "calls" else 1
            lines, status = _run(work, kernel, count, transport, port)
            wrong += _judge(transport, count, lines, status, digest)
    wrong += generation.wrong(work)
    for what in wrong:
        print(f"WRONG: {what}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
