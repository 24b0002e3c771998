"""Outputs of the declaration: each a pure function from it to text, and the files they are kept in."""

from collections.abc import Callable

from . import c, calls

# name: (function, path below hypercall_abi/)
OUTPUTS: dict[str, tuple[Callable[[], str], str]] = {
    "c": (c.emit, "include/paravirt_abi.h"),
    "calls": (calls.emit, "include/paravirt_abi_calls.h"),
}
