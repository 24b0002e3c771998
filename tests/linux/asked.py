"""What a guest under test asks its host to do, by a line ``linux: asks WHAT``."""

from __future__ import annotations

import subprocess
import sys

MARK = "linux: asks "
QUIET = "the guest was quiet after"
_PAUSE = ["pause", "{}", "--timeout", "30"]
WISHES = {
    "pause told": (_PAUSE, ["resume", "{}"]),
    "copy told": (_PAUSE, ["resume", "{}", "--as", "cloned"]),
}


def serve(line: str, machine: int) -> list[str]:
    """Does what `line` asks of the machine of a process, if it asks for something that is here; what that said."""
    said = []
    for command in WISHES.get(line.partition(MARK)[2], ()):
        words = [sys.executable, "-m", "paravirt", *(word.format(machine) for word in command)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said.append(f"{command[0]}: {done.stdout.strip()}{f', status {done.returncode}' if done.returncode else ''}")
        print(f"host   {said[-1]}", flush=True)
    return said
