"""Compilers of C and C++ on the generated header, for the tests beside this file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

INCLUDE = Path(__file__).parents[2] / "hypercall_abi" / "include"

WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wpedantic", "-pedantic", "-Werror")

# compiler: options that make it read the language the header promises to be
COMPILERS = {
    "gcc": ("-std=c11",),
    "clang": ("-std=c11",),
    "g++": ("-std=c++17", "-x", "c++"),
    "clang++": ("-std=c++17", "-x", "c++"),
}

each_compiler = pytest.mark.parametrize("compiler", COMPILERS)


def compile_c(compiler: str, source: Path, output: Path, *options: str) -> None:
    """Compiles `source` with every warning an error; the test fails with the compiler's words."""
    if not shutil.which(compiler):
        pytest.fail(f"{compiler} is not installed")
    command = [compiler, *COMPILERS[compiler], *WARNINGS, f"-I{INCLUDE}", *options, str(source), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
