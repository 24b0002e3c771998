"""The calls that are decisions rather than mechanism, one file per service of the ABI.

A handler is a function with the name of its call: ``handler(machine, vcpu, *arguments)`` with the
64-bit arguments that the call declares, already checked against the declaration (rule CALL-6); it
answers with a status, or with status and value.  The other calls are served in ``native/``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..abi import SERVICES
from . import console, memory, system

if TYPE_CHECKING:
    from ..machine import Machine

Answer = int | tuple[int, int]
Handler = Callable[..., Answer]


def _handlers() -> dict[int, tuple[Handler, int]]:
    found = {}
    for module in (console, memory, system):
        service = SERVICES[module.__name__.rpartition(".")[2]]
        for name, call in service.calls.items():
            if handler := getattr(module, name, None):
                found[service.number << 16 | call.number] = (handler, call.registers)
    return found


HANDLERS = _handlers()


def handle(machine: Machine, vcpu: int, call: int, args: Any) -> tuple[int, int]:
    """Status and value of a call that the C core passes on."""
    handler, count = HANDLERS[call]
    answer = handler(machine, vcpu, *(args[i] for i in range(count)))
    return answer if isinstance(answer, tuple) else (answer, 0)
