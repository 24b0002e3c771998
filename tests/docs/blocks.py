"""The examples of a Markdown page: its files, its sessions, its programs, and carrying them out.

A fence ```` ```c first.c ```` is the file ``first.c``; a fence ```` ```console ```` is a session, where a line
that begins with ``$ `` is a command for bash and the lines after it are all that it prints.  In those, ``...``
stands for any text within a line, and alone on a line for any number of lines.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.tree import ROOT

FENCE = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
LIMIT_S = 60


@dataclass(frozen=True)
class Block:
    """One fenced block; `kind` is the first word after the fence, `name` the second."""

    line: int
    kind: str
    name: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of `page` in order."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        kind, _, name = match[2].strip().partition(" ")
        found.append(Block(text.count("\n", 0, match.start()) + 1, kind, name, match[3]))
    return found


def session(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a session, each with what it is to print."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, expected = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*\n)(.*)", part, re.DOTALL).groups()  # type: ignore[union-attr]
        yield command.strip(), expected


def matches(expected: str, printed: str) -> bool:
    """Whether `printed` is what `expected` stands for."""
    lines = (
        "(?:.*\n)*" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + "\n"
        for line in expected.splitlines()
    )
    return (
        re.fullmatch("".join(lines), printed if printed.endswith("\n") or not printed else f"{printed}\n") is not None
    )


def environment(work: Path) -> dict[str, str]:
    """An environment whose command ``paravirt`` is this tree's."""
    commands = work / "bin"
    commands.mkdir()
    (commands / "paravirt").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m paravirt "$@"\n')
    (commands / "paravirt").chmod(0o755)
    path = os.pathsep.join([str(commands), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}


def carry_out(page: Path, directory: Path, env: dict[str, str]) -> int:
    """Makes the files and holds the sessions of `page` in `directory`; how many commands.  Raises AssertionError."""
    count = 0
    for block in blocks(page):
        if block.name:
            (directory / block.name).write_text(block.text)
        if block.kind != "console":
            continue
        for command, expected in session(block):
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_S,
            )
            printed = done.stdout.decode()
            place = f"{page.name}:{block.line}: $ {command}"
            assert matches(expected, printed), f"{place}\n--- the page says\n{expected}--- it prints\n{printed}"
            count += 1
    return count
