"""A wire between a socket that keeps frames apart and a TAP device, on which frames are lost, doubled, late, wrong."""

from __future__ import annotations

import fcntl
import os
import random
import select
import socket
import struct
import threading
from types import TracebackType

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 2, 0x1000
FRAME_BYTES = 65536
HEADERS_BYTES = 14 + 20 + 20  # what is behind them may be wrong


class LossyWire:
    """Carries frames between `link` and the TAP device `name` while the context lasts.

    Of a hundred frames of either direction `lost` are lost; as many come twice, after the next one, and with a bit
    turned round.  Which ones is said by `seed`.
    """

    def __init__(self, link: socket.socket, name: str, *, lost: int, seed: int) -> None:
        self.counts = dict.fromkeys(("whole", "lost", "twice", "late", "wrong"), 0)
        """What became of the frames."""
        self._random = random.Random(seed)
        self._lost = lost
        self._link = link
        self._late: dict[int, bytes] = {}
        self._tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(self._tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._carry, name="wire")

    def __enter__(self) -> LossyWire:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop[0].close()
        self._thread.join()
        self._stop[1].close()
        os.close(self._tap)

    def _carry(self) -> None:
        ways = {self._tap: self._link.fileno(), self._link.fileno(): self._tap}
        end = self._stop[1].fileno()
        while True:
            ready, _, _ = select.select([*ways, end], [], [])
            if end in ready:
                return
            for fd in ready:
                frame = os.read(fd, FRAME_BYTES)
                if frame:
                    self._pass(frame, ways[fd])

    def _pass(self, frame: bytes, to: int) -> None:
        fate = self._random.randrange(100) // self._lost
        what = ("lost", "twice", "late", "wrong", "whole")[min(fate, 4)]
        if (what == "wrong" and len(frame) <= HEADERS_BYTES) or (what == "late" and to in self._late):
            what = "whole"
        self.counts[what] += 1
        if what == "late":
            self._late[to] = frame
            return
        if what == "wrong":
            at = self._random.randrange(HEADERS_BYTES, len(frame))
            frame = frame[:at] + bytes([frame[at] ^ 1 << self._random.randrange(8)]) + frame[at + 1 :]
        for part in {"lost": (), "twice": (frame, frame)}.get(what, (frame,)):
            os.write(to, part)
        if to in self._late:
            os.write(to, self._late.pop(to))
