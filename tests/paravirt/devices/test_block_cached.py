"""Reads of what the page cache has: copied from the mapped file, unless it is not there, or was cut."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hypercall_abi.devices.virtio_block import BLOCK_REQUEST, BLOCK_STATUS
from paravirt.devices.block import BlockDevice
from tests.support.block_driver import SECTOR, BlockDriver, block_guest

OK, IO_ERROR = BLOCK_STATUS.OK, BLOCK_STATUS.IO_ERROR
PAGE = mmap.PAGESIZE
PIECE = 512 * PAGE
SIZE = 2 * PIECE + PAGE + SECTOR  # the last sector is of no whole page
ROOT = Path(__file__).resolve().parents[3]
MOST_PIECES = 32768  # of block_cached.c


@pytest.fixture
def contents() -> bytes:
    return random.Random(8).randbytes(SIZE)


@pytest.fixture
def path(tmp_path: Path, contents: bytes) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(contents)
    return path


def cached(disk: BlockDriver) -> int:
    """Reads that were copies."""
    device = disk.device.device
    assert isinstance(device, BlockDevice)
    return device.statistics()["cached"]


def test_what_is_there_is_copied(path: Path, contents: bytes) -> None:
    """Whole pages or not, in one piece of guest memory or in several."""
    with block_guest(path) as disk:
        for n, (sector, sectors) in enumerate([(0, 8), (3, 1), (7, 2), (PIECE // SECTOR - 4, 8), (1, 500)], 1):
            answer = disk.read(sector, sectors * SECTOR, () if n % 2 else (100, 30))
            assert (answer.status, answer.used_bytes) == (OK, sectors * SECTOR + 1)
            assert answer.data == contents[sector * SECTOR : (sector + sectors) * SECTOR]
            assert cached(disk) == n
        assert disk.read(SIZE // SECTOR - 1, SECTOR).data == contents[-SECTOR:]
        assert cached(disk) == n, "the end of a file that is no whole page is the engine's"


def test_what_was_written_is_read(path: Path) -> None:
    with block_guest(path) as disk:
        for n in range(20):
            assert disk.write(n, bytes([n]) * SECTOR).status == OK
            assert disk.read(n, SECTOR).data == bytes([n]) * SECTOR
        assert cached(disk) == 20
        assert disk.ranges(BLOCK_REQUEST.WRITE_ZEROES, (8, 8, 1)).status == OK
        assert disk.read(8, 8 * SECTOR).data == bytes(8 * SECTOR)


def resident(path: Path, page: int) -> bool:
    """Whether the page cache has that page, asked without this project's own code."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with path.open("rb") as file:
        at = libc.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), page * PAGE)
    state = ctypes.create_string_buffer(1)
    assert libc.mincore(at, PAGE, state) == 0
    libc.munmap(at, PAGE)
    return bool(state.raw[0] & 1)


def test_what_is_not_there_is_the_engines(path: Path, contents: bytes) -> None:
    """Once it went through the page cache it is there.  A file system in memory has it always."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    with block_guest(path) as disk:
        there = resident(path, 40 * SECTOR // PAGE)
        assert disk.read(40, 8 * SECTOR).data == contents[40 * SECTOR : 48 * SECTOR]
        assert cached(disk) == there
        assert disk.read(40, 8 * SECTOR).data == contents[40 * SECTOR : 48 * SECTOR]
        assert cached(disk) == there + 1


def test_a_file_that_is_cut_and_grows_again(path: Path, contents: bytes) -> None:
    """Each time all that was known is forgotten, more often than there are rounds."""
    with block_guest(path) as disk:
        for _ in range(300):
            assert disk.read(16, 16 * SECTOR).data == contents[16 * SECTOR : 32 * SECTOR]
            os.truncate(path, 24 * SECTOR)
            cut = disk.read(16, 16 * SECTOR)
            assert (cut.status, cut.used_bytes) == (IO_ERROR, 8 * SECTOR + 1)
            assert cut.data[: 8 * SECTOR] == contents[16 * SECTOR : 24 * SECTOR]
            with path.open("r+b") as file:
                file.seek(24 * SECTOR)
                file.write(contents[24 * SECTOR :])
        assert cached(disk) == 300


@pytest.mark.parametrize("size", [24 * SECTOR - 1, 24 * SECTOR - PAGE + 1, 24 * SECTOR - PAGE])
def test_zeros_behind_the_end_are_no_data(path: Path, size: int) -> None:
    """The file's own zeros are."""
    with path.open("r+b") as file:
        file.write(bytes(24 * SECTOR))
    with block_guest(path) as disk:
        assert disk.read(23, SECTOR).data == bytes(SECTOR)
        assert cached(disk) == 1
        os.truncate(path, size)
        assert disk.read(23, SECTOR).status == IO_ERROR
        assert cached(disk) == 1


