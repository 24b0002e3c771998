"""What a guest says, for tests that wait for a word of it, and its TAP."""

from __future__ import annotations

import threading

PATIENCE_S = 60.0


class Told:
    """A console that can be waited on for a line."""

    def __init__(self) -> None:
        self.text = bytearray()
        self._came = threading.Condition()

    def __call__(self, data: bytes) -> None:
        with self._came:
            self.text.extend(data)
            self._came.notify_all()

    def wait(self, word: bytes) -> None:
        with self._came:
            assert self._came.wait_for(lambda: word in self.text, PATIENCE_S), self.text.decode()


def check_tap(told: Told, least: int) -> None:
    lines = told.text.decode().splitlines()
    assert [line for line in lines if line.startswith("not ok")] == []
    assert sum(line.startswith("ok") for line in lines) >= least
    assert any(line.startswith("1..") for line in lines)
