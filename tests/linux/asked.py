"""What a guest under test asks its host to do, by a line ``linux: asks WHAT``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MARK = "linux: asks "
QUIET = "the guest was quiet after"
WORD = "word"
_PAUSE = ["pause", "{}", "--timeout", "30"]
WISHES = {
    "pause told": (_PAUSE, ["resume", "{}"]),
    "copy told": (_PAUSE, ["resume", "{}", "--as", "cloned"]),
    "disk comes": (["device", "add", "{}", "--disk", "late={file},ro"],),
    "disk leaves": (["device", "remove", "{}", "late"],),
    "network leaves": (["device", "remove", "{}", "net"],),
}


def serve(line: str, machine: subprocess.Popen[bytes], file: Path | None = None) -> list[str]:
    """Does what `line` asks of the machine of a process, if it asks for something that is here; what that said.

    A disk that comes is `file`; a word that is typed is ``hello``.
    """
    said = []
    wish = line.partition(MARK)[2]
    if wish == WORD and machine.stdin:
        machine.stdin.write(b"hello\n")
    for command in WISHES.get(wish, ()):
        words = [sys.executable, "-m", "paravirt", *(word.format(machine.pid, file=file) for word in command)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said.append(f"{command[0]}: {done.stdout.strip()}{f', status {done.returncode}' if done.returncode else ''}")
        print(f"host   {said[-1]}", flush=True)
    return said
