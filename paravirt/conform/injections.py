"""What the strict host does to a guest: each legal, each rare.

An injection names the rules that a guest relies against if it cannot bear it.  They keep no state between runs.
"""

from __future__ import annotations

import itertools
import random
import struct
import time
from typing import Any

from hypercall_abi import STATUS
from hypercall_abi.boot import BOOT_FLAG, BOOT_RECORD
from hypercall_abi.services.event import CHANNEL, UPCALL

from .._native import ffi, lib
from ..boot import info
from ..boot.manifest import PlannedDevice
from ..config import MachineConfig
from ..devices.base import Device
from ..devices.entropy import EntropyDevice
from ..devices.queue import Chain
from .strict import Answer, Injection, StrictMachine

FILLER_BYTES = 512
FILLER = BOOT_RECORD.VENDOR + 0x123
UNKNOWN = 0x7123
GARBAGE_NS = 1 << 61
"""Where the time page points while its sequence is odd: no machine is as old."""
LATER_STATUS = -1000
"""A status of a version to come."""
FIXED = (BOOT_RECORD.ABI, BOOT_RECORD.VCPUS, BOOT_RECORD.PAGES, BOOT_RECORD.MACHINE, BOOT_RECORD.TABLES)
DISPENSABLE = ("entropy.fill", "memory.populate", "memory.discard", "trace.mark", "trace.begin", "trace.end")
"""Calls without which a guest can do its work, or end in order."""


class Poison(Injection):
    """Whatever is undefined is scrambled."""

    name, rules = "poison", ("CALL-9", "CALL-10", "CALL-11")
    doc = "undefined registers, values and output are scrambled"

    def configure(self, config: MachineConfig) -> MachineConfig:
        """By the machine's own switch."""
        return config.replace(poison=True)


class SpuriousEvents(Injection):
    """Upcalls with nothing behind them, and channels that nobody asked for."""

    name, rules = "spurious-events", ("EVT-4", "EVT-3", "BOOT-6")
    doc = "upcalls that find nothing pending, and events of channels that nobody uses"

    def __init__(self) -> None:
        self._random = random.Random(1)

    def disturb(self, machine: StrictMachine) -> None:
        """One vCPU at a time."""
        vcpu = self._random.choice(machine.vcpus).native
        if vcpu.state.state == lib.PV_VCPU_STATE_STOPPED:
            return
        if self._random.random() < 0.5:
            lib.pv_event_raise(machine.native, vcpu.index, CHANNEL.FIRST_FREE + self._random.randrange(100, 150))
        elif vcpu.state.upcall_vector != UPCALL.OFF and not vcpu.page.upcall_mask:
            machine.native.ops.upcall(vcpu)


class EarlyBlock(Injection):
    """Waits that end before anything happened."""

    name, rules = "early-block", ("VCPU-4",)
    doc = "every second vcpu.block returns at once"

    def __init__(self) -> None:
        self._count = itertools.count()

    def call(self, vcpu: int, name: str, args: tuple[int, ...]) -> Answer | None:
        """Only every second, lest waiting become polling."""
        return Answer() if name == "vcpu.block" and next(self._count) % 2 == 0 else None


class Continue(Injection):
    """Calls of many parts do one at a time."""

    name, rules = "continue", ("BATCH-5", "MEM-6")
    doc = "batches and lists of ranges stop after their first entry"
    COUNTS = {"base.batch": (1, 3), "memory.populate": (1,), "memory.discard": (1,)}

    def call(self, vcpu: int, name: str, args: tuple[int, ...]) -> Answer | None:
        """With a count of one."""
        counts = self.COUNTS.get(name, ())
        if not counts or args[counts[0]] < 2 or len({args[at] for at in counts}) > 1:
            return None
        return Answer(STATUS.CONTINUE, args=tuple(1 if at in counts else arg for at, arg in enumerate(args)))


class ShortReads(Injection):
    """Input comes in small pieces."""

    name, rules = "short-reads", ("CALL-11",)
    doc = "console.read and the entropy device give one byte at a time"

    def call(self, vcpu: int, name: str, args: tuple[int, ...]) -> Answer | None:
        """With room for one byte."""
        return Answer(args=(args[0], 1, *args[2:])) if name == "console.read" and args[1] > 1 else None

    def device(self, device: Device, planned: PlannedDevice, machine: StrictMachine) -> Device:
        """virtio 5.4.6: the device may use a part of a buffer."""
        if isinstance(device, EntropyDevice):
            return _ShortEntropy(device.name, device.service)
        return device


class _ShortEntropy(EntropyDevice):
    def handle(self, queue: int, chain: Chain) -> int:
        """One byte."""
        return chain.write(0, random.randbytes(min(chain.writable_bytes, 1)))


