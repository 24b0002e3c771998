"""Machines made ahead, for callers that start many: who asks for one does not wait for it to be made.

    with Pool(MachineConfig(Path("guest.elf")), 8) as pool:
        with pool.take(console=print) as machine:
            machine.run()

Those that wait have their virtual machine, memory with the image in it, vCPUs and devices; only threads are not
started.  A thread makes what is lacking.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from .config import MachineConfig
from .errors import ConfigError, HostCallFailed
from .interrupts import Held
from .machine import Machine

READY_MOST = 1024
REST_S = 0.005  # who took a machine starts it now: making another would take the interpreter from it


class Pool:
    """Keeps up to `ready` machines: all of `config`, each with a UUID of its own, or each as a function says, which
    any thread may call.

    A context manager: leaving it closes the machines that wait; those that were taken are their takers'.
    Raises ConfigError, and on entering what a machine raises that cannot be made.
    """

    def __init__(self, config: MachineConfig | Callable[[], MachineConfig], ready: int = 4) -> None:
        if not 1 <= ready <= READY_MOST:
            raise ConfigError(f"a pool of {ready} machines: it keeps from 1 to {READY_MOST}")
        if isinstance(config, MachineConfig) and (config.trace or config.record):
            raise ConfigError("a trace or a recording is one machine's; give the pool a function that names others")
        self._config = config  # called from the thread, and from those that take
        self._wanted = ready
        self._waiting: deque[Machine] = deque()
        self._changed = threading.Condition()  # of what is here
        self._open = False
        self._failed = False  # the last one could not be made; whoever asks next is told
        self._taken_at = 0.0
        self.missed = 0
        """How many were asked for when none was ready, and made then."""
        self._thread: threading.Thread | None = None  # while it is open

    def __enter__(self) -> Self:
        if self._open:
            raise ConfigError("the pool is open; another context needs another pool")
        try:
            with Held():  # what it held is raised at its end
                self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def _begin(self) -> None:
        self._waiting.append(self._make())
        self._open, self._failed = True, False
        thread = threading.Thread(target=self._fill, name="pool", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise HostCallFailed(f"cannot start the pool's thread: {error}; see ulimit -u") from error
        self._thread = thread

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        with Held(), ExitStack() as closing:  # one that fails at its end does not keep the others
            with self._changed:
                self._open = False
                self._changed.notify_all()
            if self._thread:
                self._thread.join()
                self._thread = None
            while self._waiting:
                closing.callback(self._waiting.popleft().close)

    @property
    def ready(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    def wait(self, timeout_s: float) -> bool:
        """Waits until as many are ready as it keeps; false if that took too long, or one could not be made."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._is_full(), timeout_s)
            return self._is_full()

    def take(self, console: Callable[[bytes], object] | None = None) -> Machine:
        """A machine that is ready to start, or one that is made now if none is; it is the caller's to close.

        `console` is called with what its guest writes, in place of the configuration's.  Any thread.  Raises as
        Machine does, and ConfigError when the pool is closed.
        """
        machine = None
        try:
            with Held():  # what it held is raised at its end
                machine = self._next() or self._make()
        except BaseException:
            if machine:
                machine.close()
            raise
        if console is not None:
            machine.console.sink = console
        return machine

    def _next(self) -> Machine | None:
        """One that is ready."""
        with self._changed:
            if not self._open:
                raise ConfigError("the pool is not open; take machines within its context")
            self._failed, self._taken_at = False, time.monotonic()
            machine = self._waiting.popleft() if self._waiting else None
            self.missed += machine is None
            self._changed.notify_all()
            return machine

    def _make(self) -> Machine:
        config = self._config.replace(uuid=b"") if isinstance(self._config, MachineConfig) else self._config()
        machine = Machine(config)
        machine.prepare()
        return machine

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._wanted

    def _fill(self) -> None:
        while self._lacks():
            try:
                machine = self._make()
            except Exception:  # the caller's function may raise what it likes; whoever takes one makes it, and is told
                with self._changed:
                    self._failed = True
                    self._changed.notify_all()
                continue
            with self._changed:
                self._waiting.append(machine)
                self._changed.notify_all()

    def _lacks(self) -> bool:
        """Waits until one is to be made; false: the pool closes."""
        with self._changed:
            while self._open:
                rest_s = self._taken_at + REST_S - time.monotonic()
                if self._failed or self._is_full():
                    self._changed.wait()
                elif self._waiting and rest_s > 0:
                    self._changed.wait(rest_s)
                else:
                    return True
            return False
