"""A debugger's hold on the software vCPUs: what the host asks over a socket of its own, and what it is told.

A message is one line of JSON.  The host's are requests, each answered in turn; the engine's are answers, and
``["stop", vCPU, kind, RIP]`` when one stopped by itself, after which all are held.  The other half is
``paravirt/debug/software.py``.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from .emulator import REGISTERS

if TYPE_CHECKING:
    from .vcpu import Vcpu

MESSAGE_MOST_BYTES = 1 << 17
FLAG_TF = 1 << 8
_NUMBERS = (
    *("RAX RBX RCX RDX RSI RDI RBP RSP R8 R9 R10 R11 R12 R13 R14 R15 RIP EFLAGS".split()),
    *("FS_BASE GS_BASE CR0 CR2 CR3 CR4 CR8 FPCW FPSW FPTAG MXCSR".split()),
)
_SELECTORS = "CS SS DS ES FS GS".split()
_WIDE = (*(f"ST{n}" for n in range(8)), *(f"XMM{n}" for n in range(16)))


class Debug:
    """The engine's side: `sock` is the host's, `vcpus` are the machine's."""

    def __init__(self, sock: socket.socket, vcpus: list[Vcpu]) -> None:
        self._socket = sock
        self._vcpus = vcpus
        self._running: frozenset[int] | None = None  # None: all, and nobody debugs

    def may_run(self, vcpu: Vcpu) -> bool:
        """Whether it is not held."""
        return self._running is None or vcpu.index in self._running

    def hear(self, waiting: set[Vcpu]) -> bool:
        """Carries a request out; false: the host is gone.  Those in `waiting` are in a call."""
        message = self._socket.recv(MESSAGE_MOST_BYTES)
        if not message:
            return False
        verb, *rest = json.loads(message)
        answer: Any = None
        if verb == "hold":
            self._hold()
            answer = sorted(vcpu.index for vcpu in waiting)
        elif verb == "go":
            self._go(*rest)
        elif verb == "get":
            answer = self._get(self._vcpus[rest[0]])
        elif verb == "set":
            self._set(self._vcpus[rest[0]], rest[1])
        self._say(["answer", answer])
        return True

    def _say(self, message: list[Any]) -> None:
        self._socket.sendall(json.dumps(message).encode())

    def _hold(self) -> None:
        self._running = frozenset()
        for vcpu in self._vcpus:
            vcpu.step_over()

    def _go(
        self, running: list[int], stepping: list[int], breakpoints: list[int], written: bool, watched: bool
    ) -> None:
        self._running = frozenset(running) if watched else None
        for vcpu in self._vcpus:
            vcpu.debugged = watched
            vcpu.break_at(frozenset(breakpoints), written)
            vcpu.stepping = vcpu.index in stepping

    def ran(self, vcpu: Vcpu) -> None:
        """Its slice is over: the host is told if the debugger wanted that."""
        if vcpu.stopped:
            self._hold()
            self._say(["stop", vcpu.index, vcpu.stopped, int(vcpu.get("RIP"))])
            vcpu.stopped = ""

    def entered(self, vcpu: Vcpu) -> None:
        """A call of its is answered, which was one instruction."""
        if vcpu.stepping:
            vcpu.stopped = "step"
            self.ran(vcpu)

    def _get(self, vcpu: Vcpu) -> dict[str, int]:
        found = {name: int(vcpu.get(name)) for name in (*_NUMBERS, *_SELECTORS)}
        found |= {name: vcpu.emulator.get_wide(name) for name in _WIDE}
        return found | {"EFER": vcpu.efer, "GDT": int(vcpu.get("GDTR")[0]), "IDT": int(vcpu.get("IDTR")[0])}

    def _set(self, vcpu: Vcpu, values: dict[str, int]) -> None:
        for name in _NUMBERS:
            if values[name] != vcpu.get(name):  # to write a control register forgets what was translated
                vcpu.set(name, values[name])
        for name in _WIDE:
            vcpu.emulator.set_wide(name, values[name])


assert {*_NUMBERS, *_SELECTORS, *_WIDE} <= set(REGISTERS)
