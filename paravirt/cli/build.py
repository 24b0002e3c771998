"""``paravirt build``: one C file becomes a guest, with the drivers and the runtime that come with the package.

Flags, link script and library are guest_drivers/Makefile's; a guest that outgrows one file is built by its own.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import ConfigError, OutputError, ParavirtError
from .common import add_command

DRIVERS = Path(__file__).resolve().parents[2] / "guest_drivers"
PLAIN = re.compile(r"[\w./+~-]+", re.ASCII)  # what make takes for one word

EPILOG = """\
examples:
  paravirt build first.c
  paravirt build src/first.c --out images/first.elf
  CC=clang paravirt build first.c
"""


class BuildFailed(ParavirtError):
    """The guest does not compile; the compiler has said why."""

    exit_status = 61


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "build", "build a guest from a C file", EPILOG)
    parser.add_argument("source", type=Path, metavar="FILE", help="C source; it includes paravirt/guest.h")
    parser.add_argument("--out", type=Path, metavar="PATH", help="the image (FILE with .elf, in this directory)")


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ConfigError, BuildFailed, OutputError."""
    source = args.source.resolve()
    if not source.is_file() or source.suffix != ".c":
        raise ConfigError(f"{args.source} is not a C file; give one whose name ends in .c")
    if not PLAIN.fullmatch(str(source)):
        raise ConfigError(f"make cannot take {source}; use a path of letters, digits and . _ - + ~ only")
    if not shutil.which("make"):
        raise ConfigError("there is no make; install make and gcc (or clang, with CC=clang)")
    with tempfile.TemporaryDirectory(prefix="paravirt-build-") as work:
        compiler = [f"CC={os.environ['CC']}"] if os.environ.get("CC") else []
        command = ["make", "-s", f"-j{os.cpu_count()}", "-C", str(DRIVERS), f"GUEST={source}", f"OUT={work}", *compiler]
        done = subprocess.run(command, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise BuildFailed(f"{args.source} was not built; the compiler's words are above")
        image = args.out or Path(f"{source.stem}.elf")
        try:
            shutil.copyfile(Path(work, f"{source.stem}.elf"), image)
        except OSError as error:
            raise OutputError(f"cannot write {image}: {error.strerror}; give another --out") from error
    return 0
