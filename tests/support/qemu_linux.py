"""Debian Linux in QEMU's software emulation, with devices that other programs serve (vhost-user)."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from .linux_image import kernel

PATIENCE_S = 120.0
MEMORY = "256M"
KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 mitigations=off norandmaps tsc=reliable no_timer_check cryptomgr.notests "
    "rcupdate.rcu_expedited=1 net.ifnames=0"
)


class QemuLinux:
    """A machine with `initrd`, which is to end by itself, and `devices`, which are QEMU's words; a context.

    It can be paused if it has a `monitor`, the path of a socket.
    """

    def __init__(self, initrd: Path, devices: Sequence[str], *, cpus: int = 1, monitor: Path | None = None) -> None:
        self.lines: list[str] = []
        self._monitor = monitor
        shared = f"memory-backend-memfd,id=ram,size={MEMORY},share=on"
        self._command = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-accel", "tcg", "-cpu", "max", "-smp", str(cpus), "-m", MEMORY, "-object", shared),
            *("-machine", "q35,memory-backend=ram", "-serial", "stdio", "-append", KERNEL_ARGUMENTS),
            *("-kernel", str(kernel() / "vmlinuz"), "-initrd", str(initrd), *devices),
            *(("-qmp", f"unix:{monitor},server=on,wait=off") if monitor else ()),
        ]
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, name="console", daemon=True)

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(line.rstrip())

    @property
    def said(self) -> str:
        """All of it."""
        return "\n".join(self.lines)

    def wait_line(self, text: str) -> str:
        """The first line that begins so, once it is there."""
        until = time.monotonic() + PATIENCE_S
        while True:
            ended = not self._reader.is_alive()
            for line in self.lines:
                if line.startswith(text):
                    return line
            assert not ended, f"it ended without {text!r}:\n{self.said}"
            assert time.monotonic() < until, f"no {text!r}:\n{self.said}"
            time.sleep(0.02)

    def pause(self) -> None:
        """It stops, and goes on."""
        assert self._monitor
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._monitor))
            with monitor.makefile("rw") as words:
                words.readline()  # who it is
                for command in ("qmp_capabilities", "stop", "cont"):
                    words.write(json.dumps({"execute": command}) + "\n")
                    words.flush()
                    while "return" not in json.loads(words.readline()):  # events come between
                        pass

    def wait(self) -> int:
        """Waits for its end; QEMU's status."""
        assert self._process
        status = self._process.wait(PATIENCE_S)
        self._reader.join()
        return status


def shared_block(number: int, socket: Path, more: str = "") -> list[str]:
    """QEMU's words for a disk that is served at `socket`."""
    return [
        *("-chardev", f"socket,id=disk{number},path={socket},reconnect=1"),
        *("-device", f"vhost-user-blk-pci,chardev=disk{number},num-queues=2{more}"),
    ]
