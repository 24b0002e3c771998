"""The fuzzers work: each builds, takes its seeds, gets far with them, and tells of what it finds."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paravirt.recording.convert import convert
from paravirt.recording.reader import read
from tests.fuzz import build, seeds
from tests.fuzz.__main__ import STATE
from tests.support.tree import ROOT

NAMES = list(build.names())
NATIVE = [name for name in NAMES if build.engine(name) == "libFuzzer"]
needs_clang = pytest.mark.skipif(not shutil.which("clang"), reason="no clang")


def runs(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)


def test_every_target_has_seeds_and_words() -> None:
    assert set(NAMES) == set(seeds.SEEDS)
    assert all(words for words in build.names().values())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NATIVE])
def test_targets_in_python_take_their_seeds(name: str) -> None:
    target = importlib.import_module(f"tests.fuzz.targets.{name}")
    for data in seeds.SEEDS[name]():
        target.one(data)
        for cut in range(0, len(data), len(data) // 50 + 1):
            target.one(data[:cut])


def test_the_recording_that_seeds_is_good(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(list(seeds.recording())[-1])
    (life,) = read(path)
    assert len(life.calls) == len(convert(life).entries) == 3
    assert len(life.moments) == 1


@pytest.mark.slow
@needs_clang
@pytest.mark.parametrize("name", NATIVE)
def test_targets_in_c_run(name: str, tmp_path: Path) -> None:
    """Seeds and a moment of fuzzing under the sanitizers; what it kept would be left in tmp_path."""
    place = tmp_path / "corpus"
    place.mkdir()
    for number, data in enumerate(seeds.SEEDS[name]()):
        (place / str(number)).write_bytes(data)
    done = runs(*build.command(name), str(place), "-runs=2000", f"-artifact_prefix={tmp_path}/")
    assert done.returncode == 0, done.stderr[-4000:]
    states = STATE.findall(done.stderr)
    assert int(states[-1][0]) >= 2000
    assert int(states[-1][1]) > 60, "the seeds should lead further"


@pytest.mark.slow
@needs_clang
def test_a_finding_is_told(tmp_path: Path) -> None:
    """A reader of boot information that trusts a length: the fuzzer keeps the input that shows it."""
    careless = tmp_path / "boot.c"
    text = (ROOT / "guest_drivers/lib/boot.c").read_text()
    check = "if (header->size_bytes > size_bytes - offset)\n\t\t\treturn PV_STATUS_INVALID;"
    assert check in text
    careless.write_text(text.replace(check, ""))
    target = tmp_path / "careless"
    sources = (str(build.TARGETS / "boot_info.c"), str(careless))
    built = runs("clang", *build.FLAGS, *build.INCLUDES, *sources, "-o", str(target))
    assert built.returncode == 0, built.stderr
    seed = tmp_path / "corpus"
    seed.mkdir()
    (seed / "0").write_bytes(next(seeds.boot_info()))
    done = runs(str(target), str(seed), "-runs=200000", f"-artifact_prefix={tmp_path}/")
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr
    assert list(tmp_path.glob("crash-*"))


def test_a_wrong_name_is_one_line() -> None:
    done = runs(sys.executable, "-m", "tests.fuzz", "abc")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "./dev fuzz: error: no such fuzzer: abc; --list names them"
