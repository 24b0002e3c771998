"""Stopping a machine as a whole and letting it go on, so that its guest knows of both.

What the guest is told and how is ``services/continuity.py``'s, how vCPUs are kept out of the guest a debugger's.
While a machine is paused its guest's time stands still: deadlines and its watchdog wait, and its wall clock jumps
afterwards.  Devices finish what they have been asked for.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from ._native import lib
from .errors import ConfigError, HostCallFailed
from .services.continuity import CONTINUITY_EVENT

if TYPE_CHECKING:
    from .debug.debugger import Debugger
    from .machine import Machine

QUIET_S = 1.0
"""How long a guest is waited for."""
QUIET_MOST_S = 30.0


class Quiet(NamedTuple):
    """What a guest said to a pause before it was stopped."""

    told: bool
    """False: it has not subscribed, or a debugger held it."""
    acknowledged: bool
    waited_ns: int


class Pausing:
    """The pauses of `machine`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = threading.Lock()  # of a pause, or of going on; before the machine's `life`
        self.paused = False

    def ended(self) -> None:
        """A life of the machine is over: the next one runs."""
        self.paused = False

    def pause(self, timeout_s: float = QUIET_S) -> Quiet:
        """Announces it, waits up to `timeout_s` for the guest to be quiet, and stops it.

        Raises ConfigError, and HostCallFailed if the machine ends meanwhile.
        """
        if not 0 <= timeout_s <= QUIET_MOST_S:
            raise ConfigError(f"a time-out of {timeout_s:g} s: a guest is waited for from 0 to {QUIET_MOST_S:g} s")
        machine = self._machine
        with self._lock:
            with machine.life:
                self._check_runs()
                if self.paused:
                    raise ConfigError(f"the machine {machine.config.name!r} is paused already; let it go on first")
                native, debugger = machine.native, self._debugger()
                told = machine.continuity.heard and not debugger.stopped
                counter = machine.continuity.announce(CONTINUITY_EVENT.BEFORE_PAUSE)
            began_ns = time.monotonic_ns()
            acknowledged = told and machine.continuity.wait(native, counter, timeout_s)
            waited_ns = time.monotonic_ns() - began_ns
            with machine.life:
                if machine.native is not native:
                    raise HostCallFailed("the guest began anew before it could be paused; ask again")
                self._check_runs()
                debugger.freeze()
                lib.pv_time_stop(native)
                self.paused = True
        return Quiet(told, acknowledged, waited_ns)

    def resume(self, event: int = CONTINUITY_EVENT.RESUMED) -> int:
        """Lets it go on and says that `event` was the reason; the wall-clock time that it missed, in ns.

        Raises ConfigError.
        """
        machine = self._machine
        with self._lock, machine.life:
            if not self.paused:
                raise ConfigError(f"the machine {machine.config.name!r} is not paused")
            missed_ns = int(lib.pv_time_go(machine.native))
            machine.continuity.announce(event, missed_ns)
            self.paused = False
            self._debugger().thaw()
        return missed_ns

    def _debugger(self) -> Debugger:
        from .debug.debugger import debugger_of  # most machines are never paused

        return debugger_of(self._machine)

    def _check_runs(self) -> None:
        if not self._machine.running:
            raise HostCallFailed("the machine does not run; it has not begun, or has just ended")
