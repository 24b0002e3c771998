"""qemu-storage-daemon as a child: images in formats that are not ours, each at a socket of its own (vhost-user).

For ``paravirt demo --qcow2`` and for tests; users start theirs as they like (docs/howto/qcow2.md).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from .attachments.block_served import ServedDisk
from .errors import HostCallFailed

PROGRAM = "qemu-storage-daemon"
TOOL = "qemu-img"
START_S = 20.0
LAST_WORDS = 300
LISTENS = "00010000"  # flags of a socket in /proc/net/unix


class Export(NamedTuple):
    """An image that is served."""

    name: str
    image: Path
    read_only: bool = False
    format: str = "qcow2"
    """With ``nbd`` `image` is the socket of a server."""
    bytes_per_second: int = 0
    """0: as fast as it can."""


def image_tool(*arguments: str | Path) -> None:
    """Runs ``qemu-img``.  Raises HostCallFailed."""
    try:
        done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise HostCallFailed(f"{TOOL} is not installed; on Debian: apt-get install qemu-utils") from error
    if done.returncode:
        raise HostCallFailed(f"{TOOL} {arguments[0]} failed: {done.stderr.strip()[:LAST_WORDS]}")


class StorageDaemon:
    """Serves `exports` from sockets in `work`, a context manager.  Raises HostCallFailed if it does not start."""

    def __init__(self, exports: Sequence[Export], work: Path) -> None:
        self._exports, self._work = exports, work.resolve()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def disks(self) -> tuple[ServedDisk, ...]:
        """What a machine is given."""
        return tuple(ServedDisk(e.name, self._socket(e), e.read_only) for e in self._exports)

    def _socket(self, export: Export) -> Path:
        return self._work / f"{export.name}.sock"

    def _arguments(self, export: Export) -> list[str]:
        def quoted(path: Path) -> str:
            return os.fspath(path).replace(",", ",,")

        name, switch = export.name, {True: "on", False: "off"}
        node = f"driver={export.format},node-name={name}"
        if export.format == "nbd":
            node += f",server.type=unix,server.path={quoted(export.image)}"
        else:
            node += f",file.driver=file,file.filename={quoted(export.image)}"
        served, slow = name, []
        if export.bytes_per_second:
            served = f"{name}-slow"
            slow = ["--object", f"throttle-group,id={served},x-bps-total={export.bytes_per_second}"]
            slow += ["--blockdev", f"driver=throttle,node-name={served},throttle-group={served},file={name}"]
        at = f"addr.type=unix,addr.path={quoted(self._socket(export))}"
        access = f"writable={switch[not export.read_only]}"
        return [
            *("--blockdev", f"{node},read-only={switch[export.read_only]}"),
            *slow,
            *("--export", f"vhost-user-blk,id=export-{name},node-name={served},{at},{access}"),
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Starts it, and returns once it listens."""
        arguments = [word for export in self._exports for word in self._arguments(export)]
        for export in self._exports:
            self._socket(export).unlink(missing_ok=True)
        with (self._work / "daemon.log").open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    [PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            except FileNotFoundError as error:
                raise HostCallFailed(
                    f"{PROGRAM} is not installed; on Debian: apt-get install qemu-system-common"
                ) from error
        until = time.monotonic() + START_S
        while not all(self._listens(export) for export in self._exports):
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                said = (self._work / "daemon.log").read_text(errors="replace").strip()[-LAST_WORDS:]
                raise HostCallFailed(f"{PROGRAM} does not start: {said or 'it says nothing'}")
            time.sleep(0.01)

    def _listens(self, export: Export) -> bool:
        """Whether its socket takes connections: asked of the kernel, since a connection would be a session."""
        wanted = os.fspath(self._socket(export))
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as sockets:
            return any(line.rstrip("\n").endswith(f" {wanted}") and LISTENS in line.split() for line in sockets)

    def kill(self) -> None:
        """Ends it at once, as a crash would.  More than once is fine."""
        if self._process:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Ends it in order: what it has is in its images afterwards."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(START_S)
            except subprocess.TimeoutExpired as error:
                self.kill()
                raise HostCallFailed(f"{PROGRAM} does not end") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
