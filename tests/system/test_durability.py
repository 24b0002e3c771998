"""What a guest was told is flushed survives its host's death, whenever that comes; tests/support/lossy_store.py.

PARAVIRT_KILLS says at how many points the host is killed, with each kind of disk (20; the long form is 200).
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.plant import VARIABLE, Mutant, build
from tests.support.tree import ROOT

KILLS = int(os.environ.get("PARAVIRT_KILLS", "20"))
DISK_BYTES = 1 << 20
BLOCK_BYTES = 4096
BLOCKS = DISK_BYTES // BLOCK_BYTES
STEP, MIXER = 101, 0x9E3779B97F4A7C15
FIRST, LAST = 3, 700  # operations after which it is killed
TIMEOUT_S = 60
GUEST = ROOT / "paravirt" / "guests" / "durability.elf"
NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def _possible() -> bool:
    if not shutil.which("unshare") or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.skipif(os.environ.get("PARAVIRT_ACCEL") == "auto", reason="nothing to run guests on"),
    pytest.mark.skipif(not _possible(), reason="needs /dev/fuse and a mount namespace"),
]

# The host that is killed: it is given the guest, the file, the engine, and the kind of disk.
HOST = """
import os, sys
from paravirt import Disk, Machine, MachineConfig
from paravirt.attachments.pmem import Pmem
image, path, engine, kind = sys.argv[1:]
console = lambda data: os.write(1, data)
disk = Pmem("mapped", path) if kind == "mapped" else Disk("disk", path, writethrough=kind == "through")
config = MachineConfig(image, devices=(disk,), command_line=kind, io_engine=engine, console=console)
with Machine(config) as machine:
    machine.run()
"""

# Hosts whose flush, or whose disk without a cache, keeps nothing, with either engine.
FORGETFUL = (
    Mutant(
        "uring_forgets",
        "",
        "paravirt/native/aio_uring.c",
        "io_uring_prep_fsync(sqe, request->fd, IORING_FSYNC_DATASYNC);",
        "io_uring_prep_nop(sqe);",
    ),
    Mutant("threads_forget", "", "paravirt/native/aio_threads.c", "result = fdatasync(request->fd);", "result = 0;"),
    Mutant(
        "pmem_writes_back_alone",
        "",
        "paravirt/native/pmem.c",
        "pmem->options.sync(pmem->options.fd) < 0",
        "sync_file_range(pmem->options.fd, 0, 0, SYNC_FILE_RANGE_WRITE_AND_WAIT) < 0",
    ),
    Mutant("uring_caches", "", "paravirt/native/aio_uring.c", "sqe->rw_flags = RWF_DSYNC;", "sqe->rw_flags = 0;"),
    Mutant("threads_cache", "", "paravirt/native/aio_threads.c", "request->durable ? RWF_DSYNC : 0", "0"),
)


def block(number: int) -> bytes:
    """What write `number` writes."""
    if number == 0:
        return bytes(BLOCK_BYTES)
    words = [(number << 32 | i) * MIXER & (1 << 64) - 1 for i in range(BLOCK_BYTES // 8)]
    return struct.pack(f"<{len(words)}Q", *words)


def killed(
    place: Path, operations: int, tree: Path = ROOT, mutant: str = "", engine: str = "auto", kind: str = ""
) -> tuple[int, bytes]:
    """Number of the last write that the guest knew flushed when its host was killed, and what the disk kept."""
    file, kept = place / "disk", place / "kept"
    file.touch()
    kept.write_bytes(bytes(DISK_BYTES))
    host = [sys.executable, "-P", "-c", HOST, str(GUEST), str(file), engine, kind]
    command = [*NAMESPACE, sys.executable, "-m", "tests.support.lossy_store", str(file), str(kept), str(operations)]
    environment = {**os.environ, "PYTHONPATH": str(tree), VARIABLE: mutant}
    done = subprocess.run(
        [*command, "--", *host], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"the host was not killed: {done.stderr}{done.stdout[-500:]}"
    said = [int(line.split()[1]) for line in done.stdout.splitlines(keepends=True) if line.endswith("\n")]
    return (said[-1] if said else 0), kept.read_bytes()


def lost(flushed: int, disk: bytes) -> list[str]:
    """What is missing of writes up to `flushed`; a block may hold a later write of the same place, but whole."""
    wrong = []
    for place in range(BLOCKS):
        wanted = max(
            (n for n in range(max(flushed - BLOCKS, 0) + 1, flushed + 1) if n * STEP % BLOCKS == place), default=0
        )
        found = disk[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]
        later = (n for n in range(wanted, flushed + 2 * BLOCKS) if n == wanted or n * STEP % BLOCKS == place)
        if found not in map(block, later):
            wrong.append(f"block {place} is not that of write {wanted}, nor of a later one")
    return wrong


@pytest.mark.parametrize("kill", range(KILLS))
def test_what_was_flushed_is_there(tmp_path: Path, kill: int) -> None:
    operations = random.Random(kill).randint(FIRST, LAST)
    engine = ("uring", "threads")[kill % 2]
    flushed, disk = killed(tmp_path, operations, engine=engine)
    assert lost(flushed, disk) == [], f"killed after {operations} operations"
    assert flushed >= operations // 2 - 20, "the guest got no further"


@pytest.mark.parametrize("kill", range(KILLS))
def test_what_a_disk_without_a_cache_answered_is_there(tmp_path: Path, kill: int) -> None:
    operations = random.Random(~kill).randint(FIRST, LAST)
    flushed, disk = killed(tmp_path, operations, engine=("uring", "threads")[kill % 2], kind="through")
    assert lost(flushed, disk) == [], f"killed after {operations} operations"
    assert flushed >= operations // 4 - 20, "the guest got no further"


@pytest.mark.parametrize("kill", range(KILLS))
def test_what_was_flushed_of_a_mapped_disk_is_there(tmp_path: Path, kill: int) -> None:
    operations = random.Random(kill + 0.5).randint(FIRST, LAST)
    flushed, disk = killed(tmp_path, operations, kind="mapped")
    assert lost(flushed, disk) == [], f"killed after {operations} operations"
    assert flushed >= operations // 4 - 20, "the guest got no further"


@pytest.mark.slow
@pytest.mark.parametrize("mutant, engine", [("uring_forgets", "uring"), ("threads_forget", "threads")])
def test_a_flush_that_does_nothing_is_found(tmp_path: Path, mutant: str, engine: str) -> None:
    tree = build(FORGETFUL, ROOT / "build" / "forgetful")
    flushed, disk = killed(tmp_path, LAST, tree=tree, mutant=mutant, engine=engine)
    assert flushed > 0
    assert lost(flushed, disk)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant, engine, kind",
    [
        ("uring_caches", "uring", "through"),
        ("threads_cache", "threads", "through"),
        ("pmem_writes_back_alone", "auto", "mapped"),
    ],
)
def test_a_cache_that_there_should_not_be_is_found(tmp_path: Path, mutant: str, engine: str, kind: str) -> None:
    tree = build(FORGETFUL, ROOT / "build" / "forgetful")
    flushed, disk = killed(tmp_path, LAST, tree=tree, mutant=mutant, engine=engine, kind=kind)
    assert flushed > 0
    assert lost(flushed, disk)
