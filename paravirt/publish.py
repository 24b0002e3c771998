"""A running machine's statistics for others of the same user: a UNIX socket that answers with one JSON object.

    with Machine(config) as machine, Published(machine):
        machine.run()

It lies in the directory :func:`place`; ``paravirt top`` reads all that are there (``top.py``).  A machine that ends
within AFTER_S is never published: its start and end are not slowed down by it.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import socket

    from .machine import Machine

AFTER_S = 0.2
ANSWER_S = 1.0  # for a reader that does not read, and for a life of the machine that begins or ends
LISTENING = 8
SUFFIX = ".sock"


def place() -> Path:
    """Where this user's machines are published; it may not be there."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "paravirt"
    import tempfile  # costs the start of every machine otherwise

    return Path(tempfile.gettempdir()) / f"paravirt-{os.getuid()}"


def _make_place() -> Path:
    """The same, made.  Raises OSError, also if it is not this user's alone."""
    directory = place()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{directory} is not this user's alone")
    return directory


class Published:
    """A context in which `machine` is published.  Where it cannot be, it runs unseen."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._over = threading.Event()
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()  # of the socket's beginning and end
        self._thread = threading.Thread(target=self._serve, name="statistics", daemon=True)

    def __enter__(self) -> Self:
        with suppress(RuntimeError):  # no more threads: the machine's own are worth more
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._over.set()
            if self._socket:
                self._socket.shutdown(2)  # wakes accept(); SHUT_RDWR
        if self._thread.ident:
            self._thread.join()

    def _serve(self) -> None:
        if self._over.wait(AFTER_S):
            return
        with suppress(OSError):  # no such place, or no room in it
            path = _make_place() / f"{os.getpid()}-{id(self):x}{SUFFIX}"
            deaf = path.with_suffix(".new")
            try:
                self._listen(deaf, path)
            finally:
                deaf.unlink(missing_ok=True)
                path.unlink(missing_ok=True)

    def _listen(self, deaf: Path, path: Path) -> None:
        """Answers at `path`, which is there once somebody listens: readers remove what refuses them."""
        import socket  # in this thread: the start of a machine does not wait for it

        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(deaf))
            server.listen(LISTENING)
            deaf.rename(path)
            with self._lock:
                if self._over.is_set():
                    return
                self._socket = server
            try:
                while not self._over.is_set():
                    self._answer(server)
            finally:
                with self._lock:
                    self._socket = None

    def _answer(self, server: socket.socket) -> None:
        try:
            reader, _ = server.accept()
        except OSError:
            if not self._over.wait(AFTER_S):  # no descriptor left, perhaps
                return
            raise
        with reader, suppress(OSError):
            reader.settimeout(ANSWER_S)
            if snapshot := self._snapshot():
                import json

                reader.sendall(json.dumps(snapshot).encode())

    def _snapshot(self) -> dict[str, Any] | None:
        """What there is to say; None while a life of the machine begins or ends."""
        from .outcome import plain

        machine = self.machine
        if self._over.is_set() or not machine.life.acquire(timeout=ANSWER_S):
            return None
        try:
            config = machine.config
            return {
                "name": config.name,
                "uuid": config.uuid.hex(),
                "pid": os.getpid(),
                "accelerator": machine.accelerator.name,
                "memory_bytes": config.memory_bytes,
                "statistics": plain(machine.statistics()),
            }
        finally:
            machine.life.release()
