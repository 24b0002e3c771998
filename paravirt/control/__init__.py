"""How programs of the same user talk to machines that run: a UNIX socket for each, in a directory of the user's.

``server.py`` is the machine's side, ``verbs.py`` what can be asked of it, ``client.py`` the side of who asks.
Here is what both know: where the sockets are, and what goes over them.  A request is one line of JSON, an object
with ``verb`` and what that takes; the answer is an object with ``answer`` or ``error``, and the end.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

SUFFIX = ".sock"
REQUEST_MOST_BYTES = 65536
ANSWER_MOST_BYTES = 4 << 20
Request = dict[str, Any]


def place() -> Path:
    """Where this user's machines have their sockets; it may not be there."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "paravirt"
    import tempfile  # costs the start of every machine otherwise

    return Path(tempfile.gettempdir()) / f"paravirt-{os.getuid()}"


def check_place(directory: Path) -> None:
    """Raises OSError if it is not there, or not a directory of this user's alone: what is in it would be anybody's."""
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{directory} is not this user's alone")
