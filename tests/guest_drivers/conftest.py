"""The guests, built once by each compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.tree import ROOT


@dataclass(frozen=True)
class Build:
    """What one compiler made, and what it said."""

    cc: str
    directory: Path
    said: str

    def __getitem__(self, name: str) -> Path:
        return self.directory / f"{name}.elf"

    @property
    def images(self) -> list[Path]:
        return sorted(self.directory.glob("*.elf"))


def _build(cc: str, out: Path) -> Build:
    command = ["make", "-s", f"-j{os.cpu_count()}", "-C", str(ROOT / "guest_drivers"), f"CC={cc}", f"OUT={out}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return Build(cc, out, done.stderr)


@pytest.fixture(scope="session", params=["gcc", "clang"])
def cc(request: pytest.FixtureRequest) -> str:
    """Each compiler."""
    name: str = request.param
    if not shutil.which(name):
        pytest.fail(f"{name} is not installed")
    return name


@pytest.fixture(scope="session")
def build(cc: str, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The guests as each compiler makes them."""
    return _build(cc, tmp_path_factory.mktemp(cc))


@pytest.fixture(scope="session")
def gcc_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The guests by one compiler, where the other would show nothing new."""
    return _build("gcc", tmp_path_factory.mktemp("one"))
