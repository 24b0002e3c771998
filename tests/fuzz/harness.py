"""Runs a target in Python under atheris: ``python -m tests.fuzz.harness NAME [libFuzzer's arguments]``."""

from __future__ import annotations

import importlib
import sys

import atheris

from . import build


def main() -> None:
    """Instruments what the target names, before it is imported, and fuzzes."""
    name = sys.argv[1]
    with atheris.instrument_imports(include=list(build.instrumented(name))):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    atheris.Setup([name, *sys.argv[2:]], target.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
