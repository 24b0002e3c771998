"""A fake guest with a disk that a peer serves, for tests of either's life."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from paravirt.attachments.block_served import ServedDisk
from paravirt.devices.block_served import ServedBlockDevice

from .block_driver import SECTOR, BlockDriver
from .fake_guest import FakeGuest, PluggedDevice
from .vhost_peer import VhostPeer
from .waiting import wait_for

SECTORS = 256
PATIENCE_S = 20


def wait_taken(peer: VhostPeer, count: int) -> None:
    wait_for(lambda: len(peer.taken) == count, "the peer has not taken them")


class Served:
    """A fake guest, its disk, and the one peer at a time that serves it."""

    def __init__(self, place: Path, kept: ExitStack) -> None:
        self.socket = place / "disk.sock"
        self.data = bytearray(random.Random(3).randbytes(SECTORS * SECTOR))
        self._kept = kept
        self.failures: list[BaseException] = []
        self.guest: Any = None
        self.plugged: Any = None

    def peer(self, **options: Any) -> VhostPeer:
        return self._kept.enter_context(VhostPeer(self.socket, self.data, **options))

    def plug(self, *, read_only: bool = False, patience_s: float | None = None, reply_s: float = 5.0) -> PluggedDevice:
        self.guest = self._kept.enter_context(FakeGuest())
        disk = ServedDisk("disk", self.socket, read_only, patience_s)
        device = ServedBlockDevice("disk", disk, self.guest.regions, self.failures.append, reply_s)
        plugged: PluggedDevice = self.guest.plug(device)
        self.plugged = plugged
        return plugged

    def start(self, *, indirect: bool = False, **options: Any) -> BlockDriver:
        return BlockDriver(self.plugged, self.plugged.start(**options)[0], indirect=indirect)

    def statistics(self) -> dict[str, int]:
        return dict(self.plugged.device.statistics())

    def wait_reconnects(self, count: int) -> None:
        wait_for(lambda: self.statistics()["reconnects"] == count, "the device did not find its peer again")

    def sector(self, number: int) -> bytes:
        return bytes(self.data[number * SECTOR : (number + 1) * SECTOR])
