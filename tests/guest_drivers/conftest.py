"""The guests, built once by each compiler."""

from __future__ import annotations

import fcntl
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


def _build(cc: str, factory: pytest.TempPathFactory) -> Build:
    """What `cc` makes, in a directory that all processes of this test run share: one builds, the others wait."""
    place = factory.getbasetemp()
    place = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / f"guests-{cc}"
    place.mkdir(exist_ok=True)
    said = place / "said"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            command = ["make", "-s", f"-j{os.cpu_count()}", "-C", str(ROOT / "guest_drivers"), f"CC={cc}"]
            done = subprocess.run([*command, f"OUT={place}"], capture_output=True, text=True, timeout=100)
            assert done.returncode == 0, done.stderr
            said.write_text(done.stderr)
    return Build(cc, place, said.read_text())


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
    return _build(cc, tmp_path_factory)


@pytest.fixture(scope="session")
def gcc_build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The guests by one compiler, where the other would show nothing new."""
    return _build("gcc", tmp_path_factory)
