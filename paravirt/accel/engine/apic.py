"""A vCPU's interrupt inputs: NMI, and a local APIC that is on and takes fixed messages (BOOT-11)."""

from __future__ import annotations

from collections.abc import Callable

NMI = 2
APIC_GPA = 0xFEE0_0000
APIC_BYTES = 4096
_ID, _VERSION, _TASK_PRIORITY, _EOI, _SPURIOUS = 0x20, 0x30, 0x80, 0xB0, 0xF0
_VERSION_VALUE = 0x50014
_SPURIOUS_ON = 0x1FF


class Apic:
    """What vCPU `index` is to take.  An NMI waits until IRET, a vector until the higher ones have ended.

    ``put_bit`` sets or clears bit 0 of a byte of guest memory by its GPA, and says what it was.
    """

    def __init__(self, index: int, put_bit: Callable[[int, bool], bool]) -> None:
        self._id = index << 24
        self._put_bit = put_bit
        self._eoi_gpa = 0
        self._lent = False
        self._waiting: set[int] = set()
        self._served: list[int] = []
        self._priority = 0
        self._nmi = False
        self.nmi_blocked = False
        """A handler of an NMI has not come to its IRET yet."""

    def request(self, vector: int, eoi_gpa: int = 0) -> None:
        """An interrupt came; one that waits already is the same one.  `eoi_gpa`: where it may be ended, or 0."""
        if vector == NMI:
            self._nmi = True
        else:
            self._waiting.add(vector)
            self._eoi_gpa = eoi_gpa

    @property
    def waits(self) -> bool:
        """Whether an interrupt came that is not taken yet."""
        return self._nmi or bool(self._waiting)

    def begin(self) -> None:
        """The vCPU starts anew: no handler runs any more; what waits stays."""
        self.nmi_blocked = False

    def next(self, enabled: bool) -> int | None:
        """The vector that would be taken now; `enabled` is the flag IF."""
        if self._nmi and not self.nmi_blocked:
            return NMI
        if not enabled or not self._waiting:
            return None
        vector = max(self._waiting)
        above = max(self._served[-1] if self._served else 0, self._priority)
        return vector if vector >> 4 > above >> 4 else None

    def take(self, vector: int) -> None:
        """`vector`, which is that of :meth:`next`, is delivered."""
        if vector == NMI:
            self._nmi, self.nmi_blocked = False, True
        else:
            self._waiting.remove(vector)
            self._served.append(vector)

    def enter(self) -> None:
        """Guest code is about to run: it may end what it serves in memory, unless another waits for that (EVT-13)."""
        self._lent = bool(self._eoi_gpa and self._served and not self._waiting)
        if self._lent:
            self._put_bit(self._eoi_gpa, True)

    def leave(self) -> None:
        """No guest code runs: what it has not ended in memory is to be ended by the register, or at the next entry."""
        if self._lent and not self._put_bit(self._eoi_gpa, False):
            self._served.pop()
        self._lent = False

    def read(self, offset: int) -> int:
        """A register."""
        registers = {
            _ID: self._id,
            _VERSION: _VERSION_VALUE,
            _TASK_PRIORITY: self._priority,
            _SPURIOUS: _SPURIOUS_ON,
        }
        return registers.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """A register; those that are not here are lost."""
        self.leave()
        if offset == _EOI and self._served:
            self._served.pop()
        elif offset == _TASK_PRIORITY:
            self._priority = value & 0xFF
