"""vsock / …: a stream between a guest and a program of the host's, over a UNIX socket.

    stream send, stream receive     bytes per second, guest to host and host to guest
    stream round trip               a message of 64 bytes there and back, one at a time

The guest is bench_vsock, which looks all the time; the program is a thread of this process that blocks in recv().
The floor is the same between two threads with a pair of UNIX sockets.  There is no peer: QEMU's vsock is the
kernel's (vhost-vsock), which takes rights and a module, or a vhost-user program that nobody ships with it.
"""

from __future__ import annotations

import ctypes
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from paravirt.attachments.vsock import Vsock
from paravirt.errors import ParavirtError

from .common import bench_line, compile_c, run_guest
from .report import Row, make_row, missing_row

PORT = 5000  # bench_vsock's
TIMEOUT_S = 60
STREAM_BYTES = 256 << 20
MESSAGE_BYTES, MESSAGES = 64, 20_000
PIECE_BYTES = 65536  # that both give away at once; a packet of the guest's has 4096
NO_PEER = "no peer: QEMU's vsock is the kernel's, and wants rights"


class Case(NamedTuple):
    """A row."""

    op: str
    figure: str
    bytes: int
    size_bytes: int
    unit: str = "bytes/s"
    better: str = "higher"

    @property
    def words(self) -> str:
        """The guest's command line."""
        return f"op={self.op} bytes={self.bytes} size={self.size_bytes}"

    def value(self, ns: float) -> float:
        """The figure, of the ns that all took; of an echo those of a message."""
        return ns / 1000 if self.op == "echo" else self.bytes * 1e9 / ns


CASES = (
    Case("send", "stream send", STREAM_BYTES, PIECE_BYTES),
    Case("receive", "stream receive", STREAM_BYTES, PIECE_BYTES),
    Case("echo", "stream round trip", MESSAGES * MESSAGE_BYTES, MESSAGE_BYTES, "us", "lower"),
)


@contextmanager
def _served(code: ctypes.CDLL, case: Case, connect: Callable[[], socket.socket]) -> Iterator[None]:
    """A thread that is the program at the end of the socket.  Raises RuntimeError if its stream ended early."""
    wrong: list[str] = []

    def serve() -> None:
        try:
            with connect() as stream:
                stream.setblocking(True)
                amount = ctypes.c_uint64(case.size_bytes if case.op == "echo" else case.bytes)
                if not getattr(code, f"serve_{case.op}")(stream.fileno(), amount):
                    wrong.append("the stream ended early")
        except OSError as error:
            wrong.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if wrong:
        raise RuntimeError(f"vsock: {wrong[0]}")


def ours(code: ctypes.CDLL, case: Case, work: Path) -> dict[str, float]:
    """The guest's figures.  Raises ParavirtError."""
    with socket.socket(socket.AF_UNIX) as listener:
        at = work / f"v_{PORT}"
        at.unlink(missing_ok=True)
        listener.bind(str(at))
        listener.listen()
        listener.settimeout(TIMEOUT_S)
        with _served(code, case, lambda: listener.accept()[0]):
            _, told = run_guest("bench_vsock", devices=(Vsock("socks", work / "v"),), command_line=case.words)
    figures = bench_line(told)
    return {"value": case.value(figures["median_ns"]), "p99": case.value(figures["p99_ns"])}


def floor(code: ctypes.CDLL, case: Case) -> float:
    """Two threads.  Raises RuntimeError if that does not work."""
    ends = socket.socketpair()
    with ends[0], _served(code, case, lambda: ends[1]):
        fd, amount = ends[0].fileno(), ctypes.c_uint64(case.bytes)
        if case.op == "echo":
            ns = code.floor_echo(fd, ctypes.c_uint64(MESSAGES), case.size_bytes)
        elif case.op == "send":
            ns = code.floor_send(fd, amount, case.size_bytes)
        else:
            ns = code.floor_receive(fd, amount)
        ends[0].shutdown(socket.SHUT_RDWR)
    if not ns:
        raise RuntimeError("the pair of sockets failed")
    return case.value(float(ns))


def run(rounds: int) -> list[Row]:
    """Ours and the pair of sockets in turn."""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        code = compile_c("vsock_floor.c", Path(work))
        for function in (code.floor_send, code.floor_receive, code.floor_echo):
            function.restype = ctypes.c_uint64
        for function in (code.serve_send, code.serve_receive, code.serve_echo):
            function.restype = ctypes.c_bool
        for case in CASES:
            try:
                taken = [ours(code, case, Path(work)) | {"floor": floor(code, case)} for _ in range(rounds)]
            except ParavirtError as error:
                rows.append(missing_row("vsock", case.figure, case.unit, str(error)))
                continue
            if case.op != "echo":
                for one in taken:
                    del one["p99"]
            rows.append(make_row("vsock", case.figure, case.unit, taken, better=case.better, why=NO_PEER))
    return rows
