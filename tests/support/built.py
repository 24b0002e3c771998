"""The built guests, and variants of them."""

from __future__ import annotations

from pathlib import Path

GUESTS = Path(__file__).resolve().parents[2] / "paravirt" / "guests"


def without_notes(image: Path, to: Path) -> Path:
    """A copy of `image` whose Paravirt notes are somebody else's: a plain guest, entered by PVH."""
    path = to / f"plain-{image.name}"
    path.write_bytes(image.read_bytes().replace(b"Paravirt\0", b"Nobodyxx\0"))
    return path
