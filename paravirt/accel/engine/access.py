"""A vCPU's registers, and memory at its virtual addresses, as the CPU itself reaches it and not the guest's code."""

from __future__ import annotations

from . import gates, paging
from .emulator import Emulator
from .memory import Memory

MSR_EFER = 0xC000_0080


class Access:
    """Of the vCPU that `emulator` is."""

    def __init__(self, memory: Memory, emulator: Emulator) -> None:
        self.memory = memory
        self.emulator = emulator
        self.get, self.set = emulator.get, emulator.set

    @property
    def efer(self) -> int:
        """The register EFER."""
        return self.emulator.get_msr(MSR_EFER)

    @property
    def cpl(self) -> int:
        """The level that runs."""
        return int(self.get("CS")) & 3

    def walk(self, address: int, access: int, user: bool) -> tuple[int, bool, bool]:
        """(physical page, writable, executable) of a virtual address.  Raises PageFault."""
        return paging.walk(self.memory.word, self.get("CR0"), self.get("CR3"), user, address, access)

    def _pieces(self, address: int, size_bytes: int, access: int, user: bool) -> list[tuple[int, int]]:
        pieces = []
        while size_bytes:
            part = min(size_bytes, -address % paging.PAGE or paging.PAGE)
            page, _, _ = self.walk(address, access, user)
            at = self.memory.offset(page, paging.PAGE)
            if at is None:
                raise gates.Unsupported(f"the CPU's own access to {page:#x}, which is not RAM")
            pieces.append((at + address % paging.PAGE, part))
            address, size_bytes = address + part, size_bytes - part
        return pieces

    def read(self, address: int, size_bytes: int, *, system: bool = False) -> bytes:
        """Bytes at a virtual address, as the CPU itself if `system`.  Raises PageFault."""
        pieces = self._pieces(address, size_bytes, paging.READ, self.cpl == 3 and not system)
        return b"".join(self.memory.map[at : at + part] for at, part in pieces)

    def write(self, address: int, data: bytes) -> None:
        """Stores at a virtual address.  Raises PageFault before anything is stored."""
        for at, part in self._pieces(address, len(data), paging.WRITE, self.cpl == 3):
            self.memory.map[at : at + part], data = data[:part], data[part:]
