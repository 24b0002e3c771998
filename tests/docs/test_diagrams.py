"""Diagrams of the specification: drawn from the text and from the declaration, wrong sources refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from hypercall_abi import RECORDS
from hypercall_abi.schema import Record

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drawing", DOCS / "_extensions" / "drawing.py")
    assert spec and spec.loader
    module = sys.modules["drawing"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_sequence(drawing: ModuleType) -> None:
    svg = drawing.sequence(["Guest, Host", "Guest -> Host: call <1>", "Host --> Guest: OK", "== later", "Guest: rests"])
    assert words(svg) == ["Guest", "Host", "call <1>", "OK", "later", "rests"]
    tips = [polygon.get("points", "").split(",")[0] for polygon in ElementTree.fromstring(svg).iter(f"{SVG}polygon")]
    assert float(tips[0]) > float(tips[1]), "the call points right, the answer left"


@pytest.mark.parametrize("line", ["Guest -> Nobody: call", "Guest => Host: call", "no colon"])
def test_wrong_step(drawing: ModuleType, line: str) -> None:
    with pytest.raises(ValueError, match="is no step between Guest, Host"):
        drawing.sequence(["Guest, Host", line])


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.name_)
def test_layout_names_every_field(drawing: ModuleType, record: Record) -> None:
    shown = words(drawing.layout(record))
    for field in record.fields:
        name = "0" if field.reserved else field.name
        assert any(text.startswith(name) or (text.endswith("…") and name.startswith(text[:-1])) for text in shown), name
