"""A binary module that is trusted with this process: the fastest way, and the one in which its bugs are ours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._native import ffi, lib
from ..config import ExtensionConfig
from .base import Described

if TYPE_CHECKING:
    from ..machine import Machine


class TrustedModule(Described):
    """`config`'s shared object, loaded here.  Raises ExtensionError."""

    def __init__(self, config: ExtensionConfig) -> None:
        super().__init__(config.name)
        self._options = config.options
        description = ffi.new("struct pv_module_description *")
        self._instance = lib.pv_module_open(os.fsencode(os.path.abspath(config.name)), description)
        try:
            self.take(description)
        except BaseException:
            self.close()
            raise
        self.native.call, self.native.opaque = lib.pv_module_handler, self._instance

    def _begin(self, machine: Machine) -> None:
        if error := lib.pv_module_start(self._instance, machine.memory.native, self._options.encode()):
            raise self.refuse(f"it does not begin: its init answers {error}; see its maker's words on options")

    def _reset(self, machine: Machine) -> None:
        lib.pv_module_reset(self._instance, machine.memory.native)

    def save(self) -> bytes:
        """Its state."""
        state = ffi.new("uint8_t[]", lib.PV_MODULE_STATE_MOST)
        size = lib.pv_module_save(self._instance, state, len(state))
        if size > len(state):
            raise self.refuse(f"its state of {size} bytes is more than {len(state)}; its maker has to mend it")
        return bytes(ffi.buffer(state, size))

    def load(self, version: int, state: bytes) -> None:
        """Takes a state over."""
        if lib.pv_module_load(self._instance, version, state, len(state)):
            raise self.refuse(f"it refuses its state of version {version}; use the module that saved it")

    def close(self) -> None:
        """Ends and unloads it."""
        if self._instance != ffi.NULL:
            lib.pv_module_close(self._instance)
            self._instance = ffi.NULL
