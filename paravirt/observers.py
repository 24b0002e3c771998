"""Who looks at a machine, over all its lives: its trace, recording and debugger, loaded if they are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .machine import Machine


def observe(machine: Machine) -> None:
    """Makes those that the machine's configuration asks for.  Raises ParavirtError."""
    config = machine.config
    if config.trace:
        from .trace import Tracer

        machine.tracer = Tracer(config.trace, config.budgets.trace_events)
        machine.tracer.extensions = machine.extensions.call_names
    if config.record:
        from .recording.recorder import Recorder

        machine.recorder = Recorder(config.record, config.budgets.recording_bytes, config)
    if config.gdb:
        from .debug.server import GdbServer

        machine.gdb = GdbServer(machine, config.gdb)
        machine.debugger = machine.gdb.debugger
