"""All vCPUs of a machine, one after the other in slices: what the engine's loads and stores need to be atomic.

Unicorn translates a locked instruction to an ordinary load and store.  So no two vCPUs ever run at
once, and what the host changes by such instructions (the events' words) waits for a rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
import time
from typing import Any

from . import records, start
from .cpuid import table
from .debug import Debug
from .memory import Memory, Region, map_file
from .vcpu import Exit, Vcpu

SLICE_MS = 2
HEARING_S = 0.0005
RECORD_BYTES = 256


class Ended(Exception):
    """The host has closed a socket: the machine is over."""


def _receive(sock: socket.socket, most_bytes: int, flags: int = 0) -> bytes:
    data = sock.recv(most_bytes, flags)
    if not data:
        raise Ended
    return data


class Stopper(threading.Thread):
    """Stops the vCPU that runs when its slice is over or when the host has something to say."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__(daemon=True)
        self._poll = select.poll()
        for sock in sockets:
            self._poll.register(sock, select.POLLIN)
        self._work = threading.Event()
        self._running: Vcpu | None = None
        self._turn = 0

    def begin(self, vcpu: Vcpu) -> None:
        """`vcpu` is about to run."""
        self._running = vcpu
        self._turn += 1
        self._work.set()

    def end(self) -> None:
        """It does not run any more."""
        self._running = None
        self._turn += 1

    def rest(self) -> None:
        """Nothing will run until the host says something."""
        self._work.clear()

    def run(self) -> None:
        """The thread."""
        while True:
            self._work.wait()
            turn = self._turn
            spoken = self._poll.poll(SLICE_MS)
            if turn == self._turn and (vcpu := self._running) and (spoken or not vcpu.alone):
                vcpu.emulator.stop_soon()
            if spoken:
                time.sleep(HEARING_S)  # the main thread is about to hear it


