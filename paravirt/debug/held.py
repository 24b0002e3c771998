"""How the C core hands a vCPU's thread over to whoever debugs its machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._native import ffi, lib

if TYPE_CHECKING:
    from ..machine import Machine


@ffi.def_extern(error=True)  # type: ignore[untyped-decorator]
def pv_py_held(vcpu: Any, why: int, detail: int) -> bool:
    """A vCPU's thread is out of the guest; it is kept here."""
    machine: Machine = ffi.from_handle(vcpu.machine.opaque)
    debugger = machine.debugger
    try:
        if debugger is None:  # it is being given back
            vcpu.hold = 0
            return bool(why != lib.PV_HELD_END)
        return debugger.held(vcpu.index, why, detail)
    except BaseException as error:  # a bug of ours: it ends the machine, not the process
        machine.fail(error)
        return True
