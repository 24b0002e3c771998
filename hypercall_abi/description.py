"""Reading a JSON description of a version of the ABI, as it came from anywhere.

What it must look like is said once, in ``json/abi.schema.json``; here is as much of JSON Schema as that
file uses.  Keys that are not known are let through: a later version may have them.  A key that comes
after a version was released is not required there, or that version could not be read any more.
Comparing two descriptions is the business of :mod:`hypercall_abi.diff`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

MOST_BYTES = 16 << 20

Description = dict[str, Any]


class DescriptionError(ValueError):
    """A file is no description of the ABI; the text names the file and the place in it."""


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


@cache
def _schema() -> dict[str, Any]:
    text = (Path(__file__).parent / "json" / "abi.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _is(value: object, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _scalar(value: Any, schema: dict[str, Any]) -> str | None:
    """What is wrong with a value itself, its parts left aside."""
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(_is(value, name) for name in types):
        return f"is not of type {' or '.join(types)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"is none of {', '.join(map(str, schema['enum']))}"
    if "const" in schema and value != schema["const"]:
        return f"is not {schema['const']}"
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return f"{value} is out of range"
    if isinstance(value, str) and (len(value) < schema.get("minLength", 0) or not _matches(value, schema)):
        return "is not the text that stands here"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"has {len(value)} entries"
        if schema.get("uniqueItems") and len({str(item) for item in value}) != len(value):
            return "has an entry twice"
    return None


def _matches(value: str, schema: dict[str, Any]) -> bool:
    return "pattern" not in schema or bool(re.search(schema["pattern"], value)) and "\n" not in value


def errors(value: Any, schema: dict[str, Any] | None = None, place: str = "") -> Iterator[str]:
    """What is wrong with `value`, each with its place."""
    schema = _schema() if schema is None else schema
    if "$ref" in schema:
        schema = _schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")] | schema
    here = place or "the whole"
    if wrong := _scalar(value, schema):
        yield f"{here} {wrong}"
        return
    if "oneOf" in schema and all(any(errors(value, branch)) for branch in schema["oneOf"]):
        yield f"{here} is of no form that may stand here"
    if isinstance(value, dict):
        yield from (f"{here} has no {key}" for key in schema.get("required", ()) if key not in value)
        for key, inner in schema.get("properties", {}).items():
            if key in value:
                yield from errors(value[key], inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        first = schema.get("prefixItems", ())
        for i, item in enumerate(value):
            inner = first[i] if i < len(first) else schema.get("items", {})
            yield from errors(item, inner, f"{place}[{i}]")
        yield from _twice(value, here)


def _twice(items: list[Any], place: str) -> Iterator[str]:
    """Things are told apart by what they are called."""
    seen: set[tuple[str, ...]] = set()
    for item in items:
        if not isinstance(item, dict) or "x86-64" in item or item.get("kind") in ("value", "buffer"):
            return
        name = identity(item)
        if name in seen:
            yield f"{place} has {' '.join(name)} twice"
        seen.add(name)


def identity(thing: dict[str, Any]) -> tuple[str, ...]:
    """By what a service, call, record, field, constant, limit, rule or trap binding is known."""
    if "architecture" in thing:
        return str(thing.get("kind")), str(thing["architecture"])
    return (str(thing.get("name", thing.get("id"))),)


def _numbered_twice(abi: Description) -> Iterator[str]:
    calls = [call for service in abi["services"] for call in service["calls"]]
    for things, key in ((abi["services"], "number"), (calls, "id"), (abi["limits"], "id")):
        seen: dict[int, str] = {}
        for thing in things:
            if other := seen.get(thing[key]):
                yield f"{other} and {thing['name']} have one {key}, {thing[key]}"
            seen[thing[key]] = thing["name"]


def check(value: Any, source: str) -> Description:
    """`value` if it is a description.  Raises DescriptionError, which names `source`."""
    wrong = next(errors(value), None) or next(_numbered_twice(value), None)
    if wrong:
        raise DescriptionError(f"{source}: not a description of the ABI: {wrong}")
    description: Description = value
    return description


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def load(path: str | Path) -> Description:
    """The description in the file `path`.  Raises DescriptionError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DescriptionError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MOST_BYTES:
        raise DescriptionError(f"{path}: larger than {MOST_BYTES >> 20} MiB, no description of the ABI is")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise DescriptionError(f"{path}: not JSON: {error}; give what paravirt abi --json prints") from error
    return check(value, str(path))
