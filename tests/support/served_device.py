"""A device of ours behind a socket, served by a thread or by a process that may be killed, for front ends in tests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from paravirt.vhost_user.back_end import BackEnd

from .tree import ROOT
from .waiting import wait_for

PATIENCE_S = 60


class InThread:
    """Serves in a thread of this process, as a context."""

    def __init__(self, made: AbstractContextManager[BackEnd]) -> None:
        self._made = made

    def __enter__(self) -> BackEnd:
        self.back_end = self._made.__enter__()
        self._thread = threading.Thread(target=self.back_end.serve, name="back end", daemon=True)
        self._thread.start()
        return self.back_end

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.back_end.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the back end does not end"
        self._made.__exit__(kind, error, at)


class InProcess:
    """Serves in a process, ``paravirt device`` with these arguments, at `socket`; `environment` is added to ours."""

    def __init__(self, socket: Path, kind: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self._command = [sys.executable, "-m", "paravirt", "device", kind, "--socket", str(socket), *arguments]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Returns once it listens."""
        self.launch()
        self.wait_served()

    def launch(self) -> None:
        """Begins."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=self._environment, stdout=pipe, stderr=pipe, text=True
        )

    def wait_served(self) -> None:
        """Until it listens."""
        assert self._process
        assert self._process.stdout
        assert "is served" in self._process.stdout.readline(), self._process.communicate()[1]

    @property
    def pid(self) -> int:
        """While it runs."""
        assert self._process
        return self._process.pid

    def kill(self) -> None:
        """As a crash."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def stop(self) -> tuple[int, str]:
        """As a service is stopped; its status, and what it had to say."""
        assert self._process
        self._process.terminate()
        _, said = self._process.communicate(timeout=PATIENCE_S)
        status, self._process = self._process.returncode, None
        return status, said


__all__ = ["PATIENCE_S", "InProcess", "InThread", "wait_for"]
