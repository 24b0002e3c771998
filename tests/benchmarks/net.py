"""net / …: a guest that sends or receives frames as fast as it goes, over a TAP device.

    send 64 B, send 1500 B          frames per second, guest to host
    receive 64 B, receive 1500 B    the same, host to guest

The guest is bench_net, polling, at CPL 3 in both hypervisors, with queues of the same size.  The floor is a loop of
write() or read() on the same TAP device; QEMU has it without vhost.  All three get the same descriptor.

What is received waits in the device's queue before the clock runs, so that nobody has to make frames meanwhile: a third
thread on two CPUs would measure the scheduler.  Each of these frames must arrive, or there is no figure.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from paravirt import Machine, MachineConfig
from paravirt._native import lib
from paravirt.attachments.net import Net
from paravirt.errors import ParavirtError
from tests.support.tap import NoTap, await_up, set_queue_length, tap_device

from .common import bench_line, compile_c, guest, qemu_command
from .report import Row, make_row, missing_row

TAP = "pvbench"
MTU = 1500
QUEUE_SIZE = 256  # bench_net's
TIMEOUT_S = 120
FRAMES = 300_000
WAITING = FRAMES + FRAMES // 10 + 100  # with those that warm bench_net up
GOAL = ">= 1.4 x QEMU, >= 0.8 x the TAP device"


class Case(NamedTuple):
    """A row."""

    op: str
    size_bytes: int

    @property
    def figure(self) -> str:
        """Its name."""
        return f"{self.op} {self.size_bytes} B"

    @property
    def words(self) -> str:
        """The guest's command line."""
        return f"op={self.op} bytes={self.size_bytes} frames={FRAMES}"


CASES = tuple(Case(op, size_bytes) for op in ("send", "receive") for size_bytes in (64, 1500))


@contextmanager
def _link(code: ctypes.CDLL, case: Case) -> Iterator[int]:
    """A queue of the device's; the frames to receive are in it.  Raises RuntimeError."""
    fd = int(lib.pv_net_tap_open(TAP.encode(), False))
    if fd < 0:
        raise RuntimeError(f"the TAP device: {os.strerror(-fd)}")
    try:
        await_up(TAP)
        if case.op == "receive":
            filled = code.fill(socket.if_nametoindex(TAP), case.size_bytes, ctypes.c_uint64(WAITING))
            if filled != WAITING:
                raise RuntimeError(f"the TAP device took {filled} frames of {WAITING}")
        yield fd
    finally:
        os.close(fd)


def _rate(figures: dict[str, float]) -> float:
    return figures["frames"] * 1e9 / figures["ns"]


def ours(code: ctypes.CDLL, case: Case) -> float:
    """Our host, by calls.  Raises ParavirtError."""
    console = bytearray()
    with _link(code, case) as fd:
        config = MachineConfig(
            guest("bench_net"),
            devices=(Net("lan", f"fd:{fd}", mtu=MTU),),
            command_line=case.words,
            console=console.extend,
            timeout_s=TIMEOUT_S,
        )
        with Machine(config) as machine:
            machine.run()
            counts = machine.statistics().devices[0].more
    if case.op == "send" and counts["sent_frames"] < FRAMES or counts["send_dropped_refused"]:
        raise RuntimeError(f"frames were lost: {counts}")
    return _rate(bench_line(console.decode()))


def floor(code: ctypes.CDLL, case: Case) -> float:
    """The TAP device alone.  Raises RuntimeError if it does not work."""
    with _link(code, case) as fd:
        if case.op == "send":
            ns = code.floor_write(fd, case.size_bytes, ctypes.c_uint64(FRAMES))
        else:
            ns = code.floor_read(fd, ctypes.c_uint64(FRAMES))
    if not ns:
        raise RuntimeError("the TAP device failed")
    return FRAMES * 1e9 / float(ns)


def qemu(code: ctypes.CDLL, case: Case) -> float | None:
    """The peer; None if there is no QEMU.  Raises RuntimeError if its guest fails."""
    command = qemu_command(guest("bench_net"))
    if command is None:
        return None
    command += ["-append", case.words, "-global", "virtio-mmio.force-legacy=false"]
    command += ["-device", f"virtio-net-device,netdev=lan,rx_queue_size={QUEUE_SIZE},tx_queue_size={QUEUE_SIZE}"]
    with _link(code, case) as fd:
        command += ["-netdev", f"tap,id=lan,fd={fd},vhost=off"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, errors="replace", pass_fds=(fd,)
        )
    if done.returncode != 1:  # isa-debug-exit makes 2 * status + 1 of the guest's status
        raise RuntimeError(f"QEMU's guest failed: {done.stderr.strip() or done.stdout.strip()}")
    return _rate(bench_line(done.stdout))


def _row(code: ctypes.CDLL, case: Case, rounds: int) -> Row:
    taken = []
    for _ in range(rounds):
        try:
            one = {"value": ours(code, case), "floor": floor(code, case)}
        except ParavirtError as error:
            return missing_row("net", case.figure, "frames/s", str(error))
        if peer := qemu(code, case):
            one["peer"] = peer
        taken.append(one)
    why = "" if "peer" in taken[0] else "no QEMU here"
    return make_row("net", case.figure, "frames/s", taken, better="higher", goal=GOAL, why=why)


def _with_tap(act: Callable[[], list[Row]]) -> list[Row]:
    """In a thread of its own, whose network namespace ends with it."""
    rows: list[Row] = []
    errors: list[BaseException] = []

    def run_it() -> None:
        try:
            with tap_device(TAP):
                set_queue_length(TAP, WAITING + 1000)  # the kernel sends some of its own
                rows.extend(act())
        except NoTap as why:
            rows.extend(missing_row("net", case.figure, "frames/s", str(why)) for case in CASES)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run_it)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return rows


def run(rounds: int) -> list[Row]:
    """Ours, the TAP device alone and QEMU in turn."""
    with tempfile.TemporaryDirectory() as work:
        code = compile_c("net_floor.c", Path(work))
        code.floor_write.restype = code.floor_read.restype = ctypes.c_uint64
        code.fill.restype = ctypes.c_int64
        return _with_tap(lambda: [_row(code, case, rounds) for case in CASES])
