"""What the C core leaves to the host's policy, one file per service of the ABI: where text goes, what an end means.

Calls are checked and served in ``native/``; these functions are its ``struct pv_machine_ops`` in Python.
They are called from the machine's threads.  An exception in one is a bug of ours: it ends the machine,
not the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._native import lib
from ..config import Budgets, MachineConfig
from . import console as console
from . import system as system

FEATURES = {  # offered, by the number of the service
    int(lib.PV_SERVICE_BASE): int(lib.PV_BASE_FEATURE_RING),
    int(lib.PV_SERVICE_CONSOLE): int(lib.PV_CONSOLE_FEATURE_INPUT),
    int(lib.PV_SERVICE_EVENT): int(lib.PV_EVENT_FEATURE_DOORBELL | lib.PV_EVENT_FEATURE_EOI),
    int(lib.PV_SERVICE_MEMORY): int(lib.PV_MEMORY_FEATURE_BALLOON | lib.PV_MEMORY_FEATURE_FREE_PAGE_REPORTING),
    int(lib.PV_SERVICE_CONTINUITY): int(lib.PV_CONTINUITY_FEATURE_NOTIFY),
    int(lib.PV_SERVICE_DEVICE): int(lib.PV_DEVICE_FEATURE_QUEUE_RESET | lib.PV_DEVICE_FEATURE_HOTPLUG),
}


def features(number: int, config: MachineConfig) -> int:
    """Those of a service that a machine so made offers."""
    debug = int(lib.PV_SYSTEM_FEATURE_DEBUG) if number == lib.PV_SERVICE_SYSTEM and config.gdb else 0
    return FEATURES.get(number, 0) | debug


def serve(
    native: Any, offered: Mapping[int, int], denied: Mapping[int, int], budgets: Budgets, plain: bool = False
) -> None:
    """Offers services (number → features) but for denied calls (number → bit mask of functions), within budgets.

    A ``struct pv_machine *`` whose ``opaque`` is the handle of a Machine calls the functions here.
    """
    for number, features in offered.items():
        native.services |= 1 << number
        native.offered[number] = features
        native.denied[number] = denied.get(number, 0)
    native.console_budget = budgets.console_most(plain)
    native.trace_mark_budget = budgets.trace_marks
    native.doorbell_budget = budgets.doorbells_per_second
    native.ops.console_write = lib.pv_py_console_write
    native.ops.console_read = lib.pv_py_console_read
    native.ops.end = lib.pv_py_end
