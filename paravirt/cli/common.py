"""What several commands share: finding images, tables, JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..errors import ImageUnreadable, OutputError
from . import HelpFormatter

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


def add_command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, epilog: str
) -> argparse.ArgumentParser:
    """The parser of a command; `summary` is its line in the list of commands, `epilog` holds the examples."""
    return subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=HelpFormatter,
    )


def table(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """`rows` as text in aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(indent + line.rstrip() for line in lines)


def show(text: str) -> None:
    """Prints `text`.  Raises OutputError if it cannot be, BrokenPipeError if nobody reads it any more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}; make room or redirect it") from error


def print_json(value: object) -> None:
    """One JSON object on standard output.  Raises as `show` does."""
    import json

    show(json.dumps(value, indent=2))
