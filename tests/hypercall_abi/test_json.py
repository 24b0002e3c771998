"""The JSON description against its JSON Schema, and the schema against descriptions that are wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hypercall_abi import RECORDS, RULES, SERVICES
from hypercall_abi.emit.json import describe

FOLDER = Path(__file__).parents[2] / "hypercall_abi"
SCHEMA = json.loads((FOLDER / "json" / "abi.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", [FOLDER / "json/abi.json", *sorted((FOLDER / "released").glob("*.json"))], ids=str)
def test_descriptions_are_valid(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(json.loads(path.read_text()))] == []


def test_the_description_is_of_all() -> None:
    abi = json.loads((FOLDER / "json/abi.json").read_text())
    assert [s["name"] for s in abi["services"]] == list(SERVICES)
    assert [r["name"] for r in abi["records"]] == list(RECORDS)
    assert [r["id"] for r in abi["rules"]] == list(RULES)


def _few(part: Any) -> Any:
    """`part` with the first object alone of every list of them: it has as many keys, and is soon validated."""
    if isinstance(part, list):
        return [_few(item) for item in (part[:1] if part and isinstance(part[0], dict) else part)]
    return {key: _few(value) for key, value in part.items()} if isinstance(part, dict) else part


def test_every_key_is_demanded() -> None:
    """Each key taken away, wherever, is missed, and one too many is noticed."""

    def demand(part: Any, change: Callable[[], list[Any]]) -> None:
        if isinstance(part, list):
            for item in part[:1]:
                demand(item, change)
        elif isinstance(part, dict):
            for key in [k for k in part if k != "no_case"]:
                value = part.pop(key)
                assert change(), f"{key} may be missing"
                part[key] = value
                demand(value, change)
            part["surplus"] = 1
            assert change()
            del part["surplus"]

    abi = _few(describe())
    assert not list(VALIDATOR.iter_errors(abi))
    demand(abi, lambda: list(VALIDATOR.iter_errors(abi)))
    assert not list(VALIDATOR.iter_errors(abi))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("version",), [1]),
        (("digest",), "0" * 63),
        (("services", 0, "number"), 0),
        (("services", 0, "calls", 0, "name"), "version"),
        (("services", 0, "calls", 0, "roads"), []),
        (("services", 0, "calls", 0, "statuses"), ["ok"]),
        (("records", 0, "bytes"), 0),
        (("records", 0, "fields", 0, "c"), "size_t"),
        (("records", 0, "fields", 0, "offset"), -1),
        (("limits", 0, "number"), "6"),
        (("rules", 0, "binds"), "nobody"),
    ],
)
def test_what_is_wrong_is_refused(place: tuple[str | int, ...], value: object) -> None:
    abi: Any = copy.deepcopy(describe())
    part = abi
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    assert list(VALIDATOR.iter_errors(abi))
