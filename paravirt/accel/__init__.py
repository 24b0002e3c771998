"""What runs vCPUs: KVM, or an emulated CPU in a process of its own where there is no KVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config import MachineConfig
from ..errors import ConfigError, KvmForbidden, KvmMissing, SoftwareMissing
from ..memory import GuestMemory

if TYPE_CHECKING:
    from .kvm import Kvm
    from .software import Software

    Accelerator = Kvm | Software


def make_accelerator(config: MachineConfig, machine: Any, memory: GuestMemory) -> Accelerator:
    """The accelerator that `config` asks for, over a ``struct pv_machine *``.

    ``auto`` is KVM where it can be opened.  Raises HostError.
    """
    if config.accel == "software":
        return _software(config, machine, memory)
    from .kvm import Kvm

    try:
        return Kvm(config, machine)
    except (KvmMissing, KvmForbidden) as error:
        if config.accel == "kvm":
            raise
        try:
            accelerator = _software(config, machine, memory)
        except SoftwareMissing as missing:
            raise type(error)(f"{error}; or, without KVM: {missing}") from error
        accelerator.instead_of = str(error).partition("; ")[0]
        return accelerator


def _software(config: MachineConfig, machine: Any, memory: GuestMemory) -> Software:
    if config.cpu != "host":
        raise ConfigError(f"the software vCPU is one CPU, not {config.cpu}; leave --cpu out, or use --accel kvm")
    from .software import Software

    return Software(config, machine, memory)
