"""The ways of a plugged device's requests, as the C core tells them to a trace."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paravirt._native import ffi, lib

if TYPE_CHECKING:
    from .fake_guest import PluggedDevice

PATIENCE_S = 20.0
MOST = 1024
STEPS = ("taken", "submitted", "completed", "used", "told")


@dataclass(frozen=True)
class Event:
    """One event; `times` has the steps that were reached, in the order in which they should come."""

    kind: int
    id: int
    status: int
    value: int
    bytes: int
    chains: int
    interrupted: bool
    times: dict[str, int]
    number: int = 0
    """Of an interrupt."""


class Traced:
    """Follows the queues of devices, all on one track with room for `size` events."""

    def __init__(self, size: int = MOST) -> None:
        self._ring = ffi.new("struct pv_trace_event[]", size)
        self.track = ffi.new("struct pv_trace *", {"events": self._ring, "size": size})
        self._ways: list[Any] = []
        self._took = ffi.new("struct pv_trace_event[]", MOST)

    def follow(self, plugged: PluggedDevice) -> None:
        """Before it is active."""
        for number in range(plugged.native.queue_count):
            self._ways.append(ffi.new("struct pv_way *"))
            lib.pv_way_init(self._ways[-1], self.track, plugged.device.traced_together)
            plugged.native.queues[number].way = self._ways[-1]

    def take(self, kind: int = lib.PV_TRACE_WAY) -> list[Event]:
        """Those of a kind that have come; others are gone."""
        count = lib.pv_trace_take(self.track, self._took, MOST)
        return [_read(e) for e in self._took[0:count] if e.kind == kind]

    def ways(self, count: int) -> list[Event]:
        """Ways of requests, once there are so many."""
        found: list[Event] = []
        until = time.monotonic() + PATIENCE_S
        while len(found) < count:
            assert time.monotonic() < until, f"{len(found)} requests in the trace, not {count}"
            found += self.take()
            time.sleep(0.001)
        return found


def _read(e: Any) -> Event:
    times = {"seen": int(e.begin_ns)} | {s: at for s in STEPS if (at := int(getattr(e.way, f"{s}_ns")))}
    if e.kind != lib.PV_TRACE_WAY:
        return Event(e.kind, e.id, e.status, e.value, 0, 0, False, {"seen": int(e.begin_ns)}, e.args[0])
    way = e.way
    return Event(e.kind, e.id, e.status, e.value, way.bytes, way.chains, bool(way.interrupted), times)
