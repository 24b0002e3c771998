"""A disk that hostile front ends are let at, and what a good one finds behind them."""

from __future__ import annotations

import random
from pathlib import Path

from paravirt.vhost_user.messages import VRING_STATE, Request

from .front_end import FrontEndPuppet
from .served_device import wait_for

DATA = random.Random(2).randbytes(64 << 10)


def check_serves(path: Path) -> None:
    """The next front end finds a disk."""
    with FrontEndPuppet(path) as good:
        good.start()
        for sector in (3, 5):
            at = good.offer_read(sector)
            wait_for(lambda: good.used() == good.added, "no answer")
            assert good.memory[at : at + 512] == DATA[sector * 512 : sector * 512 + 512]
        number, base = VRING_STATE.unpack(good.ask(Request.GET_VRING_BASE, VRING_STATE.pack(0, 0)))
        assert (number, base) == (0, 2)
