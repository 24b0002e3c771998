"""A statement of virtio's that the table says is shown by a test: whoever skips that test is told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.tree import ROOT

TEST = "tests/paravirt/devices/test_net_tap.py::test_a_header_length_is_a_hint"
STATEMENT = "VIRTIO-5.1.6.2.2-3"
WITHOUT = ["setpriv", "--bounding-set=-sys_admin"] if os.geteuid() == 0 else []


@pytest.mark.parametrize("rights, status, says", [("0", 0, "NOT SHOWN HERE"), ("1", 1, "skipped although")])
def test_a_skip_is_seen(rights: str, status: int, says: str) -> None:
    """In red; where the machine is said to have the rights it fails."""
    command = [*WITHOUT, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST]
    environment = {**os.environ, "PARAVIRT_RIGHTS": rights}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == status, done.stdout + done.stderr
    assert says in done.stdout
    assert STATEMENT in done.stdout or rights == "1"
