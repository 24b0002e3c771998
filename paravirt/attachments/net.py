"""Networks."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import ClassVar, Self

from ..errors import ConfigError
from . import Attachment
from .block_served import PATIENCE, SERVED, check_patience

PAIRS_MOST = 3  # a device has 8 queues: two for each, and one for control
MTU_LEAST, MTU_MOST = 68, 65535  # virtio 5.1.4.1
FORWARD = re.compile(r"(?:\d{1,3}(?:\.\d{1,3}){3}/)?(\d{1,5}):(\d{1,5})", re.ASCII)
MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE | re.ASCII)
LINKS = "user, tap:INTERFACE, fd:NUMBER, vhost:SOCKET or loop"


def new_mac() -> bytes:
    """A random Ethernet address that nobody was given: locally administered, of one station."""
    return b"\x02" + os.urandom(5)


def _is_interface(name: str) -> bool:
    return 0 < len(name.encode()) < 16 and "/" not in name and name.isprintable()


class Net(Attachment):
    """A network card of the guest's, and what it is plugged into."""

    kind: ClassVar[str] = "NET"

    link: str = "user"
    """``user`` (by passt, no rights needed), ``tap:INTERFACE``, ``fd:NUMBER`` (``fd:NUMBER+NUMBER`` for pairs),
    ``vhost:SOCKET`` (the program that listens there carries frames: vhost-user), or ``loop``, which gives back each
    frame.

    A descriptor, which stays the caller's, is a TAP queue, a socket that keeps frames apart, or a stream socket with
    passt's framing."""
    mac: bytes = b""
    """6 bytes; empty: a new one."""
    mtu: int = 0
    """Largest payload of a frame in bytes; 0: the link's."""
    pairs: int = 1
    """Pairs of queues."""
    forward: tuple[str, ...] = ()
    """With ``user``: ports of the host that lead to the guest's, ``udp:8007:7`` or ``tcp:8080:80``: of its loopback, or
    of the address that is named, ``tcp:0.0.0.0/8080:80``."""
    frames_per_second: int = 0
    """In each direction; 0: no limit.  What may go in 100 ms may go at once."""
    bytes_per_second: int = 0
    """The same of bytes."""
    capture: Path | None = None
    """Where the frames are written (pcapng); None: nowhere."""
    patience_s: float | None = None
    """With ``vhost:`` how long the program may be away before the device is given up; None: for ever."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.__dict__["mac"] = self.mac or new_mac()
        if len(self.mac) != 6 or self.mac[0] & 1:
            raise ConfigError(f"network {self.name!r}: {self.mac.hex(':')} is not the address of one station")
        if self.mtu and not MTU_LEAST <= self.mtu <= MTU_MOST:
            raise ConfigError(f"network {self.name!r}: an mtu of {self.mtu}; it is from {MTU_LEAST} to {MTU_MOST}")
        if not 1 <= self.pairs <= PAIRS_MOST:
            raise ConfigError(f"network {self.name!r}: {self.pairs} pairs of queues; there are from 1 to {PAIRS_MOST}")
        self._check_link()
        self._check_forward()
        self._check_served()
        if not (0 <= self.frames_per_second < 1 << 63 and 0 <= self.bytes_per_second < 1 << 63):
            raise ConfigError(f"network {self.name!r}: a limit is from 0 to 2^63")

    def _check_link(self) -> None:
        kind, colon, rest = self.link.partition(":")
        if kind in ("user", "loop") and not colon:
            fitting = 1
        elif (self.served and rest) or (kind == "tap" and _is_interface(rest)):
            fitting = self.pairs
        elif kind == "fd" and re.fullmatch(r"\d{1,9}(\+\d{1,9})*", rest, re.ASCII):
            fitting = rest.count("+") + 1
        else:
            right = {"tap": "tap:INTERFACE, of at most 15 bytes", "fd": "fd:NUMBER, or fd:NUMBER+NUMBER for pairs"}
            raise ConfigError(f"network {self.name!r}: {self.link!r} is no link; write {right.get(kind, LINKS)}")
        if self.pairs != fitting:
            raise ConfigError(f"network {self.name!r}: {self.link} has {fitting} pair(s) of queues, not {self.pairs}")

    def _check_forward(self) -> None:
        if self.forward and self.link != "user":
            raise ConfigError(f"network {self.name!r}: ports are forwarded by the link user, not by {self.link}")
        for text in self.forward:
            protocol, _, ports = text.partition(":")
            match = FORWARD.fullmatch(ports)
            if protocol not in ("tcp", "udp") or not match or not all(0 < int(port) < 65536 for port in match.groups()):
                raise ConfigError(
                    f"network {self.name!r}: {text!r} is no forwarding; write tcp:[ADDRESS/]HOST-PORT:GUEST-PORT "
                    "(on the command line tcp=…), or udp"
                )

    def _check_served(self) -> None:
        check_patience(f"network {self.name!r}", self.patience_s)
        if self.patience_s is not None and not self.served:
            raise ConfigError(f"network {self.name!r}: patience is for the link {SERVED}SOCKET, not for {self.link}")
        if self.served and (self.frames_per_second or self.bytes_per_second or self.capture):
            raise ConfigError(
                f"network {self.name!r}: the frames of {self.link} do not pass here, so they are neither limited nor "
                "captured; have the program do it that carries them"
            )

    @property
    def served(self) -> bool:
        """Whether another program carries its frames."""
        return self.link.startswith(SERVED)

    @property
    def socket(self) -> Path:
        """Where that program listens."""
        return Path(self.link.removeprefix(SERVED))

    def seen_from(self, directory: Path) -> Self:
        """The same, a path that is relative being so to `directory`."""
        link = f"{SERVED}{directory / self.socket}" if self.served else self.link
        capture = directory / self.capture if self.capture else None
        return self.replace(link=link, capture=capture)

    @property
    def fds(self) -> tuple[int, ...]:
        """Descriptors that the user gave."""
        kind, _, rest = self.link.partition(":")
        return tuple(int(number) for number in rest.split("+")) if kind == "fd" else ()

    @property
    def interface(self) -> str:
        """Name of the TAP device; empty: there is none."""
        kind, _, rest = self.link.partition(":")
        return rest if kind == "tap" else ""


def parse_capture(text: str, nets: tuple[Net, ...]) -> tuple[Net, ...]:
    """`nets`, of which the one that ``NAME=FILE`` names is captured.  Raises ConfigError."""
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"{text!r} is not a capture; write NAME=FILE")
    if name not in (net.name for net in nets):
        known = ", ".join(net.name for net in nets) or "none"
        raise ConfigError(f"cannot capture {name!r}: there is no such network, there is {known}; give it with --net")
    return tuple(net.replace(capture=Path(path)) if net.name == name else net for net in nets)


def _number(text: str, option: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ConfigError(f"{option}={text}: it takes a number")
    return int(text)


def parse_net(text: str) -> Net:
    """A network written ``NAME[=LINK][,OPTION=VALUE…]``.  Raises ConfigError."""
    first, *options = text.split(",")
    name, equals, link = first.partition("=")
    values: dict[str, object] = {"forward": ()}
    for option in options:
        key, _, value = option.partition("=")
        if key == "mac" and MAC.fullmatch(value):
            values["mac"] = bytes.fromhex(value.replace(":", ""))
        elif key == "bps":
            from ..config import parse_size  # which imports this

            values["bytes_per_second"] = parse_size(value)
        elif key == "pps":
            values["frames_per_second"] = _number(value, key)
        elif key in ("mtu", "pairs"):
            values[key] = _number(value, key)
        elif f"{key}=" == PATIENCE:
            values["patience_s"] = float(_number(value, key))
        elif key in ("tcp", "udp"):
            values["forward"] = (*values["forward"], f"{key}:{value}")  # type: ignore[misc]
        else:
            raise ConfigError(
                f"{text!r}: {option!r} is not an option of a network; "
                "there are mac=XX:XX:XX:XX:XX:XX, mtu=N, pairs=N, pps=N, bps=SIZE, tcp=[ADDRESS/]HOST:GUEST, udp=…, "
                "patience=SECONDS"
            )
    if equals and not link:
        raise ConfigError(f"{text!r} is not a network; write NAME=LINK, where LINK is {LINKS}")
    if "pairs" not in values and link.startswith("fd:"):
        values["pairs"] = link.count("+") + 1
    return Net(name, link or "user", **values)  # type: ignore[arg-type]
