"""Balloons of guests that have no service memory."""

from __future__ import annotations

from typing import ClassVar

from ..config import parse_size
from . import Attachment


class Balloon(Attachment):
    """The balloon device `name`; how much is wanted in it is the machine's `balloon_bytes`."""

    kind: ClassVar[str] = "BALLOON"


def parse_balloon(text: str) -> tuple[tuple[Balloon, ...], int]:
    """``SIZE`` or ``NAME=SIZE``: the device if one is named, and how many bytes are wanted.  Raises ConfigError."""
    name, equals, size = text.rpartition("=")
    return (Balloon(name),) if equals else (), parse_size(size)
