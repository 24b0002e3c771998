"""What the C core leaves to the host's policy, one file per service of the ABI: where text goes, what an end means.

Calls are checked and served in ``native/``; these functions are its ``struct pv_machine_ops`` in Python.
They are called from the machine's threads.  An exception in one is a bug of ours: it ends the machine,
not the process.
"""

from __future__ import annotations

from typing import Any

from .._native import lib
from . import console as console
from . import system as system


def serve(native: Any) -> None:
    """Has a ``struct pv_machine *`` whose ``opaque`` is the handle of a Machine call the functions here."""
    native.ops.console_write = lib.pv_py_console_write
    native.ops.console_read = lib.pv_py_console_read
    native.ops.end = lib.pv_py_end
