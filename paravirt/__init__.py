"""A hypervisor over KVM for guests that speak the paravirt hypercall ABI.

>>> from paravirt import Machine, MachineConfig
>>> with Machine(MachineConfig("guest.elf")) as machine:  # doctest: +SKIP
...     outcome = machine.run()

Names are loaded when they are first used, so that ``import paravirt`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .boot.bundled import find_image
    from .config import Budgets, Disk, MachineConfig
    from .errors import ParavirtError
    from .machine import Machine
    from .outcome import Outcome
    from .pool import Pool

_HOMES = {
    "Budgets": "config",
    "Disk": "config",
    "MachineConfig": "config",
    "ParavirtError": "errors",
    "Machine": "machine",
    "Outcome": "outcome",
    "Pool": "pool",
    "find_image": "boot.bundled",
}

__all__ = ["Budgets", "Disk", "Machine", "MachineConfig", "Outcome", "ParavirtError", "Pool", "find_image"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'paravirt' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
