"""The ways of a queue's requests in a trace: what the C core tells of one (``native/way.c``) as events of the file.

A request is a bar of its own (``cat: request``) with the parts of its way in it, and a chain of steps on its queue's
track, joined by arrows (``cat: way``) that end in the interrupt.  Where the file is written is left to ``trace.py``.

These are many: their JSON is put together as text, a few times as fast as `json` does it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

from ._native import lib

if TYPE_CHECKING:
    from .devices.base import Device

STEP_US = 0.001  # long enough to bind an arrow, too short to meet the next
NUMBERS = count(1)  # of requests, in all traces of this process


class Ways:
    """Those of one queue.  `track` is that of the file, as its events name it; times are counted from `began_ns`."""

    def __init__(self, device: Device, queue: int, track: dict[str, Any], began_ns: int) -> None:
        self._device = device
        self._queue = queue
        self._track = json.dumps(track)[:-1]  # an object that goes on
        self._began_ns = began_ns
        label = json.dumps(device.label)
        self._args = f'"args": {{"device": {label}, "queue": {queue}, '
        self._names: dict[int, str] = {}
        self._seen_ns = 0

    def events(self, e: Any) -> Iterator[str]:
        """What an event of the queue's track is in the file."""
        if e.kind == lib.PV_TRACE_WAY:
            yield from self._way(e)
            return
        us = max((e.end_ns - e.begin_ns) / 1000, STEP_US)
        if e.kind == lib.PV_TRACE_SLEEP:
            yield self._slice("asleep", e.begin_ns, us)
        elif e.kind == lib.PV_TRACE_SUPPRESSED:
            yield self._slice("no interrupt", e.begin_ns, us, f', "args": {{"chains": {e.value}}}')
        elif e.value == lib.PV_NO_CHANNEL:  # by a line: nobody knows who takes it
            yield self._slice("interrupt", e.begin_ns, us)
        else:
            yield self._slice("interrupt", e.begin_ns, us, f', "args": {{"vcpu": {e.id}, "channel": {e.value}}}')
            arrow = f'"cat": "interrupt", "name": "interrupt", "ph": "s", "id": {e.args[0]}'
            yield f"{self._track}, {arrow}, {self._at(e.begin_ns)}}}"

    def _at(self, time_ns: int) -> str:
        return f'"ts": {(time_ns - self._began_ns) / 1000:.3f}'

    def _slice(self, name: str, begin_ns: int, us: float = STEP_US, more: str = "") -> str:
        return (
            f'{self._track}, "ph": "X", "cat": "queue", "name": "{name}", {self._at(begin_ns)}, "dur": {us:.3f}{more}}}'
        )

    def _name(self, kind: int) -> str:
        if kind not in self._names:
            self._names[kind] = json.dumps(self._device.request_name(self._queue, kind))
        return self._names[kind]

    def _way(self, e: Any) -> Iterator[str]:
        """A request: outer bars are told before those in them."""
        way, number, name = e.way, next(NUMBERS), self._name(e.id)
        seen, taken, submitted, completed = e.begin_ns, way.taken_ns, way.submitted_ns, way.completed_ns
        used, told = way.used_ns, way.told_ns
        bar = f'{self._track}, "cat": "request", "id": {number}, "name": '
        subject = f'"{self._device.subject}": {e.value}, ' if self._device.subject else ""
        end = "not given back" if not used else "interrupt" if way.interrupted else "no interrupt"
        counts = f'"bytes": {way.bytes}, "chains": {way.chains}, "status": {e.status}, "end": "{end}"'
        args = f"{self._args}{subject}{counts}}}"
        yield f'{bar}{name}, "ph": "b", {self._at(seen)}, {args}}}'
        for part, begin_ns, end_ns in (
            ("queue", seen, taken),
            ("back end", taken, used),
            ("engine", submitted, completed),
            ("interrupt", used, told),
        ):
            if begin_ns and end_ns:
                yield f'{bar}"{part}", "ph": "b", {self._at(begin_ns)}}}'
                yield f'{bar}"{part}", "ph": "e", {self._at(end_ns)}}}'
        yield f'{bar}{name}, "ph": "e", {self._at(e.end_ns)}, {args}}}'
        arrow = f'{self._track}, "cat": "way", "id": {number}, "name": {name}, "ph": '
        if seen != self._seen_ns:  # those that were seen waiting together share the step
            yield self._slice("seen", seen)
        self._seen_ns = seen
        yield f'{arrow}"s", {self._at(seen)}}}'
        for step, at_ns in (("taken", taken), ("submitted", submitted), ("completed", completed), ("used", used)):
            if at_ns:
                yield self._slice(step, at_ns)
                yield f'{arrow}"t", {self._at(at_ns)}}}'
        if told:  # what begins next on this track is the interrupt, or that there is none
            yield f'{arrow}"f", {self._at(told)}}}'
