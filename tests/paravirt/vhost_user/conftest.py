"""A fake guest with a disk that a peer serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.served_disk import Served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as kept:
        yield Served(tmp_path, kept)