@pytest.mark.skipif(not shutil.which("gcc"), reason="no compiler")
def test_a_guest_that_looks_into_all_of_a_large_file(tmp_path: Path) -> None:
    """What that costs the host in page tables, of which nobody tells it, has a bound; the rest is the engine's."""
    native, built = ROOT / "paravirt" / "native", tmp_path / "cached_harness"
    sources = [Path(__file__).with_name("cached_harness.c")]
    sources += [native / f"{name}.c" for name in ("block_cached", "fault_copy", "peer_memory")]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-O1", f"-I{native}"]
    subprocess.run(["gcc", *flags, *map(str, sources), "-lpthread", "-o", str(built)], check=True)
    command = [str(built), str(tmp_path / "disk"), str(MOST_PIECES + 4096)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=100)
    assert done.returncode == 0, done
    copies, tables_kb = map(int, done.stdout.split())
    assert copies == MOST_PIECES
    assert tables_kb < (MOST_PIECES + 1024) * PAGE // 1024


def test_named_engines_do_all_themselves(path: Path) -> None:
    with block_guest(path, engine="threads") as disk:
        assert disk.read(0, SECTOR).status == OK
        assert cached(disk) == 0


PROGRAM = """
import faulthandler, mmap, os, signal, sys
from pathlib import Path
from tests.support.block_driver import SECTOR, block_guest
path, how = Path(sys.argv[1]), sys.argv[2]
if how == "handler":
    faulthandler.enable()
if how == "ignored":
    signal.signal(signal.SIGBUS, signal.SIG_IGN)
with block_guest(path) as disk:
    if how == "replaced":
        signal.signal(signal.SIGBUS, lambda *_: None)
        with block_guest(path, read_only=True) as second:
            assert second.read(0, SECTOR).status == 0
            print(second.device.device.statistics()["cached"])
            sys.exit()
    disk.read(0, SECTOR)
    with path.open("r+b") as file:
        mine = mmap.mmap(file.fileno(), 0)
        os.truncate(path, 0)
        assert disk.read(0, SECTOR).status == 1
        print("lives", flush=True)
        if how == "sent":
            os.kill(os.getpid(), signal.SIGBUS)
        else:
            mine[0]
"""


REPLACED = """
import faulthandler, os, signal, sys, time
from pathlib import Path
from tests.support.block_driver import SECTOR, block_guest
path, how = Path(sys.argv[1]), sys.argv[2]
with block_guest(path) as disk:
    count = lambda: disk.device.device.statistics()["cached"]
    assert disk.read(0, SECTOR).status == 0
    assert count() == 1
    if how != "signal":
        faulthandler.enable()
    else:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
    time.sleep(0.01)  # a look at the handler holds for some 100 us
    assert disk.read(0, SECTOR).status == 0
    assert count() == 1
    if how == "back":
        faulthandler.disable()
        assert disk.read(0, SECTOR).status == 0
        assert count() == 2
    os.truncate(path, 0)
    assert disk.read(0, SECTOR).status == 1
    print("lives")
"""


@pytest.mark.parametrize("how", ["faulthandler", "signal", "back"])
def test_a_handler_that_is_taken_away_ends_the_copies(path: Path, how: str) -> None:
    """And a file that is cut then does not end the process."""
    done = subprocess.run([sys.executable, "-c", REPLACED, path, how], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "lives\n"), done.stderr


@pytest.mark.parametrize("how", ["plain", "handler", "ignored", "sent"])
def test_faults_that_are_not_ours_end_the_process_as_before(path: Path, how: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, path, how], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, "lives\n"), done.stderr
    assert ("Bus error" in done.stderr) == (how == "handler")


def test_without_our_handler_nothing_is_mapped(path: Path) -> None:
    """Somebody put another in its place: a file that is cut would end the process."""
    path.chmod(0o600)
    program = PROGRAM.replace("block_guest(path) as disk", "block_guest(path, read_only=True) as disk")
    done = subprocess.run([sys.executable, "-c", program, path, "replaced"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
