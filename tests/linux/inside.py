"""Boots Linux on this machine's KVM with one of each device, and judges what it says; ``./dev nested linux`` has it
run under an emulated KVM.  Arguments: the directory with the files, the kernel, how many vCPUs.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tap import HOST, tap_device

from .files import blank_disk

MEMORY_MIB, BALLOON_MIB = 384, 64
FILE_BYTES = 1 << 20
LIMIT_S = 100_000  # of the emulated machine, whose clock may run fast; who starts it sees to the time
CPU = "x86-64-v2"  # an emulated KVM does not learn of XSETBV, so its guests had better know no XSAVE
CHECKS = 31  # that the guest makes; fewer mean that it stopped early
# Nothing of what a user would not write, but for what an emulated CPU takes minutes for: work-arounds for defects of
# real ones, self-tests of ciphers, grace periods.
KERNEL_ARGUMENTS = "quiet console=ttyS0 panic=-1 mitigations=off cryptomgr.notests rcupdate.rcu_expedited=1 audit=0"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        """Says nothing."""


@contextmanager
def http_server(directory: Path) -> Iterator[int]:
    """A server of the files in `directory`; its port."""
    handler = functools.partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer((HOST, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _vsock(path: Path) -> Iterator[None]:
    """The host's port 1234, which answers ``pong`` to one guest."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}_1234")
        listener.listen()

        def answer() -> None:
            try:
                guest, _ = listener.accept()
            except OSError:  # nobody came
                return
            with guest:
                guest.settimeout(60)
                guest.sendall(b"pong" if guest.recv(4) == b"ping" else b"what?")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _command(work: Path, kernel: str, vcpus: int, port: int) -> list[str]:
    file = work / "served" / "file"
    expected = {
        "cpus": vcpus,
        "port": port,
        "sum": hashlib.sha256(file.read_bytes()).hexdigest(),
        "size": FILE_BYTES,
        "pages": BALLOON_MIB * 256,
    }
    words = [*KERNEL_ARGUMENTS.split(), *(f"expect.{name}={value}" for name, value in expected.items())]
    command = [sys.executable, "-m", "paravirt", "run", kernel, "--initrd", str(work / "initrd"),
               "--cmdline", " ".join(words), "--memory", f"{MEMORY_MIB}M", "--vcpus", str(vcpus), "--cpu", CPU,
               "--disk", f"root={work}/root.img", "--disk", f"scratch={work}/scratch.img",
               "--net", "net=tap:linux0", "--vsock", f"vsock={work}/vsock",
               "--balloon", f"balloon={BALLOON_MIB}M", "--timeout", str(LIMIT_S)]  # fmt: skip
    return command


def _judge(lines: list[str], status: int) -> list[str]:
    """What is wrong."""
    wrong = [line for line in lines if "linux: FAILED" in line]
    passed = sum("linux: ok" in line for line in lines)
    if passed + len(wrong) != CHECKS:
        wrong.append(f"{passed + len(wrong)} checks were made, not {CHECKS}")
    if status:
        wrong.append(f"`paravirt run` ended with status {status}")
    return wrong


def main() -> int:
    work, kernel, vcpus = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    (work / "served").mkdir(exist_ok=True)
    (work / "served" / "file").write_bytes(os.urandom(FILE_BYTES))
    blank_disk(work / "scratch.img", 64 << 20)
    lines = []
    with (
        tap_device("linux0"),
        http_server(work / "served") as port,
        _vsock(work / "vsock"),
        subprocess.Popen(_command(work, kernel, vcpus, port), stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace").rstrip()
            print(line, flush=True)
            lines.append(line)
    wrong = _judge(lines, process.returncode)
    print(f"ended with status {process.returncode}")
    for what in wrong:
        print(f"WRONG: {what}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
