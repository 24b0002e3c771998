"""What a debugger may ask for: the commands of gdb's remote serial protocol, on a :class:`Debugger`.

Threads are vCPUs, numbered from 1.  A command that is damaged or cannot be carried out is answered with an error;
one that is not known here with nothing, which says so.  Packets are ``rsp.py``'s, the socket is ``server.py``'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import registers
from .rsp import PACKET_MOST_BYTES, unescape
from .stops import SIGINT, SIGTRAP, Stop, Watch

if TYPE_CHECKING:
    from .debugger import Debugger

OK, UNKNOWN = b"OK", b""
WRONG, NOT_THERE, REFUSED = b"E16", b"E14", b"E01"  # as errno has them: EINVAL, EFAULT, EPERM
MEMORY_MOST_BYTES = PACKET_MOST_BYTES // 2
_FEATURES = "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;swbreak+;hwbreak+;vContSupported+"
_WATCHES = {2: "write", 3: "read", 4: "access"}
_NUMBER = re.compile(rb"[0-9a-fA-F]{1,16}")


class Wrong(Exception):
    """A command that cannot be understood."""


def number(text: bytes) -> int:
    """A number of at most 64 bits.  Raises Wrong."""
    if not _NUMBER.fullmatch(text):
        raise Wrong
    return int(text, 16)


def data(text: bytes) -> bytes:
    """Bytes written as digits.  Raises Wrong."""
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise Wrong from error


class Left(Exception):
    """The debugger is done: it has detached, or ended the machine."""


class Stub:
    """The answers to one debugger.  ``carry_out`` gives an answer, or None: it comes when the machine stops."""

    def __init__(self, debugger: Debugger) -> None:
        self._debugger = debugger
        self._index = debugger.threads[0]  # whose registers and memory are meant
        self._last: Stop = Stop(self._index, "asked", SIGTRAP)
        self.acknowledging = True
        self.verbose = False  # it knows swbreak and hwbreak

    # ---- stops ----

    def stopped(self, stop: Stop) -> bytes:
        """The machine has stopped: what the debugger is told."""
        self._index, self._last = stop.vcpu, stop
        why = {"code": b"swbreak:;", "address": b"hwbreak:;"}.get(stop.kind, b"") if self.verbose else b""
        if stop.kind == "watch":
            why = b"%s:%x;" % (stop.access.encode(), stop.address)
        return b"T%02xthread:%x;%s" % (stop.signal, stop.vcpu + 1, why)

    def interrupted(self) -> bytes:
        """It was stopped because the debugger wants it."""
        return self.stopped(Stop(self._debugger.threads[0], "asked", SIGINT))

    # ---- commands ----

    def carry_out(self, packet: bytes) -> bytes | None:
        """Raises Left after the last one."""
        if not self._debugger.stopped and packet[:1] not in b"qQ":
            return WRONG  # while it runs there is nothing to be had
        try:
            for prefix, act in _COMMANDS:
                if packet.startswith(prefix):
                    return act(self, packet[len(prefix) :])
        except Wrong:
            return WRONG
        except OSError:
            return REFUSED
        except Left:
            raise
        except Exception as error:  # a bug of ours: neither the machine nor the debugger is to end for it
            return b"E.internal error: %s; please report it" % repr(error).encode("ascii", "backslashreplace")
        return UNKNOWN

    def why(self, _: bytes) -> bytes:
        """``?``"""
        return self.stopped(self._last)

    def _thread(self, text: bytes) -> int | None:
        """The vCPU that a thread's number means; None for all of them.  Raises Wrong."""
        if text in (b"-1", b"0", b""):
            return None if text == b"-1" else self._index
        index = number(text) - 1
        if index not in self._debugger.threads:
            raise Wrong
        return index

    def choose(self, text: bytes) -> bytes:
        """``Hg``, ``Hc``"""
        self._index = index if (index := self._thread(text[1:])) is not None else self._index
        return OK

    def alive(self, text: bytes) -> bytes:
        """``T``"""
        self._thread(text)
        return OK

    def read_registers(self, _: bytes) -> bytes:
        """``g``"""
        return registers.pack(self._debugger.registers(self._index)).hex().encode()

    def write_registers(self, text: bytes) -> bytes:
        """``G``"""
        values = self._debugger.registers(self._index)
        try:
            registers.unpack(data(text), values)
        except ValueError as error:
            raise Wrong from error
        return self._set(values)

    def _set(self, values: Any) -> bytes:
        """Refused if one of them is not the debugger's to set."""
        cpus = self._debugger.cpus
        cpus.set_registers(self._index, values)
        return OK if registers.pack(cpus.registers(self._index)) == registers.pack(values) else REFUSED

    def _register(self, text: bytes) -> registers.Register:
        which = number(text)
        if which >= len(registers.registers()):
            raise Wrong
        return registers.registers()[which]

    def read_register(self, text: bytes) -> bytes:
        """``p``"""
        return self._register(text).read(self._debugger.registers(self._index)).hex().encode()

    def write_register(self, text: bytes) -> bytes:
        """``P``"""
        which, _, value = text.partition(b"=")
        register = self._register(which)
        if len(bytes_ := data(value)) != register.bits // 8:
            raise Wrong
        values = self._debugger.registers(self._index)
        register.write(values, bytes_)
        return self._set(values)

    def read_memory(self, text: bytes) -> bytes:
        """``m``"""
        address, _, size = text.partition(b",")
        found = self._debugger.space(self._index).read(number(address), min(number(size), MEMORY_MOST_BYTES))
        return found.hex().encode() if found or number(size) == 0 else NOT_THERE

    def _write(self, place: bytes, contents: bytes) -> bytes:
        address, _, size = place.partition(b",")
        if number(size) != len(contents):
            raise Wrong
        self._debugger.cpus.written = True
        return OK if self._debugger.space(self._index).write(number(address), contents) else NOT_THERE

    def write_memory(self, text: bytes) -> bytes:
        """``M``"""
        place, _, contents = text.partition(b":")
        return self._write(place, data(contents))

    def write_bytes(self, text: bytes) -> bytes:
        """``X``"""
        place, _, contents = text.partition(b":")
        return self._write(place, unescape(contents))

    # ---- breakpoints ----

    def _place(self, text: bytes) -> tuple[int, int, int]:
        parts = text.partition(b";")[0].split(b",")
        if len(parts) != 3:
            raise Wrong
        kind, address, size = map(number, parts)
        if not 0 <= kind <= 4 or not (1 <= size <= 8 or kind < 2):
            raise Wrong
        return kind, address, size

    def insert(self, text: bytes) -> bytes:
        """``Z``"""
        kind, address, size = self._place(text)
        if kind == 0:
            return OK if self._debugger.break_at(self._index, address) else NOT_THERE
        watch = Watch(address, 1, "code") if kind == 1 else Watch(address, size, _WATCHES[kind])  # type: ignore[arg-type]
        return OK if self._debugger.watch(self._index, watch) else REFUSED

    def remove(self, text: bytes) -> bytes:
        """``z``"""
        kind, address, size = self._place(text)
        if kind == 0:
            self._debugger.breakpoints.discard(address)
            return OK
        watch = Watch(address, 1, "code") if kind == 1 else Watch(address, size, _WATCHES[kind])  # type: ignore[arg-type]
        if watch in self._debugger.watches:
            self._debugger.watches.remove(watch)
        return OK

    # ---- going on ----

    def go_on(self, text: bytes) -> None:
        """``c``, ``C``: a signal has no meaning to a vCPU."""
        self._resume(text, step=False)

    def step(self, text: bytes) -> None:
        """``s``, ``S``"""
        self._resume(text, step=True)

    def _resume(self, text: bytes, *, step: bool) -> None:
        if text:  # an address to go on at, or a signal
            if not (len(text) == 2 or text[2:3] == b";" or step or len(text) > 2):
                raise Wrong
            address = text.partition(b";")[2] if b";" in text else text if len(text) > 2 else b""
            if address:
                values = self._debugger.registers(self._index)
                values.rip = number(address)
                self._debugger.cpus.set_registers(self._index, values)
        self._debugger.resume(frozenset((self._index,)) if step else frozenset())

    def resume_each(self, text: bytes) -> None:
        """``vCont;``: for each vCPU what is said of it first."""
        stepping, running, said = set[int](), set[int](), set[int]()
        for action in text.split(b";"):
            what, _, which = action.partition(b":")
            if what[:1].lower() not in (b"c", b"s") or not what:
                raise Wrong
            index = self._thread(which) if which else None
            meant = {index} if index is not None else set(range(len(self._debugger.machine.vcpus)))
            (stepping if what[:1].lower() == b"s" else running).update(meant - said)
            said |= meant
        # "step all" means all that run: another cannot.
        stepping &= set(self._debugger.threads)
        if not stepping | running:
            raise Wrong
        self._debugger.resume(frozenset(stepping), frozenset(running))

    def detach(self, _: bytes) -> bytes:
        """``D``"""
        raise Left("OK")

    def kill(self, _: bytes) -> bytes:
        """``vKill``"""
        raise Left("OK, kill")

    def kill_at_once(self, _: bytes) -> bytes:
        """``k``, which is not answered"""
        raise Left("kill")

    # ---- questions ----

    def supported(self, text: bytes) -> bytes:
        """``qSupported``"""
        self.verbose = b"swbreak+" in text
        return (_FEATURES % PACKET_MOST_BYTES).encode()

    def no_acknowledgements(self, _: bytes) -> bytes:
        """``QStartNoAckMode``"""
        self.acknowledging = False
        return OK

    def thread_list(self, _: bytes) -> bytes:
        """``qfThreadInfo``"""
        return b"m" + b",".join(b"%x" % (index + 1) for index in self._debugger.threads)

    def thread_words(self, text: bytes) -> bytes:
        """``qThreadExtraInfo``"""
        index = self._thread(text)
        return f"vCPU {index}, {self._debugger.state(index or 0)}".encode().hex().encode()

    def _document(self, contents: bytes, text: bytes) -> bytes:
        offset, _, size = text.partition(b",")
        part = contents[number(offset) :][: min(number(size), PACKET_MOST_BYTES - 64)]
        return (b"m" if number(offset) + len(part) < len(contents) else b"l") + part

    def features(self, text: bytes) -> bytes:
        """``qXfer:features:read:target.xml:``"""
        return self._document(registers.description(), text)

    def threads(self, text: bytes) -> bytes:
        """``qXfer:threads:read::``"""
        rows = (
            f'<thread id="{n + 1:x}" core="{n}" name="vCPU {n}">{self._debugger.state(n)}</thread>'
            for n in self._debugger.threads
        )
        return self._document(f'<?xml version="1.0"?><threads>{"".join(rows)}</threads>'.encode(), text)

    def monitor(self, text: bytes) -> bytes:
        """``qRcmd,``"""
        from .monitor import monitor

        said = monitor(self._debugger, self._index, data(text).decode("utf-8", "replace"))
        return said.encode()[:MEMORY_MOST_BYTES].hex().encode() or OK


