"""`./dev` on a machine that lacks something: it says what to install, exactly, and does nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tree import ROOT

# What a system without compilers has.
TOOLS = ("bash", "dirname", "env", "find", "flock", "mkdir", "rm", "tail", "touch", "cat")
NOBODY = 65534


@pytest.fixture
def machine() -> Iterator[Path]:
    """A directory with `dev` in tree/, and in bin/ the few programs such a machine has."""
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: another user must be able to enter it
        place = Path(name)
        place.chmod(0o755)
        (place / "bin").mkdir()
        (place / "tree").mkdir()
        (place / "tree").chmod(0o777)
        shutil.copy(ROOT / "dev", place / "tree")
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (place / "bin" / tool).symlink_to(found)
        yield place


def dev(machine: Path, *args: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(machine / "bin" / "bash"), str(machine / "tree" / "dev"), *args]
    path = {"PATH": str(machine / "bin")}
    return subprocess.run(command, env=path, capture_output=True, text=True, user=user, stdin=subprocess.DEVNULL)


def test_help_lists_every_command(machine: Path) -> None:
    done = dev(machine, "help")
    cases = re.findall(r"^\t(\w+)\) prepare", (ROOT / "dev").read_text(), re.MULTILINE)
    assert done.returncode == 0 and len(cases) == 10
    for command in cases:
        assert re.search(rf"^  {command}\b", done.stdout, re.MULTILINE), command


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["dance"], "no such command: dance; ./dev help lists them"),
        (["exec"], "exec takes a command to run"),
        (["nested", "no_such_thing"], "nested takes linux, memtest86+ or paths of tests, not 'no_such_thing'"),
        (["nested", "tests/none.py::test"], "nested takes linux, memtest86+ or paths of tests, not 'tests/"),
        (["fuzz", "abc"], "fuzz takes a number of minutes and names of fuzzers (./dev fuzz --list), not 'abc'"),
        (["fuzz", ""], "fuzz takes a number of minutes and names of fuzzers (./dev fuzz --list), not ''"),
    ],
)
def test_a_mistake_is_said_first_of_all(machine: Path, args: list[str], words: str) -> None:
    done = dev(machine, *args)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"dev: {words}")
    assert not (machine / "tree" / "build").exists()


def test_nested_says_what_it_takes(machine: Path) -> None:
    done = dev(machine, "nested", "--help")
    assert done.returncode == 0 and not done.stderr
    assert all(line.startswith(("./dev nested ", "   ")) for line in done.stdout.splitlines())
    assert not (machine / "tree" / "build").exists()


def test_a_tree_that_cannot_be_written_to(machine: Path) -> None:
    (machine / "tree" / "build").touch()
    done = dev(machine, "demo")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("dev: cannot write to ") and "a clone of your own: git clone " in line


def test_without_a_packager_it_names_the_packages(machine: Path) -> None:
    done = dev(machine, "test")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for package in ("gcc", "make", "git", "clang", "qemu-system-x86"):
        assert package in line.split()


def test_without_rights_it_prints_the_line_to_run(machine: Path) -> None:
    packager = machine / "bin" / "apt-get"
    packager.write_text(f"#!{machine}/bin/bash\n: >{machine}/tree/packager-ran\n")
    packager.chmod(0o755)
    done = dev(machine, "demo", user=NOBODY if os.geteuid() == 0 else None)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.search(r"run: sudo apt-get install -y --no-install-recommends .*\bgcc\b.*\bmake\b", line)
    assert not (machine / "tree" / "packager-ran").exists()
