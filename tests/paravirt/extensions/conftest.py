"""Modules compiled once per session, and a place to install plug-ins for the time of a test."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from paravirt.cli.extension import INCLUDES
from tests.support.tree import ROOT

EXAMPLES = ROOT / "docs/examples/extensions"
Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """``compiled(source, wrong=0)``: the shared object of a module."""
    out = tmp_path_factory.mktemp("modules")

    def build(source: Path, wrong: int = 0) -> Path:
        path = out / f"{source.stem}{wrong or ''}.so"
        if not path.exists():
            flags = [f"-I{directory}" for directory in INCLUDES]
            command = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *flags, f"-DWRONG={wrong}"]
            done = subprocess.run([*command, "-o", path, source], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stderr}"
        return path

    return build


@pytest.fixture
def counter(compiled: Compile) -> Path:
    return compiled(EXAMPLES / "counter.c")


@pytest.fixture
def faulty(compiled: Compile) -> Path:
    return compiled(Path(__file__).with_name("faulty.c"))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """``install(name, class, source)``: a distribution of one file with an entry point."""

    def make(name: str, kind: str, source: str) -> None:
        place = tmp_path / f"installed-{name}"
        metadata = place / f"{name}-1.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text(f"[paravirt.extensions]\n{name} = {name}_plugin:{kind}\n")
        (place / f"{name}_plugin.py").write_text(source)
        monkeypatch.syspath_prepend(place)

    return make
