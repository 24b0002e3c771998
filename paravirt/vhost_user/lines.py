"""Lines about what is wrong with others, who may have them said all the time: some at once, then now and then."""

from __future__ import annotations

import logging
import time

MOST, PER_S = 20.0, 0.2


class Lines:
    """Says them to whoever runs the program, by `log`."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._left, self._at, self._untold = MOST, time.monotonic(), 0

    def warn(self, text: str) -> None:
        """Says it, or counts it as left out."""
        now = time.monotonic()
        self._left = min(MOST, self._left + (now - self._at) * PER_S)
        self._at = now
        if self._left < 1:
            self._untold += 1
            return
        self._left -= 1
        before = f" ({self._untold} lines before this one were left out)" if self._untold else ""
        self._untold = 0
        self._log.warning("paravirt: %s%s", text, before)
