"""What the README shows is what happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, carry_out, environment, matches
from tests.support.tree import ROOT

README = ROOT / "README.md"

pytestmark = pytest.mark.kvm


def test_the_sessions(tmp_path: Path) -> None:
    env = environment(tmp_path)
    (tmp_path / "dev").write_text('#!/bin/sh\nexec paravirt "$@"\n')  # without its preparations
    (tmp_path / "dev").chmod(0o755)
    assert carry_out(README, tmp_path, env) == 5


def test_the_program(tmp_path: Path) -> None:
    found = blocks(README)
    (at,) = (i for i, block in enumerate(found) if block.kind == "python")
    program, shown = found[at], found[at + 1]
    assert shown.kind == "text"
    done = subprocess.run(
        [sys.executable, "-c", program.text], env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert matches(shown.text, done.stdout), done.stdout
