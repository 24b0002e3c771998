"""Waiting for a state, instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0
LOOK_S = 0.001


def wait_for(holds: Callable[[], object], missed: str) -> None:
    """Waits until `holds` says so; `missed` is what never came."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, missed
        time.sleep(LOOK_S)
