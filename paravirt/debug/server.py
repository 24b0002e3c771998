"""Where a debugger connects: a thread that listens, talks to one at a time, and tells it how the machine ended.

Another one is refused meanwhile.  A debugger that goes away without a word has detached.  One that keeps still
keeps the machine stopped, as it may.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HostCallFailed
from .address import GdbConfig
from .debugger import Debugger, End
from .rsp import INTERRUPT, NoDebugger, Receiver, pack
from .stub import Left, Stub

if TYPE_CHECKING:
    from ..machine import Machine

SEND_S = 5.0
PIECE_BYTES = 65536
BEGIN_S = 0.1  # for a machine that is about to; then others are looked after


class GdbServer:
    """Serves `machine` as its ``gdb`` says.  Raises HostCallFailed if nobody can listen there."""

    def __init__(self, machine: Machine, config: GdbConfig) -> None:
        self.config = config
        self._socket = _listen(config)
        self.debugger = Debugger(machine)
        self.debugger.waits = config.wait
        self.debugger.private = config.path is not None
        self._machine = machine
        self._talk: Conversation | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="gdb", daemon=True)
        self._thread.start()

    @property
    def place(self) -> str:
        """Where it listens, as gdb's ``target remote`` takes it."""
        if self.config.path is not None:
            return str(self.config.path)
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """The machine is given back."""
        self._closing.set()
        self.debugger.say_end(None)
        self._thread.join()
        self._socket.close()
        if self.config.path is not None:
            self.config.path.unlink(missing_ok=True)

    def tell(self, image: Path) -> None:
        """Says on standard error how to attach."""
        does = "waits for" if self.config.wait else "listens to"
        with suppress(OSError):
            print(
                f"paravirt: the guest {does} a debugger: gdb {image} -ex 'target remote {self.place}'", file=sys.stderr
            )

    # ---- its thread ----

    def refuse(self) -> None:
        """Another debugger knocks while one is there: it is to know at once that it waits for nothing."""
        with suppress(OSError):
            peer, _ = self._socket.accept()
            with peer:
                print("paravirt: a second debugger was refused: one is attached; detach that first", file=sys.stderr)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self.debugger.wake_fd, select.POLLIN)
        while not self._closing.is_set():
            ready = {fd for fd, _ in poll.poll()}
            if self.debugger.wake_fd in ready:
                self.debugger.news()  # nobody is there to be told
            if self._socket.fileno() in ready and self.debugger.began.wait(BEGIN_S) and not self._closing.is_set():
                with suppress(OSError):
                    peer, _ = self._socket.accept()
                    with peer:
                        Conversation(self, peer).hold()


class Conversation:
    """With one debugger, from its connection to its end."""

    def __init__(self, server: GdbServer, peer: socket.socket) -> None:
        self._debugger = server.debugger
        self._machine = server._machine
        self._server = server
        self._peer = peer
        self._receiver = Receiver()
        peer.settimeout(SEND_S)
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def hold(self) -> None:
        """All of it.  Raises OSError if the debugger is gone."""
        debugger = self._debugger
        try:
            with debugger.lock:
                debugger.attached = True
                debugger.stop()
                self._stub = Stub(debugger)
            self._listen()
        except Left as left:
            if "OK" in str(left):
                self._send(b"OK")
            if "kill" in str(left):
                self._machine.finish("stopped", "DEBUGGER")
        except NoDebugger:
            return
        finally:
            with debugger.lock:
                debugger.detach()

    def _listen(self) -> None:
        poll = select.poll()
        for each in (self._peer, self._debugger.wake_fd, self._server._socket):
            poll.register(each, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            knocks = self._server._socket.fileno() in ready
            if knocks and not {fd for fd, _ in poll.poll(0)} & {self._peer.fileno(), self._debugger.wake_fd}:
                self._server.refuse()  # ours had not gone when the other came
            with self._debugger.lock:
                if self._debugger.wake_fd in ready and self._tell():
                    return
                if self._peer.fileno() in ready and not self._hear():
                    return

    def _hear(self) -> bool:
        data = self._peer.recv(PIECE_BYTES)
        for packet in self._receiver.feed(data):
            self._answer(packet)
        self._acknowledge()
        return bool(data)

    def _acknowledge(self) -> None:
        said, self._receiver.replies = b"".join(self._receiver.replies), []
        if said:
            self._peer.sendall(said)

    def _answer(self, packet: bytes) -> None:
        self._acknowledge()
        if packet == INTERRUPT:
            if not self._debugger.stopped:
                self._debugger.stop()
                self._send(self._stub.interrupted())
            return
        answer = self._stub.carry_out(packet)
        if answer is not None:
            self._send(answer)
        self._receiver.acknowledging = self._stub.acknowledging

    def _send(self, answer: bytes) -> None:
        self._peer.sendall(pack(answer))

    def _tell(self) -> bool:
        """What happened to the machine; true: it has ended."""
        for what in self._debugger.news():
            if isinstance(what, End):
                with suppress(OSError):
                    self._send(b"W%02x" % what.status if what.status is not None else b"X06")
                return True
            if self._debugger.stopped:
                self._debugger.keep(what)
            else:
                self._debugger.stop()
                self._send(self._stub.stopped(what))
        return False


def _listen(config: GdbConfig) -> socket.socket:
    where = str(config.path) if config.path is not None else f"{config.host}:{config.port}"
    try:
        if config.path is not None:
            return _listen_at(config.path)
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(1)
        except BaseException:
            listening.close()
            raise
        return listening
    except OSError as error:
        raise HostCallFailed(
            f"cannot listen for a debugger at {where}: {error.strerror or error}; give another place with --gdb"
        ) from error


def _listen_at(path: Path) -> socket.socket:
    """A socket for this user alone: who reaches it has all of the guest."""
    listening = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(listening.fileno(), 0o600)  # which the file is made with
        listening.bind(bytes(path))
        listening.listen(1)
    except BaseException:
        listening.close()
        raise
    return listening
