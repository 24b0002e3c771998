"""The ways of a queue's requests in a trace: what the C core tells of one (``native/way.c``) as events of the file.

A request is a bar of its own (``cat: request``) with the parts of its way in it, and a chain of steps on its queue's
track, joined by arrows (``cat: way``) that end in the interrupt.  Where the file is written is left to ``trace.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

from ._native import lib

if TYPE_CHECKING:
    from .devices.base import Device

STEPS = ("taken", "submitted", "completed", "used")
STEP_US = 0.001  # long enough to bind an arrow, too short to meet the next
NUMBERS = count(1)  # of requests, in all traces of this process
Event = dict[str, Any]
"""An event of the file, its `ts` in ns of the C core's clock."""


class Ways:
    """Those of one queue."""

    def __init__(self, device: Device, queue: int) -> None:
        self._device = device
        self._queue = queue
        self._names: dict[int, str] = {}
        self._seen_ns = 0

    def events(self, e: Any) -> Iterator[Event]:
        """What an event of the queue's track is in the file."""
        if e.kind == lib.PV_TRACE_WAY:
            yield from self._way(e)
            return
        event = {"ph": "X", "cat": "queue", "ts": e.begin_ns, "dur": max((e.end_ns - e.begin_ns) / 1000, STEP_US)}
        if e.kind == lib.PV_TRACE_INTERRUPT:
            channel = {} if e.value == lib.PV_NO_CHANNEL else {"vcpu": e.id, "channel": e.value}
            yield event | {"name": "interrupt", "args": channel}
        elif e.kind == lib.PV_TRACE_SUPPRESSED:
            yield event | {"name": "no interrupt", "args": {"chains": e.value}}
        else:
            yield event | {"name": "asleep"}

    def _name(self, kind: int) -> str:
        if kind not in self._names:
            self._names[kind] = self._device.request_name(self._queue, kind)
        return self._names[kind]

    def _way(self, e: Any) -> Iterator[Event]:
        number = next(NUMBERS)
        name, way = self._name(e.id), e.way
        times = {step: getattr(way, f"{step}_ns") for step in STEPS}
        reached = {"seen": e.begin_ns} | {step: at for step, at in times.items() if at}
        args: Event = {"device": self._device.title, "queue": self._queue}
        if self._device.subject:
            args[self._device.subject] = e.value
        args |= {"bytes": way.bytes, "chains": way.chains, "status": e.status}
        args["end"] = "not given back" if not way.used_ns else "interrupt" if way.interrupted else "no interrupt"
        bar = {"cat": "request", "id": number}
        yield bar | {"ph": "b", "name": name, "ts": e.begin_ns, "args": args}
        for part, begin_ns, end_ns in _parts(e):
            yield bar | {"ph": "b", "name": part, "ts": begin_ns}
            yield bar | {"ph": "e", "name": part, "ts": end_ns}
        yield bar | {"ph": "e", "name": name, "ts": e.end_ns, "args": args}
        yield from self._steps(name, number, reached, way.told_ns)

    def _steps(self, name: str, number: int, reached: dict[str, int], told_ns: int) -> Iterator[Event]:
        arrow = {"cat": "way", "id": number, "name": name}
        for step, at_ns in reached.items():
            # Those that were seen waiting together share the step.
            if step != "seen" or at_ns != self._seen_ns:
                yield {"ph": "X", "cat": "queue", "name": step, "ts": at_ns, "dur": STEP_US}
            yield arrow | {"ph": "s" if step == "seen" else "t", "ts": at_ns}
        self._seen_ns = reached["seen"]
        if told_ns:  # what begins next on this track is the interrupt, or that there is none
            yield arrow | {"ph": "f", "ts": told_ns}


def _parts(e: Any) -> Iterator[tuple[str, int, int]]:
    """Parts of a way that have an end, outer ones first."""
    way = e.way
    yield "queue", e.begin_ns, way.taken_ns
    if way.used_ns:
        yield "back end", way.taken_ns, way.used_ns
    if way.completed_ns and way.submitted_ns:
        yield "engine", way.submitted_ns, way.completed_ns
    if way.told_ns:
        yield "interrupt", way.used_ns, way.told_ns
