"""What the end of a vCPU's run means for its machine, as an error; loaded when something went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._native import lib
from .errors import ParavirtError
from .vcpu import exit_error

if TYPE_CHECKING:
    from .machine import Machine

OWN_FAULT = (lib.PV_EXIT_UNSUPPORTED, lib.PV_EXIT_ENGINE)  # the accelerator has words for them
NO_PAGE = (lib.PV_EXIT_ERROR, lib.PV_EXIT_ENGINE, lib.PV_EXIT_REGION)  # may be for a page of a mapped disk


def meaning(machine: Machine, index: int, result: Any) -> ParavirtError:
    """The error for a ``struct pv_exit`` of vCPU `index`, which was not stopped."""
    accelerator = machine.accelerator
    if result.kind in NO_PAGE and (lost := machine.mapped.lost(result, accelerator.ended_by)):
        return lost
    words = accelerator.last_words if result.kind in OWN_FAULT else _hint(machine, result)
    error = exit_error(index, result, machine.place, words)
    assert error is not None
    return error


def _hint(machine: Machine, result: Any) -> str:
    if result.kind == lib.PV_EXIT_INTERNAL and machine.image.is_plain:
        return "this kernel needs a KVM on VMX or SVM, see `paravirt doctor`"
    if result.kind != lib.PV_EXIT_TRIPLE_FAULT:
        return ""
    from .hints import triple_fault

    user = machine.layout.mode == lib.PV_MODE_USER
    return triple_fault(machine.image, machine.layout, machine.memory, user, result)