class Refusals(Injection):
    """Calls that a guest can do without are refused, now with FAILED."""

    name, rules = "failed", ("CALL-12",)
    doc = "entropy.fill, memory.populate, memory.discard and trace calls answer FAILED"
    status = int(STATUS.FAILED)

    def call(self, vcpu: int, name: str, args: tuple[int, ...]) -> Answer | None:
        """Each of them."""
        return Answer(self.status) if name in DISPENSABLE else None


class LaterStatus(Refusals):
    """The same with a status that the guest cannot know; what it does must be the same."""

    name, rules = "later-status", ("ERR-1",)
    doc = "the same calls answer a negative status of a later version"
    status = LATER_STATUS


class Quota(Refusals):
    """Budgets are used up."""

    name, rules = "quota", ("TRC-1",)
    doc = "trace calls answer QUOTA"
    status = int(STATUS.QUOTA)

    def call(self, vcpu: int, name: str, args: tuple[int, ...]) -> Answer | None:
        """Those of the service trace."""
        return Answer(self.status) if name.startswith("trace.") else None


class BootRecords(Injection):
    """Boot information as a later version or another vendor would write it."""

    name, rules = "boot-records", ("BOOT-3", "BOOT-7")
    doc = "unknown optional boot records, records longer than known, in another order"

    def configure(self, config: MachineConfig) -> MachineConfig:
        """A record whose room the longer ones take."""
        return config.replace(boot_records=(*config.boot_records, (FILLER, 0, bytes(FILLER_BYTES))))

    def built(self, machine: StrictMachine) -> None:
        """Both copies: in guest memory, and what base.boot_info gives."""
        old = machine.layout.boot_info
        records = [r for r in split(old) if r[0] != FILLER]
        longer = [(k, flags, data + (b"\xa5" * 16 if k in FIXED else b"")) for k, flags, data in reversed(records)]
        listed = [(UNKNOWN, 0, b"\xff" * 24), *longer]
        used = len(info.join(info.record(k, data, flags) for k, flags, data in listed))
        listed.append((FILLER, 0, bytes(len(old) - used - 8)))
        new = info.join(info.record(k, data, flags) for k, flags, data in listed)
        assert len(new) == len(old)
        machine.replace_boot_info(new)


class BootMandatory(Injection):
    """A mandatory record that no guest knows: it must not run on."""

    name, rules = "boot-mandatory", ("BOOT-3",)
    doc = "an unknown mandatory boot record: the guest shuts down with BOOT_REFUSED"

    def configure(self, config: MachineConfig) -> MachineConfig:
        """One more record."""
        return config.replace(boot_records=(*config.boot_records, (UNKNOWN, BOOT_FLAG.MANDATORY, b"\xff" * 8)))


class Clock(Injection):
    """The time page is rewritten all the time, with nonsense in it while its sequence is odd."""

    name, rules = "clock", ("TIME-6", "TIME-1")
    doc = "the time page is rewritten again and again, and is nonsense while its sequence is odd"

    def disturb(self, machine: StrictMachine) -> None:
        """Odd for a while."""
        page = ffi.cast("struct pv_time_page *", machine.native.time_page)
        if page.sequence % 2:
            return
        kept = bytes(ffi.buffer(page, ffi.sizeof("struct pv_time_page")))[8:]
        page.sequence += 1
        page.base_ns, page.wall_offset_ns, page.multiplier, page.base_counter = GARBAGE_NS, GARBAGE_NS, 1, 0
        time.sleep(0.0004)  # as a host that was descheduled
        ffi.memmove(ffi.cast("uint8_t *", page) + 8, kept, len(kept))
        page.sequence += 1


class ConfigChanges(Injection):
    """Devices' configurations change, to what they were."""

    name, rules = "config-changes", ("DEV-19", "EVT-4")
    doc = "devices announce changes of their configuration"

    def __init__(self) -> None:
        self._turn = itertools.count()

    def disturb(self, machine: StrictMachine) -> None:
        """Now and then."""
        if next(self._turn) % 10:
            return
        for _, native in machine.devices.devices:
            if native.config_bytes:
                same = ffi.new("uint8_t[]", bytes(ffi.buffer(native.config, native.config_bytes)))
                lib.pv_device_set_config(native, same, native.config_bytes)


def split(boot_info: bytes) -> list[tuple[int, int, bytes]]:
    """(type, flags, payload) of each record but END, of boot information that we made."""
    listed: list[tuple[int, int, bytes]] = []
    at = int(ffi.sizeof("struct pv_boot_info"))
    while True:
        kind, flags, size = struct.unpack_from("<HHI", boot_info, at)
        if kind == BOOT_RECORD.END:
            return listed
        listed.append((kind, flags, boot_info[at + 8 : at + 8 + size]))
        at += 8 + size + -size % 8


def combined() -> list[Injection]:
    """All that leave a correct guest's end as it is."""
    from .late_disk import LateDisk

    kinds: list[Any] = [Poison, SpuriousEvents, EarlyBlock, Continue, ShortReads, BootRecords, Clock, ConfigChanges]
    return [*(kind() for kind in kinds), LateDisk()]