class Machine:
    """The engine's side of a machine: `control`, one for a debugger, and a socket per vCPU."""

    def __init__(
        self, control: socket.socket, debug: socket.socket, sockets: list[socket.socket], memory_fd: int
    ) -> None:
        self._control = control
        data, fds, _, _ = socket.recv_fds(control, records.SETUP_MOST_BYTES, records.REGIONS_MOST)
        if not data:
            raise Ended
        setup: dict[str, Any] = json.loads(data)
        regions = [
            Region(gpa, size, read_only, map_file(fd, size, read_only))
            for fd, (gpa, size, read_only) in zip(fds, setup["mapped"], strict=True)
        ]
        memory = Memory(memory_fd, [(gpa, size) for gpa, size in setup["ranges"]], regions)
        self.vcpus = []
        for index in range(len(sockets)):
            leaves = table(index, len(sockets), setup["cpuid_base"], setup["cpuid"], setup["counter_khz"])
            self.vcpus.append(Vcpu(index, memory, setup, leaves))
            self.vcpus[-1].exchange = self._exchange
        self._sockets = dict(zip(self.vcpus, sockets, strict=True))
        self._by_fd = {sock.fileno(): vcpu for vcpu, sock in self._sockets.items()}
        self._waiting = set(self.vcpus)  # for an entry
        self._modes: dict[int, Any] = {}
        self._ready_ns: dict[Vcpu, int] = {}
        self._next = 0
        self._poll = select.poll()
        for sock in (control, debug, *sockets):
            self._poll.register(sock, select.POLLIN)
        self._debug_fd = debug.fileno()
        self._debug = Debug(debug, self.vcpus)
        self._stopper = Stopper([control, debug, *sockets])

    def serve(self) -> None:
        """Runs the machine.  Raises Ended when the host is done with it."""
        self._stopper.start()
        timeout: int | None = 0
        while True:
            self._listen(timeout)
            ready = [v for v in self.vcpus if v not in self._waiting and v.ready and self._debug.may_run(v)]
            timeout = 0 if ready else None
            if ready:
                self._turn(ready)
            else:
                self._stopper.rest()

    def _turn(self, ready: list[Vcpu]) -> None:
        """A slice of the next vCPU."""
        vcpu = min(ready, key=lambda v: (v.index - self._next) % len(self.vcpus))
        self._next = (vcpu.index + 1) % len(self.vcpus)
        vcpu.alone = len(ready) == 1 and not vcpu.apic.waits
        began_ns = time.monotonic_ns()
        if since_ns := self._ready_ns.pop(vcpu, 0):
            vcpu.steal_ns += began_ns - since_ns
        self._stopper.begin(vcpu)
        try:
            exit_ = vcpu.run()
        finally:
            self._stopper.end()
        for other in ready:
            self._ready_ns.setdefault(other, began_ns if other is not vcpu else time.monotonic_ns())
        if exit_:
            self._ready_ns.pop(vcpu, None)
            self._waiting.add(vcpu)
            self._send(vcpu, exit_)
        self._debug.ran(vcpu)

    def _send(self, vcpu: Vcpu, exit_: Exit) -> None:
        if exit_[0] == records.EXIT_INTERNAL:
            os.write(2, f"{vcpu.why}\n".encode())
        try:
            self._sockets[vcpu].sendall(vcpu.pack_exit(exit_))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Ended from error

    def _exchange(self, vcpu: Vcpu, exit_: Exit) -> int:
        self._send(vcpu, exit_)
        return int(records.ENTRY.unpack(_receive(self._sockets[vcpu], RECORD_BYTES))[2])

    # ---- what the host says ----

    def _listen(self, timeout: int | None) -> None:
        """Entries are read first, control records then, so that those that came before an entry are served before."""
        heard = self._poll.poll(timeout)
        entries = [
            (vcpu, records.ENTRY.unpack(_receive(self._sockets[vcpu], RECORD_BYTES)))
            for fd, _ in heard
            if (vcpu := self._by_fd.get(fd))
        ]
        if heard:
            self._hear()
        if any(fd == self._debug_fd for fd, _ in heard) and not self._debug.hear(self._waiting):
            raise Ended
        for vcpu, entry in entries:
            self._enter(vcpu, *entry)

    def _hear(self) -> None:
        kicked = False
        with contextlib.suppress(BlockingIOError):
            while True:
                kicked |= self._control_record(socket.MSG_DONTWAIT)[0] == records.CONTROL_KICK
        if kicked:
            self._rest()

    def _rest(self) -> None:
        """The host's moment: it touches the events' words and says who is to take an interrupt."""
        kicked = True
        while kicked:
            kicked = False
            self._control.sendall(records.CONTROL.pack(records.CONTROL_REST, 0, 0))
            while (record := self._control_record())[0] != records.CONTROL_GO:
                kicked |= record[0] == records.CONTROL_KICK  # it may have come too late for this rest

    def _control_record(self, flags: int = 0) -> tuple[int, int, int]:
        kind, index, value = records.CONTROL.unpack(_receive(self._control, RECORD_BYTES, flags))
        if kind == records.CONTROL_MODE:
            self._modes[index] = start.capture(self.vcpus[value])
        elif kind == records.CONTROL_UPCALL:
            self.vcpus[index].apic.request(value & 0xFF, value >> 8)
        return kind, index, value

    def _enter(self, vcpu: Vcpu, kind: int, _padding: int, _value: int, *rest: int) -> None:
        self._waiting.discard(vcpu)
        if kind == records.ENTRY_START:
            entry_gpa, stack_gpa, argument = rest[-3:]
            start.begin(vcpu, entry_gpa, stack_gpa, argument, self._modes.pop(vcpu.index, None))
        elif kind != records.ENTRY_GO_ON:
            vcpu.resume(rest[:-3], kind == records.ENTRY_RESUME_POISONED)
        self._debug.entered(vcpu)
