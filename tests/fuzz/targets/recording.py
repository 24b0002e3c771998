"""Recordings of calls: whatever the file, it is a recording, or RecordingError says in a line why not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import cast

from paravirt.errors import RecordingError
from paravirt.recording.convert import convert
from paravirt.recording.reader import read

INSTRUMENT = ("paravirt.recording",)


class InMemory:
    """What the reader needs of a path, for a file that holds `data`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def open(self, _mode: str) -> io.BytesIO:
        """The file."""
        return io.BytesIO(self._data)


def one(data: bytes) -> None:
    """Reads `data` as a recording, every call of it, and makes of each life what a guest replays."""
    try:
        for life in read(cast(Path, InMemory(data))):
            for call in life.calls:
                assert 0 <= call.vcpu < life.vcpus and call.name
                assert all(len(b.data) <= b.length_bytes for b in call.buffers)
            convert(life).build()
    except RecordingError as error:
        assert "\n" not in str(error), "a mistake is one line"
