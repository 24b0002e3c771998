"""The pages for vendors: what they compile compiles, from the files and with the flags that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import carry_out, environment
from tests.support.tree import ROOT


@pytest.mark.parametrize("page", ["host-vendor.md", "guest-vendor.md"])
def test_howto(page: str, tmp_path: Path) -> None:
    directory = tmp_path / "vendor"
    directory.mkdir()
    env = environment(tmp_path) | {"PARAVIRT": str(ROOT)}
    assert carry_out(ROOT / "docs/howto" / page, directory, env) == 2
