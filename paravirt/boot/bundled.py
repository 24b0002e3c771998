"""The guests that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from ..errors import ImageUnreadable

GUESTS = Path(__file__).parent.parent / "guests"  # built guests that come with the package


JUDGES = ("conformance_", "refused_")  # what the names of conformance images begin with; `paravirt conform` knows them


def bundled_guests() -> list[str]:
    """The names of the guests that come with the package, without those that judge hosts."""
    return sorted(path.stem for path in GUESTS.glob("*.elf") if not path.stem.startswith(JUDGES))


def find_image(text: str) -> Path:
    """The image meant by `text`: a file, or else the name of a bundled guest.  Raises ImageUnreadable."""
    if not text:
        raise ImageUnreadable("the image has no name; give an ELF file or the name of a bundled guest")
    path = Path(text)
    if "/" in text or path.exists():
        return path
    bundled = GUESTS / f"{text}.elf"
    if text in bundled_guests() or (text.startswith(JUDGES) and bundled.exists()):
        return bundled
    from difflib import get_close_matches  # only for those who mistype

    guests = bundled_guests()
    close = get_close_matches(text.removesuffix(".elf"), guests, 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    raise ImageUnreadable(
        f"there is no image {text!r}, neither a file nor a bundled guest{meant} "
        f"(bundled: {', '.join(guests) or 'none built'})"
    )
