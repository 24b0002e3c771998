"""Writes wrong hosts into a copy of the sources: one build has them all, each asleep until it is named.

A mutant is a text of a file and the text that takes its place.  The copy has both, and chooses by the
environment variable PARAVIRT_MUTANT: so one build serves every mutant, and the product's sources know
nothing of it.  A text that does not stand in its file exactly once is an error that names the mutant.

What is replaced is an expression or whole statements, in C up to ``;`` or ``}``, in Python whole lines.
Texts match whatever their white space.  Places may be equal or lie one inside the other, not cross.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.tree import ROOT, tree

VARIABLE = "PARAVIRT_MUTANT"
PLACE = ROOT / "build" / "mutants"
# _GNU_SOURCE as the files that want it have it, who say it too late behind another header.
HEAD = "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <unistd.h>\nextern int pv_mutant;\n#line 1\n"
PACKAGES = ("paravirt", "hypercall_abi")


class PlantError(ValueError):
    """A mutant does not fit the sources."""


class Mutant(NamedTuple):
    """A host that breaks `rule` and nothing else: in `file`, `old` is replaced by `new`."""

    id: str
    rule: str
    file: str
    old: str
    new: str


class _Spot(NamedTuple):
    """Where a mutant's text stands; several may share it."""

    start: int
    end: int
    mutants: tuple[Mutant, ...]


def _find(text: str, mutant: Mutant) -> tuple[int, int]:
    found = list(re.finditer(r"\s+".join(map(re.escape, mutant.old.split())), text))
    if len(found) != 1:
        raise PlantError(f"{mutant.id}: {mutant.old!r} stands {len(found)} times in {mutant.file}, not once")
    return found[0].span()


def _spots(text: str, mutants: Sequence[Mutant]) -> list[_Spot]:
    places: dict[tuple[int, int], list[Mutant]] = {}
    misfits = []
    for mutant in mutants:
        try:
            places.setdefault(_find(text, mutant), []).append(mutant)
        except PlantError as error:
            misfits.append(str(error))
    if misfits:
        raise PlantError("\n".join(misfits))
    return [_Spot(*place, tuple(same)) for place, same in sorted(places.items(), key=lambda p: (p[0][0], -p[0][1]))]


def planted(text: str, mutants: Sequence[Mutant], numbers: dict[str, int]) -> str:
    """`text`, a file's, with `mutants` in it; `numbers` says which is which in C."""
    return _write(text, 0, len(text), _spots(text, mutants), numbers)


def _write(text: str, start: int, end: int, spots: Sequence[_Spot], numbers: dict[str, int]) -> str:
    """The part from `start` to `end`, with the spots inside of it."""
    parts, at, left = [], start, list(spots)
    while left:
        spot = left.pop(0)
        inner = [s for s in left if s.start < spot.end]
        if any(s.end > spot.end for s in inner):
            raise PlantError(f"{spot.mutants[0].id} and {inner[-1].mutants[0].id}: their texts cross")
        left = left[len(inner) :]
        original = _write(text, spot.start, spot.end, inner, numbers)
        parts += [text[at : spot.start], _choice(text, spot, original, numbers)]
        at = spot.end
    return "".join([*parts, text[at:end]])


def _choice(text: str, spot: _Spot, original: str, numbers: dict[str, int]) -> str:
    """`original`, or what a mutant puts in its place."""
    for mutant in spot.mutants:
        if mutant.file.endswith(".py"):
            original = _python(text, spot, mutant, original)
        elif mutant.old.rstrip().endswith((";", "}")):
            original = f"{{ if (pv_mutant == {numbers[mutant.id]}) {{ {mutant.new} }} else {{ {original} }} }}"
        else:
            original = f"(pv_mutant == {numbers[mutant.id]} ? ({mutant.new}) : ({original}))"
    return original


def _python(text: str, spot: _Spot, mutant: Mutant, original: str) -> str:
    awake = f'__import__("os").environ.get("{VARIABLE}") == "{mutant.id}"'
    line = text.rfind("\n", 0, spot.start) + 1
    indent = text[line : spot.start]
    if indent.strip() or not text.startswith("\n", spot.end):
        return f"({mutant.new} if {awake} else {original})"
    deeper = [indent + "    " + part for part in mutant.new.splitlines()]
    kept = ["    " + part if part.strip() else part for part in (indent + original).splitlines()]
    return "\n".join([f"if {awake}:", *deeper, f"{indent}else:", *kept])


def _chooser(mutants: Sequence[Mutant]) -> str:
    """The C file that says which mutant is awake."""
    names = "".join(f'\t"{mutant.id}",\n' for mutant in mutants)
    return (
        "#include <stdlib.h>\n#include <string.h>\n\nint pv_mutant;\n\n"
        f"static const char *const names[] = {{\n{names}}};\n\n"
        "__attribute__((constructor)) static void choose(void)\n{\n"
        f'\tconst char *name = getenv("{VARIABLE}");\n\n'
        "\tfor (int i = 0; name && i < (int)(sizeof(names) / sizeof(names[0])); i++)\n"
        "\t\tif (!strcmp(name, names[i]))\n\t\t\tpv_mutant = i + 1;\n}\n"
    )


def sources(mutants: Sequence[Mutant]) -> dict[str, bytes]:
    """Every file of the packages as it is to be built, by its name in the tree.  Raises PlantError."""
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in tree(*PACKAGES)}
    numbers = {mutant.id: number for number, mutant in enumerate(mutants, 1)}
    if len(numbers) != len(mutants):
        raise PlantError("two mutants have the same id")
    for name in sorted({mutant.file for mutant in mutants}):
        if name not in files:
            raise PlantError(f"there is no file {name}, which a mutant changes")
        text = planted(files[name].decode(), [m for m in mutants if m.file == name], numbers)
        files[name] = (text if name.endswith(".py") else HEAD + text).encode()
    files["paravirt/native/mutant.c"] = _chooser(mutants).encode()
    return files


def build(mutants: Sequence[Mutant], place: Path = PLACE) -> Path:
    """Brings the copy in `place` up to date and builds it; the directory to import it from."""
    wanted = sources(mutants)
    copy = place / "tree"
    copy.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in [p for package in PACKAGES for p in (copy / package).rglob("*")]:
            kept = path.is_dir() or path.suffix in (".so", ".pyc") or path.relative_to(copy).as_posix() in wanted
            if not kept:
                path.unlink()
        for name, data in wanted.items():
            path = copy / name
            if not path.exists() or path.read_bytes() != data:  # what is as it was is not compiled again
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        shutil.rmtree(copy / "paravirt" / "guests", ignore_errors=True)
        command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['paravirt/native']; {_BUILD}"]
        done = subprocess.run(command, cwd=copy, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise PlantError(f"the mutants do not compile:\n{done.stdout[-4000:]}")
    return copy


# Not by its command line, which makes warnings errors: a mutant may leave something unused.
_BUILD = (
    "import sysconfig, pathlib, build; "
    "build.build(build.NATIVE.parent / ('_native' + sysconfig.get_config_var('EXT_SUFFIX')), build.ROOT / 'build')"
)
