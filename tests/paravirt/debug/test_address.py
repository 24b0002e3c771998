"""Where a machine listens for a debugger."""

from __future__ import annotations

from pathlib import Path

import pytest

from paravirt.debug.address import GdbConfig, parse_gdb
from paravirt.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (":1234", GdbConfig("127.0.0.1", 1234)),
        ("0.0.0.0:7,go", GdbConfig("0.0.0.0", 7, wait=False)),
        ("[::1]:99", GdbConfig("::1", 99)),
        ("localhost:0", GdbConfig("localhost", 0)),
        ("unix:/run/x y", GdbConfig(path=Path("/run/x y"))),
        ("unix:gdb,go", GdbConfig(path=Path("gdb"), wait=False)),
    ],
)
def test_places(text: str, meant: GdbConfig) -> None:
    assert vars(parse_gdb(text)) == vars(meant)


@pytest.mark.parametrize(
    "text",
    ["", "1234", ":", ":x", ":70000", "::1:99", "unix:", "unix:" + "x" * 200, ":1,stop", ":1,go,go", "a b:1"],
)
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_gdb(text)
