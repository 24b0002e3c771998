"""The smallest guest, from the command line: what must work on every kind of KVM."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.tree import ROOT

pytestmark = [pytest.mark.kvm, pytest.mark.nested]


@pytest.mark.parametrize("privilege", ["user", "supervisor"])
def test_hello(privilege: str) -> None:
    command = [sys.executable, "-m", "paravirt", "run", "hello", "--privilege", privilege, "--timeout", "60"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "hello from a paravirt guest\n"
