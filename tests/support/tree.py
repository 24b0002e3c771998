"""The files of this tree, as git knows them: what a build leaves behind is not among them."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def tree(*patterns: str) -> list[Path]:
    """The files that match a pattern of git's, or all; those not yet added included, those ignored not."""
    # safe.directory: the clone may belong to another user than the one who tests, as in a container.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run([*command, "--", *patterns], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
