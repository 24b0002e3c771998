"""A virtio-pmem driver on the fake guest: requests as chains, answers as numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypercall_abi.devices.virtio_pmem import PMEM_REQUEST, PMEM_RESPONSE, PMEM_TYPE
from paravirt.attachments.pmem import Pmem
from paravirt.boot.manifest import PlannedDevice
from paravirt.devices.pmem import PmemDevice
from paravirt.mapped import MappedDisks

from .fake_guest import Driver, FakeGuest, PluggedDevice, Segment

UNTOUCHED = 0xA5A5_A5A5


class PmemDriver:
    """Drives queue 0 of a started device of persistent memory."""

    def __init__(self, device: PluggedDevice, driver: Driver) -> None:
        self.device, self.driver, self.guest = device, driver, device.guest
        self._waiting: dict[int, int] = {}

    def add(self, kind: int = PMEM_TYPE.FLUSH) -> None:
        """A request, not published yet."""
        asked = self.guest.place(PMEM_REQUEST.build({"type": kind}))
        answer = self.guest.place(PMEM_RESPONSE.build({"result": UNTOUCHED}))
        segments = (Segment(asked, PMEM_REQUEST.size), Segment(answer, PMEM_RESPONSE.size, True))
        self._waiting[self.driver.add(segments)] = answer

    def send(self, *kinds: int) -> None:
        """Publishes requests at once."""
        for kind in kinds:
            self.add(kind)
        self.driver.publish()

    def finish(self, count: int = 1) -> list[int]:
        """Waits for that many answers: their results, in the order in which they came."""
        found = self.driver.wait(count)
        assert set(found.values()) == {PMEM_RESPONSE.size}
        answers = (self.guest.read(self._waiting.pop(head), PMEM_RESPONSE.size) for head in found)
        return [int(PMEM_RESPONSE.parse(answer).result) for answer in answers]

    def flush(self) -> int:
        """One FLUSH, start to end."""
        self.send(PMEM_TYPE.FLUSH)
        return self.finish()[0]

    @property
    def statistics(self) -> dict[str, int]:
        return self.device.device.statistics()


@contextmanager
def mapped_disk(path: Path, *, read_only: bool = False) -> Iterator[MappedDisks]:
    """The file `path`, mapped as a machine with 64 MiB does it, under the name ``disk``."""
    disks = MappedDisks([PlannedDevice(PmemDevice.type, "disk", Pmem("disk", path, read_only))], [(0, 64 << 20)])
    try:
        yield disks
    finally:
        disks.close()


@contextmanager
def pmem_guest(path: Path, *, read_only: bool = False, sync: Any = None) -> Iterator[PmemDriver]:
    """A guest with the mapped disk `path`, started."""
    with mapped_disk(path, read_only=read_only) as disks, FakeGuest() as guest:
        plugged = guest.plug(PmemDevice("disk", disks["disk"], sync))
        yield PmemDriver(plugged, plugged.start()[0])
