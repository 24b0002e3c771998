"""The guests that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from ..errors import ImageUnreadable

GUESTS = Path(__file__).parent.parent / "guests"  # built guests that come with the package


def bundled_guests() -> list[str]:
    """The names of the guests that come with the package."""
    return sorted(path.stem for path in GUESTS.glob("*.elf"))


def find_image(text: str) -> Path:
    """The image meant by `text`: a file, or else the name of a bundled guest.  Raises ImageUnreadable."""
    path = Path(text)
    if "/" in text or path.exists():
        return path
    bundled = GUESTS / f"{text}.elf"
    if text in bundled_guests():
        return bundled
    guests = ", ".join(bundled_guests()) or "none built"
    raise ImageUnreadable(f"there is no image {text!r}, neither a file nor a bundled guest (bundled: {guests})")