_Act = Callable[[Any, bytes], bytes | None]
_COMMANDS: tuple[tuple[bytes, _Act], ...] = (
    (b"?", Stub.why),
    (b"H", Stub.choose),
    (b"T", Stub.alive),
    (b"g", Stub.read_registers),
    (b"G", Stub.write_registers),
    (b"p", Stub.read_register),
    (b"P", Stub.write_register),
    (b"m", Stub.read_memory),
    (b"M", Stub.write_memory),
    (b"X", Stub.write_bytes),
    (b"Z", Stub.insert),
    (b"z", Stub.remove),
    (b"vCont?", lambda stub, _: b"vCont;c;C;s;S"),
    (b"vCont;", Stub.resume_each),
    (b"vKill", Stub.kill),
    (b"k", Stub.kill_at_once),
    (b"D", Stub.detach),
    (b"c", Stub.go_on),
    (b"C", Stub.go_on),
    (b"s", Stub.step),
    (b"S", Stub.step),
    (b"qSupported", Stub.supported),
    (b"QStartNoAckMode", Stub.no_acknowledgements),
    (b"qfThreadInfo", Stub.thread_list),
    (b"qsThreadInfo", lambda stub, _: b"l"),
    (b"qThreadExtraInfo,", Stub.thread_words),
    (b"qXfer:features:read:target.xml:", Stub.features),
    (b"qXfer:threads:read::", Stub.threads),
    (b"qAttached", lambda stub, _: b"1"),
    (b"qSymbol", lambda stub, _: OK),
    (b"qC", lambda stub, _: b"QC%x" % (stub._index + 1)),
    (b"qRcmd,", Stub.monitor),
)
