"""Test vectors: for every record bytes typed by hand, field by field, with their values.

They are data of the standard, for any implementation to check its own layout against; the files
beside this one are meant to be read by people and by a few lines of any language, those below
``generated/`` by programs.  This is the Python reader.  What a line may hold is said in
``docs/abi/vectors.md``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_RECORD = re.compile(r"(record|refused) (\w+): (.+)")
_LINE = re.compile(r"([0-9a-f]+) +((?:[0-9a-f]{2}(?:\*\d+)? )+) *(\w+)(?:\[(\d+)\])? += (.+)")


class VectorError(ValueError):
    """A vector file has a line that cannot be read, or whose offset is not where it stands."""


@dataclass
class Vector:
    """One record in bytes and in values (by field name, arrays as lists; padding as its bytes).

    One that is `refused` has padding that is not zero (CALL-14).
    """

    record: str
    title: str
    refused: bool = False
    data: bytes = b""
    values: dict[str, Any] = field(default_factory=dict)


def _bytes(tokens: str) -> bytes:
    parts = (token.partition("*") for token in tokens.split())
    return b"".join(bytes.fromhex(byte) * int(count or 1) for byte, _, count in parts)


def _value(word: str, data: bytes) -> int | str | bytes:
    if word.startswith('"'):
        return str(json.loads(word))
    if word.startswith("hex:"):
        return bytes.fromhex(word[4:])
    return bytes(len(data)) if word == "zero" else int(word, 0)


def parse(text: str) -> Iterator[Vector]:
    """The vectors in the text of a file; :class:`VectorError` names the line that is wrong."""
    vector: Vector | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if head := _RECORD.fullmatch(line):
            if vector:
                yield vector
            vector = Vector(head[2], head[3], head[1] == "refused")
            continue
        match = _LINE.fullmatch(line)
        if not match or not vector or int(match[1], 16) != len(vector.data):
            raise VectorError(f"line {number}: {line!r}")
        data = _bytes(match[2])
        vector.data += data
        value = _value(match[5], data)
        if match[4] is None:
            vector.values[match[3]] = value
        else:
            vector.values.setdefault(match[3], []).append(value)
    if vector:
        yield vector


def _load(folder: Path) -> list[Vector]:
    return [vector for path in sorted(folder.glob("*.txt")) for vector in parse(path.read_text(encoding="utf-8"))]


def load() -> list[Vector]:
    """Every vector that was typed by hand, file by file."""
    return _load(Path(__file__).parent)


def load_generated() -> list[Vector]:
    """The generated boundary cases, file by file."""
    return _load(Path(__file__).parent / "generated")
