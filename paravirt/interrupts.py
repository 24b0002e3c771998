"""Steps that SIGINT, SIGTERM and SIGHUP must not cut in two: making, starting and stopping a machine or a process.

A handler in Python raises between any two steps of the main thread: what was just opened, or a thread
that was just started and works on guest memory, would have no owner yet to stop it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def signal_name(number: int) -> str:
    """Of a signal that ended a process; many of those for real time have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Held:
    """A context in which those signals wait for its end.

    Who asks twice is heard at once: a step may wait for a disk or a console of the caller's that hangs.
    """

    hearing: ClassVar[int] = 0
    """How many steps inside of it may be cut (`heard`)."""
    last: ClassVar[Held | None] = None
    """The innermost one of the main thread."""

    def __init__(self) -> None:
        self._outer = Held.last
        self._before: dict[int, Any] = {}
        self._came: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # handlers run in the main thread alone
        try:
            for number in HELD:
                if callable(handler := signal.getsignal(number)):
                    self._before[number] = handler
                    signal.signal(number, self._hold)
        except BaseException:  # the second came while the first was being held
            self._restore()
            raise
        Held.last = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if threading.current_thread() is threading.main_thread():
            Held.last = self._outer
        self._restore()
        self.deliver()

    def deliver(self) -> None:
        """Calls the handlers of those that came."""
        while self._came:
            number, frame = self._came.pop(0)
            self._before[number](number, frame)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if Held.hearing:
            self._before[number](number, frame)
            return
        if any(number == earlier for earlier, _ in self._came):
            self._before[number](number, frame)
        self._came.append((number, frame))

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def heard() -> Iterator[None]:
    """A step inside of `Held` that may be cut anywhere, such as a wait for another program: they are heard at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    Held.hearing += 1
    try:
        if Held.last:
            Held.last.deliver()
        yield
    finally:
        Held.hearing -= 1
