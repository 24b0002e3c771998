"""Asking machines that run: finding them and putting a request to one (``server.py`` answers)."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ConfigError, HostCallFailed, ParavirtError, all_errors
from . import ANSWER_MOST_BYTES, SUFFIX, Request, check_place, place

READ_S = 2.0
ACT_S = 60.0  # of what may open files and reach other programs
UUID_LEAST = 4  # digits that tell a machine
Snapshot = dict[str, Any]
"""What a machine says of itself: name, uuid, pid, accelerator, memory_bytes, paused, statistics."""


def ask(path: Path, request: Request, timeout_s: float = ACT_S) -> Any:
    """What the machine at `path` answers.  Raises OSError if it cannot be reached, and what it raised itself."""
    said = b""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(timeout_s)
        asking.connect(str(path))
        asking.sendall(json.dumps(request).encode() + b"\n")
        while (part := asking.recv(1 << 16)) and len(said) < ANSWER_MOST_BYTES:
            said += part
    try:
        answer = json.loads(said)
    except ValueError as error:
        raise HostCallFailed("the machine ended before it answered") from error
    if "error" in answer:
        raise _error(answer["error"])
    return answer["answer"]


def _process(path: Path) -> str:
    """Whose socket it is, as the machine calls it."""
    return path.name.partition("-")[0]


def _error(told: dict[str, str]) -> ParavirtError:
    """As the machine raised it; the text has the rule's id already."""
    kinds = {kind.__name__: kind for kind in all_errors()}
    return kinds.get(told["type"], ParavirtError)(told["text"])


def machines(directory: Path | None = None) -> list[tuple[Path, Snapshot]]:
    """Every machine that answers, by name and process.  What a killed process left behind is removed.

    Raises HostCallFailed if `directory` is not this user's alone.
    """
    found, directory = [], directory or place()
    try:
        check_place(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostCallFailed(
            f"cannot look for machines: {error.strerror or error}; remove it, or set XDG_RUNTIME_DIR to a directory "
            "of yours"
        ) from error
    for path in sorted(each for each in directory.glob(f"*{SUFFIX}") if each.is_socket()):
        try:
            snapshot = ask(path, {"verb": "statistics"}, READ_S)
            # Else it is no machine of any version.
            if isinstance(snapshot, dict) and {"name", "pid", "uuid"} <= snapshot.keys():
                found.append((path, snapshot))
        except ConnectionRefusedError:
            with suppress(OSError):
                path.unlink()
        except (OSError, ParavirtError):  # gone meanwhile, too slow, or just ending
            continue
    return sorted(found, key=lambda each: (each[1]["name"], each[1]["pid"], each[1]["uuid"]))


class Remote:
    """A machine that runs, found by its name, its process or the beginning of its UUID.  Raises ConfigError."""

    def __init__(self, which: str) -> None:
        there, digits = machines(), which.replace("-", "").lower()
        found = [each for each in there if which in (each[1]["name"], str(each[1]["pid"]))] or [
            each for each in there if len(digits) >= UUID_LEAST and each[1]["uuid"].startswith(digits)
        ]
        if not found:
            known = ", ".join(sorted({each[1]["name"] for each in there})) or "none"
            busy = sorted({*place().glob(f"*{SUFFIX}")} - {path for path, _ in there})
            more = (
                f"; too busy to answer: process {', '.join(_process(path) for path in busy)}, ask again" if busy else ""
            )
            raise ConfigError(f"no machine {which!r} of this user's runs, there is {known}{more}; see paravirt top")
        if len(found) > 1:
            told = ", ".join(f"{each['uuid'][:8]} (process {each['pid']})" for _, each in found)
            raise ConfigError(f"{len(found)} machines are {which!r}; name one by the beginning of its UUID: {told}")
        self._path, snapshot = found[0]
        self.name: str = snapshot["name"]

    def ask(self, verb: str, **arguments: object) -> Any:
        """What it answers.  Raises HostCallFailed if it does not, and what it raised itself."""
        try:
            return ask(self._path, {"verb": verb, **arguments})
        except OSError as error:
            raise HostCallFailed(
                f"the machine {self.name!r} does not answer: {error}; see paravirt top whether it runs"
            ) from error
