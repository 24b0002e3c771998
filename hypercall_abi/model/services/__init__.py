"""The calls, one file per service with the names of `hypercall_abi.services`.

A handler is a function with the name of its call: ``handler(machine, vcpu, *arguments)``, called once the
checks of `dispatch.py` passed.  It gives the answer, after having done what the call does; or all the answers
that the standard allows, each with its effect.
"""

from __future__ import annotations

from collections.abc import Callable

from ... import SERVICES
from ..answers import Allowed
from . import base, console, continuity, device, entropy, event, memory, system, time, trace, vcpu

MODULES = (base, console, event, time, vcpu, memory, device, system, continuity, entropy, trace)

Handler = Callable[..., Allowed]


def _handlers() -> dict[tuple[str, str], Handler]:
    found = {}
    for module in MODULES:
        service = module.__name__.rpartition(".")[2]
        for call in SERVICES[service].calls:
            handler = getattr(module, f"{call.name}_", None) or getattr(module, call.name, None)  # list_, yield_
            if handler:
                found[service, call.name] = handler
    return found


HANDLERS = _handlers()
