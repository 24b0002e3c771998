"""A machine's timeline as a file for chrome://tracing or Perfetto: one track per vCPU and queue.

The C core puts events into rings; a thread here takes them out and writes JSON as it goes.  Times are
counted from the start of the trace.  This module is only loaded where there is a trace to write, so it
can afford the declaration of the ABI, for the names of a call's arguments.  What becomes of a request's
event is left to ``trace_way.py``.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypercall_abi import SERVICES

from ._native import ffi, lib
from .abi import STATUS, call_name
from .errors import HostCallFailed, OutputError
from .interrupts import heard
from .trace_way import STEP_US, Ways

if TYPE_CHECKING:
    from .devices.base import Device

RING_EVENTS = 1 << 14
TAKE_EVENTS = 1024
PERIOD_S = 0.02

ARGUMENTS = {service.id(call): call.registers for service in SERVICES.values() for call in service.calls}
EXIT_REASONS = {2: "io", 5: "hlt", 6: "mmio", 8: "shutdown", 10: "interrupted", 17: "internal error"}


class Tracer:
    """Writes the trace to `path`, which is made at once.  Raises OutputError if it cannot be, and HostCallFailed.

    After `events_most` events of the file the others are counted as lost: the guest decides how many there are.
    """

    def __init__(self, path: Path, events_most: int) -> None:
        try:
            with heard():  # a pipe that nobody reads
                self._file = path.open("w")
        except OSError as error:
            raise _refused(path, error) from error
        self._path = path
        self._began_ns = time.monotonic_ns()  # the clock of the C core
        self._pid = os.getpid()
        self._error: OSError | None = None  # kept for the end: the machine goes on without a trace
        self._left = events_most
        self._dropped = 0
        self.extensions: Mapping[int, str] = {}
        """Names of calls that are not the standard's, by id."""
        self._tracks: dict[str, tuple[Any, Any]] = {}
        self._ways: dict[str, Ways] = {}
        self._lock = threading.Lock()  # of the file and the tracks
        self._took = ffi.new("struct pv_trace_event[]", TAKE_EVENTS)
        self._statuses = STATUS.names()
        self._first = True
        self._put('{"traceEvents":[\n')
        self._name("process_name", 0, "paravirt")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="trace", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._file.close()
            raise HostCallFailed(f"cannot start the thread of the trace: {error}; see ulimit -u") from error

    def track(self, name: str) -> Any:
        """The track `name`, made when first asked for, as the C core's ``struct pv_trace *``."""
        with self._lock:
            if name not in self._tracks:
                self._tracks[name] = self._new_track(name)
            return self._tracks[name][0]

    def follow(self, device: Device, native: Any) -> list[Any]:
        """Has the queues of a ``struct pv_device *`` tell of their chains; what must live for as long as they do.

        Its back end is not at work yet.
        """
        kept = []
        for number in range(native.queue_count):
            name = f"{device.label} queue {number}"
            track = self.track(name)
            with self._lock:
                on = {"pid": self._pid, "tid": list(self._tracks).index(name)}
                self._ways[name] = Ways(device, number, on, self._began_ns)
            way = ffi.new("struct pv_way *")
            lib.pv_way_init(way, track, device.traced_together)
            native.queues[number].way = way
            kept.append(way)
        return kept

    def _new_track(self, name: str) -> tuple[Any, Any]:
        events = ffi.new("struct pv_trace_event[]", RING_EVENTS)
        native = ffi.new("struct pv_trace *", {"events": events, "size": RING_EVENTS})
        number = len(self._tracks)
        self._name("thread_name", number, name)
        return native, events

    def _name(self, what: str, track: int, name: str) -> None:
        self._write({"ph": "M", "name": what, "pid": self._pid, "tid": track, "args": {"name": name}})

    def close(self) -> None:
        """Writes what is left.  The machine's threads have ended.  Raises OutputError if not all could be written."""
        self._closing.set()
        self._thread.join()
        lost = self._dropped + sum(native.lost for native, _ in self._tracks.values())
        self._put(f'\n],"displayTimeUnit":"ns","otherData":{{"lost":{lost}}}}}\n')
        try:
            self._file.close()
        except OSError as error:
            self._error = self._error or error
        if self._error:
            raise _refused(self._path, self._error) from self._error

    def _put(self, text: str) -> None:
        if self._error is None:
            try:
                self._file.write(text)
            except OSError as error:
                self._error = error

    def _serve(self) -> None:
        while not self._closing.wait(PERIOD_S):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        with self._lock:
            for number, (name, (native, _)) in enumerate(self._tracks.items()):
                while count := lib.pv_trace_take(native, self._took, TAKE_EVENTS):
                    self._keep(number, name, count)

    def _keep(self, track: int, name: str, count: int) -> None:
        ways = self._ways.get(name)
        for i in range(count):
            if self._left <= 0:
                self._dropped += count - i
                break
            for event in ways.events(self._took[i]) if ways else self._events(track, self._took[i]):
                self._put_event(event)
                self._left -= 1

    def _write(self, event: dict[str, Any]) -> None:
        self._put_event(json.dumps(event))

    def _put_event(self, event: str) -> None:
        self._put(("" if self._first else ",\n") + event)
        self._first = False

    def _events(self, track: int, e: Any) -> Iterator[str]:
        if e.kind == lib.PV_TRACE_INTERRUPT:
            on = {"pid": self._pid, "tid": track, "ts": (e.end_ns - self._began_ns) / 1000}
            yield json.dumps(on | {"ph": "X", "cat": "interrupt", "name": f"channel {e.value}", "dur": STEP_US})
            yield json.dumps(on | {"ph": "f", "cat": "interrupt", "name": "interrupt", "id": e.args[0], "bp": "e"})
        else:
            yield json.dumps(self._event(track, e))

    def _event(self, track: int, e: Any) -> dict[str, Any]:
        event = {"pid": self._pid, "tid": track, "ts": (e.begin_ns - self._began_ns) / 1000}
        text = bytes(ffi.buffer(e.text))[: e.id].decode("utf-8", "replace") if e.kind in _GUEST else ""
        if e.kind == lib.PV_TRACE_MARK:
            return event | {"ph": "i", "s": "t", "name": text or "mark", "args": {"value": e.value}}
        if e.kind == lib.PV_TRACE_BEGIN:
            return event | {"ph": "B", "name": text or "span"}
        if e.kind == lib.PV_TRACE_END:
            return event | {"ph": "E"}
        event |= {"ph": "X", "dur": (e.end_ns - e.begin_ns) / 1000}
        if e.kind == lib.PV_TRACE_CALL:
            return event | {"name": self.extensions.get(e.id) or call_name(e.id), "cat": "call", "args": self._call(e)}
        return event | {"name": f"exit {EXIT_REASONS.get(e.id, e.id)}", "cat": "exit"}

    def _call(self, e: Any) -> dict[str, Any]:
        """What was given, by its declared names, apart from the answer: `status` and `value` may be names of both."""
        given = {name: hex(e.args[i]) for i, name in enumerate(ARGUMENTS.get(e.id, ()))}
        return {"given": given, "status": self._statuses.get(e.status, str(e.status)), "value": hex(e.value)}


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write the trace to {path}: {error.strerror}; give another --trace")


_GUEST = (lib.PV_TRACE_MARK, lib.PV_TRACE_BEGIN)
