"""The wheel and the source distribution give a working `paravirt` with the guests inside.

Offline: built and installed without build isolation, and the new environment borrows this one's
dependencies, whose names are checked against the metadata.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.tree import ROOT, tree

GUESTS = {"hello", "demo", "conformance_all", "replay"}

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    return done.stdout


def built(kind: str, source: Path, out: Path) -> Path:
    """Has the build backend make a `kind` (wheel or sdist) of the tree `source`."""
    script = f"import setuptools.build_meta as b; print(b.build_{kind}({str(out)!r}))"
    out.mkdir()
    return out / run(sys.executable, "-c", script, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, made from a copy of what git knows, so that nothing built slips in."""
    place = tmp_path_factory.mktemp("sdist")
    for source in tree():
        copy = place / "tree" / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    return built("sdist", place / "tree", place / "out")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source distribution: both are known to be complete."""
    place = tmp_path_factory.mktemp("wheel")
    run("tar", "-xf", sdist, cwd=place)
    (tree,) = place.iterdir()
    return built("wheel", tree, place / "out")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it; its directory bin."""
    place = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=place)
    inside = run(
        place / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place
    ).strip()
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--quiet", "--python", place / "bin/python"]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=place)
    Path(inside, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def test_the_sdist_holds_every_source(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for needed in (
        "hypercall_abi/include/paravirt_abi.h",
        "paravirt/native/host.h",
        "guest_drivers/Makefile",
        "LICENSE",
    ):
        assert needed in names
    assert not [name for name in names if name.endswith((".so", ".o", ".elf"))]


def test_the_wheel_holds_extension_guests_and_what_builds_guests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert [name for name in names if name.startswith("paravirt/_native.") and name.endswith(".so")]
    assert {f"paravirt/guests/{guest}.elf" for guest in GUESTS} <= names
    assert {"hypercall_abi/include/paravirt_abi.h", "guest_drivers/Makefile"} <= names
    assert {"hypercall_abi/rust/paravirt_abi.rs", "guest_drivers/rust/start.rs"} <= names
    assert {"hypercall_abi/json/abi.schema.json", "hypercall_abi/vectors/generated/base.txt"} <= names
    assert {"hypercall_abi/released/1.0.json", "hypercall_abi/wireshark/paravirt.lua"} <= names
    assert {"paravirt/extensions/include/paravirt_module.h", "hypercall_abi/emit/wireshark.lua"} <= names
    assert [name for name in names if name.startswith("paravirt/guests/refused_")]
    assert not [name for name in names if name.startswith("tests/") or name.endswith(".o")]
    assert "paravirt/guests/web.elf" not in names  # others' code is in it


def test_the_command_works(installed: Path, tmp_path: Path) -> None:
    assert "paravirt run" in run(installed / "paravirt", "--help", cwd=tmp_path)
    for guest in sorted(GUESTS):
        assert run(installed / "paravirt", "inspect", guest, cwd=tmp_path)


def test_what_is_installed_is_what_runs(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import paravirt._native as n; print(n.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(installed.parent)


def test_the_metadata_names_the_dependencies(installed: Path, tmp_path: Path) -> None:
    """The software vCPU's engine, which is GPL-2.0, only for those who ask for it."""
    script = "from importlib.metadata import requires; print(*requires('paravirt'), sep='\\n')"
    needed = run(installed / "python", "-c", script, cwd=tmp_path).splitlines()
    always = {line.split(">=")[0] for line in needed if "extra ==" not in line}
    (extra,) = (line for line in needed if "extra ==" in line)
    assert always == {"cffi", "construct", "pyelftools"}
    assert extra.startswith("unicorn") and extra.endswith('extra == "software"')


def test_guests_can_be_built_from_what_is_installed(installed: Path, tmp_path: Path) -> None:
    script = "import paravirt; print(list(paravirt.__path__)[0])"
    drivers = Path(run(installed / "python", "-c", script, cwd=tmp_path).strip()).parent / "guest_drivers"
    run("make", "-s", "-C", drivers, f"OUT={tmp_path / 'guests'}", cwd=tmp_path)
    assert {path.stem for path in (tmp_path / "guests").glob("*.elf")} >= GUESTS


def test_a_guest_of_ones_own_can_be_built(installed: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "guest_drivers/guests/hello.c", tmp_path / "mine.c")
    run(installed / "paravirt", "build", "mine.c", cwd=tmp_path)
    assert "paravirt guest" in run(installed / "paravirt", "inspect", "mine.elf", cwd=tmp_path)


@pytest.mark.kvm
@pytest.mark.only_kvm("what is installed has no engine")
def test_an_installed_guest_runs(installed: Path, tmp_path: Path) -> None:
    run(installed / "paravirt", "run", "hello", "--timeout", "20", cwd=tmp_path)
