"""Disks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ..errors import ConfigError
from . import FileAttachment
from .block_served import SERVED, ServedDisk, parse_served

QUEUES_MOST = 8  # the limit DEVICE_QUEUES
RATE_MOST = 1 << 50


class Disk(FileAttachment):
    """A raw file offered to the guest as the block device `name`."""

    kind: ClassVar[str] = "BLOCK"
    options: ClassVar[str] = ",ro ,direct ,writethrough ,iops=N ,bps=SIZE ,queues=N"

    direct: bool = False
    """Past the host's page cache (O_DIRECT); what the guest does not align to 4096 bytes still goes through it."""
    writethrough: bool = False
    """What is written is durable when it is answered, until the driver asks for a cache."""
    queues: int = 0
    """Each has a thread; 0: as many as the machine has vCPUs, 8 at most."""
    operations_per_second: int = 0
    """Requests of the whole disk; 0: no limit.  What may go in 100 ms may go at once."""
    bytes_per_second: int = 0
    """The same for the data of requests, zeros that are asked for included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.queues <= QUEUES_MOST:
            raise ConfigError(f"the disk {self.name!r} cannot have {self.queues} queues; give from 1 to {QUEUES_MOST}")
        for word, rate in (("operations", self.operations_per_second), ("bytes", self.bytes_per_second)):
            if not 0 <= rate <= RATE_MOST:
                raise ConfigError(f"the disk {self.name!r} cannot do {rate} {word} per second; give from 1 to 2^50")


_FLAGS = {"ro": "read_only", "direct": "direct", "writethrough": "writethrough"}
_NUMBERS = {"iops": "operations_per_second", "bps": "bytes_per_second", "queues": "queues"}


def parse_disk(text: str) -> Disk | ServedDisk:
    """A disk written ``NAME=PATH[,ro][,direct][,writethrough][,iops=N][,bps=SIZE][,queues=N]``.

    Options are taken from the end, each once; what is none belongs to the path.  With ``vhost:`` before it the path
    is a socket's (`parse_served`).  Raises ConfigError.
    """
    name, equals, path = text.partition("=")
    if path.startswith(SERVED):
        return parse_served(text)
    options: dict[str, Any] = {}
    while True:
        rest, comma, last = path.rpartition(",")
        word, _, number = last.partition("=")
        option = _FLAGS.get(last) or (_NUMBERS.get(word) if "=" in last else None)
        if not comma or not option or option in options:
            break
        path, options[option] = rest, last in _FLAGS or _number(text, word, number)
    if last == "rw" and comma:
        raise ConfigError(f"{text!r}: only ,ro is known; without it a disk is read and written")
    if not equals or not path:
        raise ConfigError(f"{text!r} is not a disk; write NAME=PATH or NAME=PATH,ro")
    return Disk(name, Path(path), **options)


def _number(text: str, word: str, number: str) -> int:
    from ..config import parse_size  # which imports this

    value = parse_size(number) if word == "bps" else int(number) if number.isascii() and number.isdigit() else 0
    if value < 1:
        raise ConfigError(f"{text!r}: {word}={number} is not a number from 1 on; leave it out for none")
    return value
