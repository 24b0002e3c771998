"""What several commands share: parsers, tables, JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from errno import EACCES, EISDIR
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from ..config import ACCELERATORS
from ..errors import ConfigError, OutputError
from . import HelpFormatter

if TYPE_CHECKING:
    from ..machine import Machine

WORTH_TELLING_BYTES = 1 << 30


def add_command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, epilog: str
) -> argparse.ArgumentParser:
    """The parser of a command; `summary` is its line in the list of commands, `epilog` holds the examples."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


Parsed = TypeVar("Parsed")


def given(option: str, parse: Callable[[str], Parsed], text: str) -> Parsed:
    """What `parse` makes of what was given with `option`, which a ConfigError names."""
    try:
        return parse(text)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from error


def given_each(option: str, parse: Callable[[str], Parsed], texts: Iterable[str]) -> tuple[Parsed, ...]:
    """The same of an option that may be repeated."""
    return tuple(given(option, parse, text) for text in texts)


def add_accelerator(parser: argparse.ArgumentParser) -> None:
    """The option ``--accel``."""
    parser.add_argument(
        "--accel",
        choices=ACCELERATORS,
        default="auto",
        help="what runs the vCPUs: KVM, or a CPU in software; auto is KVM where there is one (auto)",
    )


def tell_accelerator(machine: Machine) -> None:
    """Says so if the guest runs on another accelerator than was to be expected: it is much slower."""
    if machine.accelerator.instead_of:
        with suppress(OSError):  # nobody may be left to tell
            print(
                f"paravirt: NO KVM: {machine.accelerator.instead_of}; THE GUEST RUNS ON THE SOFTWARE vCPU, "
                "which is slow (--accel kvm refuses that)",
                file=sys.stderr,
            )


def populated(done_bytes: int, of_bytes: int) -> None:
    """Says how far the backing of guest memory is, to a terminal and where it takes a while."""
    if of_bytes < WORTH_TELLING_BYTES or not sys.stderr.isatty():
        return
    end = "\n" if done_bytes == of_bytes else "\r"
    with suppress(OSError):  # nobody may be left to tell
        print(f"paravirt: {done_bytes >> 20}M of {of_bytes >> 20}M backed", end=end, file=sys.stderr, flush=True)


def check_output(path: Path | None, option: str) -> None:
    """Says before minutes of work that `path`, which `option` named, cannot be written.  Raises OutputError."""
    if path is None:
        return
    try:
        new = not path.exists()
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        os.stat(f"{path.parent}/")  # raises what is wrong with it
        if not os.access(path.parent if new else path, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"cannot write {path}: {why}; give another {option}") from error


def table(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """`rows` as text in aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(indent + line.rstrip() for line in lines)


def show(text: str, stream: TextIO | None = None) -> None:
    """Prints `text`.  Raises OutputError if it cannot be, BrokenPipeError if nobody reads it any more."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "error" if stream is sys.stderr else "output"
        raise OutputError(f"cannot write to standard {name}: {error.strerror}; make room or redirect it") from error


def print_json(value: object) -> None:
    """One JSON object on standard output.  Raises as `show` does."""
    import json

    show(json.dumps(value, indent=2))
