"""The main job: a real directory tree goes into a guest as a disk and comes back as verified digests.

The guest ``demo`` reads the disk ``input`` (a tar), hashes every file on all its vCPUs, prints the
list on its console and writes it to the disk ``report``.  Here the tar is made, the guest is run,
and every digest on both is held against the real files.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from .config import Disk, MachineConfig, ServedDisk
from .control.server import Published
from .errors import ConfigError, DemoFailed
from .machine import Machine
from .outcome import Outcome
from .storage_daemon import Export, StorageDaemon, image_tool

SECTOR_BYTES = 512
LINE = re.compile(rb"([0-9a-f]{64})  (\d+)  (.+)")

Listing = dict[str, tuple[int, str]]
"""Name in the tar → size in bytes, SHA-256 in hexadecimal."""


@dataclass(frozen=True)
class Verified:
    """A demo that held."""

    files: int
    size_bytes: int
    outcome: Outcome


def collect(trees: Iterable[Path]) -> list[tuple[str, Path]]:
    """(name, path) of the regular files below `trees`, in order, caches and hidden files left out."""
    found = []
    for tree in trees:
        for path in sorted(tree.rglob("*")):
            inner = path.relative_to(tree.parent)
            hidden = any(part.startswith((".", "__pycache__")) for part in inner.parts)
            if path.is_file() and not path.is_symlink() and not hidden:
                found.append((str(inner), path))
    if not found:
        raise ConfigError("no files to pack; name a directory that has some")
    return found


def pack(files: Iterable[tuple[str, Path]], to: Path) -> Listing:
    """Writes `files` as a tar and says what a reader of it must find."""
    listing: Listing = {}
    with tarfile.open(to, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in files:
            data = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
            listing[name] = (len(data), hashlib.sha256(data).hexdigest())
    return listing


def make_report(listing: Listing, path: Path) -> None:
    """An empty disk with room for the list."""
    room = sum(64 + 2 + 20 + 2 + len(name.encode()) + 1 for name in listing) + SECTOR_BYTES
    path.write_bytes(bytes(room + -room % SECTOR_BYTES))


def parse_list(text: bytes) -> Listing:
    """The lines of a list; other lines are skipped."""
    found = (LINE.fullmatch(line.rstrip(b"\r")) for line in text.split(b"\n"))
    return {m[3].decode("utf-8", "replace"): (int(m[2]), m[1].decode()) for m in found if m}


def compare(what: str, got: Listing, wanted: Listing) -> None:
    """Raises DemoFailed, naming the first difference."""
    for name, expected in wanted.items():
        if name not in got:
            raise DemoFailed(f"{what} lacks {name}")
        if got[name] != expected:
            raise DemoFailed(f"{what} says {got[name]} of {name}, the file is {expected}")
    if extra := set(got) - set(wanted):
        raise DemoFailed(f"{what} has {sorted(extra)[0]}, which was not packed")


class Files:
    """The two disks of the demo as files, a context manager while the guest runs."""

    def __init__(self, tar: Path, report: Path) -> None:
        self.tar, self.report = tar, report
        self.disks: tuple[Disk | ServedDisk, ...] = (Disk("input", tar, read_only=True), Disk("report", report))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Files need nothing."""

    def reported(self) -> bytes:
        """What is on the disk report now."""
        return self.report.read_bytes()


class Qcow2Files(Files):
    """The same as qcow2 images, which qemu-storage-daemon serves.  Raises HostCallFailed."""

    def __init__(self, tar: Path, report: Path, bytes_per_second: int = 0) -> None:
        super().__init__(tar, report)
        exports = []
        for name, image in (("input", tar), ("report", report)):
            stored = image.with_suffix(".qcow2")
            image_tool("convert", "-O", "qcow2", image, stored)
            exports.append(Export(name, stored, name == "input", bytes_per_second=bytes_per_second))
        self.daemon = StorageDaemon(exports, tar.parent)
        self.disks = self.daemon.disks

    def __enter__(self) -> Self:
        self.daemon.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.daemon.kill()

    def reported(self) -> bytes:
        """The daemon ends first: what it keeps in memory is in the image then."""
        self.daemon.stop()
        image_tool("convert", "-O", "raw", self.report.with_suffix(".qcow2"), self.report)
        return super().reported()


def run_demo(
    config: MachineConfig,
    trees: Iterable[Path],
    work: Path,
    said: Callable[[str], None],
    made: Callable[[Machine], object] = lambda _: None,
    stored: Callable[[Path, Path], Files] = Files,
) -> Verified:
    """Runs the demo with `config` (its disks and console are set here), files in `work`.

    `said` is told of each step, `made` is given the machine, `stored` makes disks of two files.
    Raises DemoFailed and whatever Machine raises.
    """
    files = collect(trees)
    tar, report = work / "input.tar", work / "report.img"
    listing = pack(files, tar)
    size_bytes = sum(size for size, _ in listing.values())
    make_report(listing, report)
    said(f"packed {len(listing)} files, {size_bytes:,} bytes, as the disk input ({tar.stat().st_size:,} bytes)")
    console = bytearray()
    shown = config.console

    def tee(data: bytes) -> None:
        console.extend(data)
        if shown:
            shown(data)

    with stored(tar, report) as storage:
        with Machine(config.replace(disks=storage.disks, console=tee)) as machine, Published(machine):
            made(machine)
            said(f"the guest starts: {config.vcpus} vCPUs, {machine.config.memory_bytes >> 20} MiB")
            outcome = machine.run()
        reported = storage.reported()
    if outcome.status or outcome.reason != "POWEROFF":
        raise DemoFailed(f"the guest shut down with {outcome.reason} and status {outcome.status}")
    compare("the console", parse_list(bytes(console)), listing)
    compare("the disk report", parse_list(reported.rstrip(b"\0")), listing)
    return Verified(len(listing), size_bytes, outcome)
