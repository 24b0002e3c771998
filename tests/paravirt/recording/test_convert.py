"""What the fuzzers found in the conversion of recordings for replay: each is one clear line now."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypercall_abi import SERVICES
from paravirt.errors import RecordingError
from paravirt.recording.convert import convert
from paravirt.recording.reader import Buffer, read

GOLDEN = Path(__file__).with_name("golden")


def test_a_buffer_of_a_call_that_has_none() -> None:
    """Found by fuzzing."""
    life = read(GOLDEN / "hello.pcapng")[0]
    version = next(c for c in life.calls)._replace(
        id=SERVICES["base"].id("version"), buffers=(Buffer(3, 2, 4, bytes(4)),)
    )
    with pytest.raises(RecordingError, match="call 1, base.version, has a buffer where it has no such argument"):
        convert(life._replace(calls=[version]))
