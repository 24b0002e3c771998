"""A running machine's control socket: it answers one request after the other, from a thread of its own.

    with Machine(config) as machine, Published(machine):
        machine.run()

What can be asked is ``verbs.py``'s.  A machine that ends within AFTER_S is never published: its start and end are
not slowed down by it.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import ConfigError, HostCallFailed, ParavirtError
from . import REQUEST_MOST_BYTES, SUFFIX, Request, check_place, place

if TYPE_CHECKING:
    import socket

    from ..machine import Machine

AFTER_S = 0.2
PATIENCE_S = 1.0  # with who asks or reads slowly, and while a life of the machine begins or ends
ASIDE_MOST = 4  # requests that take long, at once
LISTENING = 128  # who finds no room takes the machine for one that is not there


def make_place() -> Path:
    """The directory of the sockets, made.  Raises OSError, also if it is not this user's alone."""
    directory = place()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_place(directory)
    return directory


class Published:
    """A context in which others can find `machine` and ask it.  Where it cannot be found, it runs unseen."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._over = threading.Event()
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()  # of the socket's beginning and end
        self._aside: list[threading.Thread] = []  # they carry out what may take long
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)

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
        for thread in self._aside:
            while thread.is_alive():
                self.machine.devices.abandon()
                thread.join(AFTER_S)

    def _serve(self) -> None:
        if self._over.wait(AFTER_S):
            return
        with suppress(OSError):  # no such place, or no room in it
            path = make_place() / f"{os.getpid()}-{id(self):x}{SUFFIX}"
            deaf = path.with_suffix(".new")
            try:
                self._listen(deaf, path)
            finally:
                deaf.unlink(missing_ok=True)
                path.unlink(missing_ok=True)

    def _listen(self, deaf: Path, path: Path) -> None:
        """Answers at `path`, which is there once somebody listens: who finds no listener removes it."""
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
                    self._serve_one(server)
            finally:
                with self._lock:
                    self._socket = None

    def _serve_one(self, server: socket.socket) -> None:
        try:
            asker, _ = server.accept()
        except OSError:
            if not self._over.wait(AFTER_S):  # no descriptor left, perhaps
                return
            raise
        with ExitStack() as closing, suppress(OSError):  # who asked is gone, or too slow
            closing.enter_context(asker)
            said = _hear(asker)
            if not self._answer_aside(asker, said):
                self._tell(asker, self._answer(said))
            else:
                closing.pop_all()

    def _answer_aside(self, asker: socket.socket, said: bytes) -> bool:
        """Has a thread of its own answer, if that may take long; it closes `asker`."""
        from .verbs import SLOW

        def answer() -> None:
            with asker, suppress(OSError):
                self._tell(asker, self._answer(said))

        with suppress(ConfigError, RuntimeError):  # what is no request, or no more threads: it is answered here
            self._aside = [each for each in self._aside if each.is_alive()]
            if parse_request(said)["verb"] in SLOW and len(self._aside) < ASIDE_MOST:
                thread = threading.Thread(target=answer, name="control", daemon=True)
                thread.start()
                self._aside.append(thread)
                return True
        return False

    @staticmethod
    def _tell(asker: socket.socket, answer: dict[str, Any]) -> None:
        import json

        asker.settimeout(PATIENCE_S)
        asker.sendall(json.dumps(answer).encode())

    def _answer(self, said: bytes) -> dict[str, Any]:
        try:
            return {"answer": self._carry_out(parse_request(said))}
        except ParavirtError as error:
            return {"error": {"type": type(error).__name__, "text": str(error)}}
        except OSError as error:
            return {
                "error": {
                    "type": HostCallFailed.__name__,
                    "text": f"the machine's host: {error.strerror}; see ulimit -a",
                }
            }
        except Exception as error:  # a bug of ours: the machine is not to end for a question
            return {"error": {"type": ParavirtError.__name__, "text": f"internal error: {error!r}; please report it"}}

    def _carry_out(self, request: Request) -> Any:
        from .verbs import SLOW, VERBS

        machine, verb = self.machine, request["verb"]
        if verb in SLOW:
            if threading.current_thread() is self._thread:
                raise HostCallFailed(f"the machine carries out {ASIDE_MOST} requests that take long; ask again")
            return SLOW[verb](machine, request)
        act = VERBS.get(verb)
        if act is None:
            known = ", ".join((*VERBS, *SLOW))
            raise ConfigError(f"a machine does not know how to {verb!r}; there are {known}")
        if self._over.is_set() or not machine.life.acquire(timeout=PATIENCE_S):
            raise HostCallFailed("the machine is just beginning or ending; ask again")
        try:
            return act(machine, request)
        finally:
            machine.life.release()


def _hear(asker: socket.socket) -> bytes:
    """The line that is the request.  Raises OSError from who takes longer: the machine's end waits for it."""
    said, until = b"", time.monotonic() + PATIENCE_S
    while not said.endswith(b"\n") and len(said) <= REQUEST_MOST_BYTES:
        asker.settimeout(max(until - time.monotonic(), 1e-6))  # 0 would be: not to wait, and another error
        if not (part := asker.recv(4096)):
            break
        said += part
    return said


def parse_request(said: bytes) -> Request:
    """The request that a line is.  Raises ConfigError."""
    import json

    try:
        request = json.loads(said) if len(said) <= REQUEST_MOST_BYTES else None
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict) or not isinstance(request.get("verb"), str):
        raise ConfigError('this is no request; write one line of JSON such as {"verb": "statistics"}')
    return request
