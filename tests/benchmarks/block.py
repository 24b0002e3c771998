"""block / …: a guest that reads a disk as fast as it goes, beside fio on the same file and QEMU with the same guest.

    random read cached, random read direct    4 KiB, depth 32, requests per second
    latency cached, latency direct            4 KiB, depth 1, median and p99
    sequential                                1 MiB, depth 8, page cache, MiB per second
    sequential write                          the same, written
    mapped                                    4 KiB reads of an image that is mapped into the guest (virtio-pmem)

The guest is bench_block, polling, at CPL 3 in both hypervisors, with queues of the same size.  fio is at its best:
io_uring with registered files and buffers (of whole pages, or its copies take twice as long) at the same depth, as many
submitted and taken at once as serve it best, and it looks at the clock only where latency is asked for.  QEMU has a
thread of its own for the disk, io_uring, and as long to poll as our threads have.  The guest of `mapped` is bench_pmem,
its floor a process that has the file mapped (mapped.c), its peer QEMU's cached random read.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from paravirt.attachments.block import Disk
from paravirt.attachments.pmem import Pmem
from paravirt.config import Budgets
from paravirt.errors import ParavirtError

from .common import TIMEOUT_S, bench_line, compile_c, guest, qemu_command, run_guest
from .report import Row, make_row, missing_row

DISK_BYTES = 256 << 20
CHUNK_BYTES = 1 << 20
PAGE_BYTES = 4096
QUEUE_SIZE = 128  # bench_block's
BATCH, DIRECT_BATCH = 16, 4  # fio's, best as measured
Figures = dict[str, float]


class Case(NamedTuple):
    """A row: how the guest works, and what is wanted."""

    figure: str
    words: dict[str, str | int]
    unit: str
    goal: str
    direct: bool = False

    @property
    def writes(self) -> bool:
        """Whether the disk is written."""
        return self.words.get("op") == "write"

    @property
    def value(self) -> Callable[[Figures], Figures]:
        """What its unit makes of a run's figures."""
        return {"IOPS": _per_second, "MiB/s": _mib_per_second, "us": _latency}[self.unit]


RANDOM: dict[str, str | int] = {"order": "random", "bytes": 4096, "depth": 32}
ONE: dict[str, str | int] = {"order": "random", "bytes": 4096, "depth": 1}
LARGE: dict[str, str | int] = {"order": "sequential", "bytes": 1 << 20, "depth": 8, "requests": 6000}
CASES = (
    Case("random read cached", {**RANDOM, "requests": 300_000}, "IOPS", ">= 1.2 x QEMU, >= 0.9 x fio"),
    Case("random read direct", {**RANDOM, "requests": 240_000}, "IOPS", ">= QEMU, >= 0.95 x fio", direct=True),
    Case("latency cached", {**ONE, "requests": 50_000}, "us", "<= 0.6 x QEMU"),
    Case("latency direct", {**ONE, "requests": 15_000}, "us", "<= fio + 3 us", direct=True),
    Case("sequential", LARGE, "MiB/s", ">= QEMU, >= 0.9 x fio"),
    Case("sequential write", LARGE | {"op": "write"}, "MiB/s", ""),
)


MAPPED = {"requests": 1_000_000, "bytes": 4096}


def _per_second(f: Figures) -> Figures:
    return {"value": f["requests"] * 1e9 / f["ns"]}


def _mib_per_second(f: Figures) -> Figures:
    return {"value": f["bytes"] / (1 << 20) * 1e9 / f["ns"]}


def _latency(f: Figures) -> Figures:
    return {"value": f["median_ns"] / 1e3, "p99": f["p99_ns"] / 1e3}


