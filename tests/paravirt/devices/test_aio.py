"""Asynchronous file I/O by itself, under the sanitizers; that of threads is what the thread engine is built for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NATIVE = ROOT / "paravirt" / "native"
HARNESS = Path(__file__).with_name("aio_harness.c")
SOURCES = [NATIVE / name for name in ("aio.c", "aio_uring.c", "aio_threads.c")]
WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")


@pytest.fixture(scope="module", params=["thread", "address,undefined"])
def harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("aio") / "aio_harness"
    flags = ("-O1", "-g", f"-fsanitize={request.param}", "-fno-sanitize-recover=all", f"-I{NATIVE}")
    command = ["gcc", *WARNINGS, *flags, *map(str, [HARNESS, *SOURCES]), "-luring", "-lpthread", "-o", str(built)]
    subprocess.run(command, check=True)
    return built


@pytest.mark.parametrize("engine", ["uring", "threads"])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_random_operations(harness: Path, tmp_path: Path, engine: str, seed: int) -> None:
    command = [str(harness), engine, str(tmp_path / "file"), str(seed)]
    clean = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}  # no two sanitizers in one
    done = subprocess.run(command, env=clean, text=True, capture_output=True, timeout=100)
    assert (done.stdout, done.stderr, done.returncode) == ("good\n", "", 0)
