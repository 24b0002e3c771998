"""The back end of a disk, whose file may grow while a front end has it; who can be told, is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from .back_end import BackEnd

if TYPE_CHECKING:
    from ..devices.block import BlockDevice
    from .given_socket import GivenSocket

log = logging.getLogger(__name__)


class DiskBackEnd(BackEnd):
    """As `BackEnd`, of `disk`."""

    look_s = 1.0
    changes = True

    def __init__(self, disk: BlockDevice, at: Path | GivenSocket) -> None:
        super().__init__(disk, at)
        self._disk = disk
        self._untold_bytes = 0

    def look(self) -> None:
        """Whether the file has grown.  A front end that cannot be told keeps the disk that it has."""
        now = self._disk.file_bytes()
        if now <= self._disk.capacity_bytes:
            return
        if self.session is None or self.session.can_tell:
            self._disk.grow(now)
            log.info("%s has %d bytes now", self.title, now)
            if self.session:
                self.session.tell_config()
        elif now != self._untold_bytes:
            self._untold_bytes = now
            self.warn(
                f"{self.title}: its file has {now} bytes now; the front end cannot be told (it does not use the "
                "protocol features CONFIG and BACKEND_REQ) and finds them when it connects again"
            )
