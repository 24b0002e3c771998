"""Services of vendors and experiments: found, loaded, offered to one machine, given back.

A binary module (``include/paravirt_module.h``) is a shared object, in a process of its own unless it is trusted; a
plug-in is Python, found by the entry points of the group ``paravirt.extensions``.  What a call declares is
checked by the C core before either sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..abi import SERVICES as STANDARD

if TYPE_CHECKING:
    from ..abi import Service
    from ..config import ExtensionConfig
    from ..machine import Machine
    from .base import Extension

GROUP = "paravirt.extensions"


def open_extension(config: ExtensionConfig) -> Extension:
    """The extension that `config` names.  Raises ExtensionError."""
    if not config.is_module:
        from .plugin import open_plugin

        return open_plugin(config)
    if config.trusted:
        from .module import TrustedModule

        return TrustedModule(config)
    from .process import IsolatedModule

    return IsolatedModule(config)


class Extensions:
    """Those of one machine.  Raises ExtensionError, and keeps none then."""

    def __init__(self, configs: Sequence[ExtensionConfig]) -> None:
        self._opened: list[Extension] = []
        try:
            for config in configs:
                self._opened.append(open_extension(config))
                self._check_name(self._opened[-1])
        except BaseException:
            self.close()
            raise

    def _check_name(self, new: Extension) -> None:
        """What is denied by name is what the user means, whatever a module calls itself."""
        if new.name in STANDARD or any(new.name == other.name for other in self._opened[:-1]):
            raise new.refuse(f"there is another service {new.name!r}; its maker has to rename it")

    @property
    def services(self) -> dict[str, Service]:
        """By name, as abi.SERVICES has the standard's."""
        return {extension.name: extension.service for extension in self._opened}

    @property
    def features(self) -> dict[int, int]:
        """Features offered, by the number of the service."""
        return {extension.service.number: extension.features for extension in self._opened}

    @property
    def call_names(self) -> dict[int, str]:
        """``service.call`` by call id."""
        return {
            service.number << 16 | call.number: f"{name}.{call_name}"
            for name, service in self.services.items()
            for call_name, call in service.calls.items()
        }

    def attach(self, machine: Machine) -> None:
        """Offers those that are not denied to a new life of `machine`.  Raises ExtensionError."""
        for extension in self._opened:
            number = extension.service.number
            if number not in machine.denied.services:
                extension.attach(machine, machine.denied.calls.get(number, 0))

    def faults(self) -> list[str]:
        """A line for each that failed while the guest ran."""
        return [fault for extension in self._opened if (fault := extension.fault())]

    def close(self) -> None:
        """Gives everything back."""
        for extension in self._opened:
            extension.close()
        self._opened = []