@contextmanager
def disk_file() -> Iterator[Path]:
    """Random bytes, in the page cache and on the disk below."""
    # Beside the tree rather than in /tmp, which may be memory and then knows no O_DIRECT.
    work = Path("build")
    work.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work, prefix="bench-") as place:
        path = Path(place).absolute() / "disk"
        with path.open("wb") as file:
            for _ in range(DISK_BYTES // CHUNK_BYTES):
                file.write(os.urandom(CHUNK_BYTES))
            file.flush()
            os.fsync(file.fileno())
        yield path


def _command_line(case: Case) -> str:
    return " ".join(f"{name}={value}" for name, value in case.words.items())


def ours(case: Case, path: Path) -> Figures:
    """Our host, by calls.  Raises ParavirtError."""
    disk = Disk("disk", path, read_only=not case.writes, direct=case.direct)
    return bench_line(run_guest("bench_block", disks=(disk,), command_line=_command_line(case))[1])


def fio(case: Case, path: Path) -> Figures | None:
    """The floor: the host itself; None if there is no fio.  Raises RuntimeError if it fails."""
    if not shutil.which("fio"):
        return None
    words = case.words
    kind = ("rand" if words["order"] == "random" else "") + ("write" if case.writes else "read")
    size = int(words["requests"]) * int(words["bytes"])
    options = {
        "name": "floor", "filename": path, "rw": kind, "bs": words["bytes"], "iodepth": words["depth"],
        "io_size": size, "direct": int(case.direct), "ioengine": "io_uring", "registerfiles": 1, "fixedbufs": 1,
        "invalidate": 0, "norandommap": 1, "iomem_align": PAGE_BYTES, "output-format": "json",
    }  # fmt: skip
    if case.unit == "us":
        options["lat_percentiles"] = 1
    else:
        batch = DIRECT_BATCH if case.direct else BATCH
        options |= {"gtod_reduce": 1, "iodepth_batch_submit": batch}
        options |= {"iodepth_batch_complete_min": 1, "iodepth_batch_complete_max": batch}
    command = ["fio", *(f"--{name}={value}" for name, value in options.items())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"fio failed: {done.stderr.strip()}")
    f = json.loads(done.stdout)["jobs"][0]["write" if case.writes else "read"]
    figures = {"requests": f["total_ios"], "bytes": f["io_bytes"], "ns": f["runtime"] * 1e6}  # it counts in ms
    if percentiles := f["lat_ns"].get("percentile"):
        figures |= {"median_ns": percentiles["50.000000"], "p99_ns": percentiles["99.000000"]}
    return figures


def qemu(case: Case, path: Path) -> Figures | None:
    """The peer at its best; None if there is no QEMU.  Raises RuntimeError if its guest fails."""
    command = qemu_command(guest("bench_block"))
    if command is None:
        return None
    fixed = "off" if case.writes else "on"
    file = f"driver=file,filename={path},aio=io_uring,cache.direct={'on' if case.direct else 'off'}"
    command += ["-append", _command_line(case), "-global", "virtio-mmio.force-legacy=false"]
    command += ["-object", f"iothread,id=io,poll-max-ns={Budgets().poll_ns}"]
    command += ["-blockdev", f"node-name=file,read-only={fixed},{file}"]
    command += ["-blockdev", f"node-name=disk,driver=raw,file=file,read-only={fixed}"]
    command += ["-device", f"virtio-blk-device,drive=disk,iothread=io,queue-size={QUEUE_SIZE}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, errors="replace")
    if done.returncode != 1:  # isa-debug-exit makes 2 * status + 1 of the guest's status
        raise RuntimeError(f"QEMU's guest failed: {done.stderr.strip() or done.stdout.strip()}")
    return bench_line(done.stdout)


def _row(case: Case, path: Path, rounds: int) -> Row:
    taken, missing = [], []
    for _ in range(rounds):
        try:
            one = case.value(ours(case, path))
        except ParavirtError as error:
            return missing_row("block", case.figure, case.unit, str(error))
        for name, other in (("floor", partial(fio, case, path)), ("peer", partial(qemu, case, path))):
            if figures := other():
                one[name] = case.value(figures)["value"]
            else:
                missing.append({"floor": "no fio here", "peer": "no QEMU here"}[name])
        taken.append(one)
    better = "lower" if case.unit == "us" else "higher"
    return make_row(
        "block", case.figure, case.unit, taken, better=better, goal=case.goal, why=", ".join(sorted(set(missing)))
    )


def _mapped_row(path: Path, rounds: int, work: Path) -> Row:
    requests, size = MAPPED["requests"], MAPPED["bytes"]
    library = compile_c("mapped.c", work)
    library.mapped_floor.argtypes = [ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint64]
    library.mapped_floor.restype = ctypes.c_uint64
    taken = []
    for _ in range(rounds):
        disk = Pmem("disk", path, read_only=True)
        _, told = run_guest("bench_pmem", devices=(disk,), command_line=f"requests={requests} bytes={size}")
        one = _per_second(bench_line(told))
        one["floor"] = requests * 1e9 / library.mapped_floor(str(path).encode(), requests, size)
        if figures := qemu(CASES[0], path):
            one["peer"] = _per_second(figures)["value"]
        taken.append(one)
    return make_row("block", "mapped", "IOPS", taken, better="higher", goal=">= 5 x QEMU's cached random read")


def run(rounds: int) -> list[Row]:
    """Ours, fio and QEMU in turn, on one file."""
    with disk_file() as path:
        return [*(_row(case, path, rounds) for case in CASES), _mapped_row(path, rounds, path.parent)]
