"""``paravirt build``: one C file becomes a guest, with the drivers and the runtime that come with the package.

Flags, link script and library are guest_drivers/Makefile's; a guest that outgrows one file is built by its own.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..errors import BuildFailed, ConfigError, OutputError
from .common import add_command

DRIVERS = Path(__file__).resolve().parents[2] / "guest_drivers"
PLAIN = re.compile(r"[\w./+~-]+", re.ASCII)  # what make takes for one word

# What the compiler or the linker says → what that means for one who is used to programs with a libc.
HINTS = (
    (r"undefined reference to `pv_main'", "a guest begins at int pv_main(void)"),
    (r"SSE register|SSE disabled|`__\w+[sdx]f\d?'", "guests have no floating point; use integers"),
    (
        r"(undefined reference to|declar\w+ (library )?(of )?function) [`'‘](?!pv_)",
        "a guest has no libc; see paravirt/guest.h: pv_print, pv_take",
    ),
    (r"relocation truncated", "the image is too large; take large memory at run time by pv_take"),
)

EPILOG = """\
examples:
  paravirt build first.c
  paravirt build src/first.c --out images/first.elf
  CC=clang paravirt build first.c
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "build", "build a guest from a C file", EPILOG)
    parser.add_argument("source", type=Path, metavar="FILE", help="C source; it includes paravirt/guest.h")
    parser.add_argument("--out", type=Path, metavar="PATH", help="the image (FILE with .elf, in this directory)")


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ConfigError, BuildFailed, OutputError."""
    source = _source(args.source)
    compiler = os.environ.get("CC", "")
    for tool in ("make", compiler.partition(" ")[0] or "gcc"):
        if not shutil.which(tool):
            raise ConfigError(f"there is no {tool}; install make and gcc (or clang, with CC=clang)")
    with tempfile.TemporaryDirectory(prefix="paravirt-build-") as work:
        command = ["make", "-s", f"-j{os.cpu_count()}", "-C", str(DRIVERS), f"GUEST={source}", f"OUT={work}"]
        command += [f"CC={compiler}"] if compiler else []
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        words = "".join(_words(done.stderr.decode(errors="replace")))
        sys.stderr.write(words)
        if done.returncode:
            hint = explain(words)
            raise BuildFailed(f"{args.source} was not built; the compiler's words are above{hint and f': {hint}'}")
        image = args.out or Path(f"{source.stem}.elf")
        try:
            shutil.copyfile(Path(work, f"{source.stem}.elf"), image)
        except OSError as error:
            raise OutputError(f"cannot write {image}: {error.strerror}; give another --out") from error
    return 0


def _source(given: Path) -> Path:
    """The C file `given`, as make can take it.  Raises ConfigError."""
    source = given.resolve()
    if not source.exists():
        raise ConfigError(f"there is no file {given}; give a C file")
    if not source.is_file() or source.suffix != ".c":
        raise ConfigError(f"{given} is not a C file; give one whose name ends in .c")
    if not PLAIN.fullmatch(str(source)):
        raise ConfigError(f"make cannot take {source}; use a path of letters, digits and . _ - + ~ only")
    return source


def _words(said: str) -> list[str]:
    """The lines of `said` that are the compiler's and the linker's, not make's own."""
    return [line for line in said.splitlines(keepends=True) if not line.startswith("make")]


def explain(words: str) -> str:
    """What the first of the HINTS that `words` calls for says, or nothing."""
    return next((hint for pattern, hint in HINTS if re.search(pattern, words)), "")
