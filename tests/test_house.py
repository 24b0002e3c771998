"""The rules of the house: one-way dependencies, small files, current generated files, nothing of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tree import ROOT, tree

LINES = 400
FUNCTION_LINES = 50
GENERATED = re.compile(r"hypercall_abi/(include|rust|json)/|paravirt/native/state\.h|docs/abi/generated/")
ENGINE = ROOT / "paravirt/accel/engine"
OUR_HEADERS = re.compile(r"paravirt_abi(_\w+)?\.h|paravirt/\w+\.h")
LWIP_HEADERS = re.compile(r"(lwip|netif)/[\w/]+\.h")
FREESTANDING = {"stdalign.h", "stdarg.h", "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h", "limits.h"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """First parts of the absolute names that a Python file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("hypercall_abi", {"hypercall_abi", "construct"}),
        ("paravirt", {"paravirt", "hypercall_abi", "construct", "cffi", "elftools", "setuptools"}),
    ],
)
def test_packages_depend_one_way(package: str, allowed: set[str]) -> None:
    files = tree(f"{package}/*.py")
    assert files
    for path in files:
        foreign = set(imports(path)) - allowed - sys.stdlib_module_names
        assert not foreign, f"{name(path)} imports {', '.join(sorted(foreign))}"


def test_the_software_vcpus_process_loads_nothing_of_the_hosts() -> None:
    """What is linked with its engine, which is GPL-2.0, is those files alone."""
    files = list(ENGINE.glob("*.py"))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.ImportFrom) or node.level <= 1, f"{name(path)}:{node.lineno}"
        assert "paravirt" not in set(imports(path)), name(path)


def test_build_does_not_import_what_it_builds() -> None:
    assert "paravirt" not in set(imports(ROOT / "paravirt/native/build.py"))


def test_guest_drivers_see_the_abi_and_themselves_only() -> None:
    files = [
        path
        for path in tree("guest_drivers/*.c", "guest_drivers/*.h", "guest_drivers/*.S")
        if "/linux/" not in name(path)
    ]
    assert files
    for path in files:
        for header in includes(path):
            beside = (path.parent / header).exists()
            stack = "guests/web/" in name(path) and LWIP_HEADERS.fullmatch(header)  # the guest that is about it
            known = beside or header in FREESTANDING or OUR_HEADERS.fullmatch(header) or stack
            assert known, f"{name(path)} includes {header}"


def test_guests_in_rust_see_the_generated_module_and_themselves_only() -> None:
    files = tree("guest_drivers/*.rs")
    assert files
    for path in files:
        text = path.read_text()
        assert set(re.findall(r'#\[path = "(.+)"\]', text)) <= {"../../hypercall_abi/rust/paravirt_abi.rs"}, name(path)
        foreign = re.findall(
            r"^\s*(?:pub )?(?:use|extern crate) (?!core\b|crate\b|super\b|self\b|\w+;)(\w+)", text, re.M
        )
        assert set(foreign) <= {"paravirt_abi"}, f"{name(path)} uses {foreign}"


def test_rust_functions_are_small() -> None:
    long = {}
    for path in tree("guest_drivers/*.rs"):
        start, indent = 0, ""
        for number, line in enumerate(path.read_text().splitlines()):
            if match := re.match(r"(\s*)(?:pub(?:\(\w+\))? )?(?:const |extern \"C\" |unsafe )*fn \w+.*{$", line):
                start, indent = number, match[1]
            elif start and line == f"{indent}}}":
                if number - start - 1 > FUNCTION_LINES:
                    long[f"{name(path)}:{start + 1}"] = number - start - 1
                start = 0
    assert not long, long


def test_host_library_knows_neither_python_nor_guest() -> None:
    for path in tree("paravirt/native/*.[ch]"):
        for header in includes(path):
            assert not header.startswith(("Python", "paravirt/")), f"{name(path)} includes {header}"


def test_files_are_small() -> None:
    sources = [p for p in tree("*.py", "*.c", "*.h", "*.S", "*.rs", "dev", ".ci/run") if not GENERATED.search(name(p))]
    long = {name(path): lines for path in sources if (lines := path.read_text().count("\n")) >= LINES}
    assert not long, long


def test_python_functions_are_small() -> None:
    long = {}
    for path in tree("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.FunctionDef)
                and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
            ):
                long[f"{name(path)}:{node.name}"] = lines
    assert not long, long


def test_c_functions_are_small() -> None:
    long = {}
    for path in tree("*.c"):
        start = 0
        for number, line in enumerate(path.read_text().splitlines()):
            if line == "{":
                start = number
            elif line == "}" and number - start - 1 > FUNCTION_LINES:
                long[f"{name(path)}:{start + 1}"] = number - start - 1
    assert not long, long


def test_files_say_what_they_are_for() -> None:
    for path in tree("hypercall_abi/*.py", "paravirt/*.py", "tests/*.py"):
        text = path.read_text()
        assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{name(path)} has no docstring"


def test_c_files_name_their_licence() -> None:
    for path in tree("*.c", "*.h", "*.S", "*.rs"):
        free = re.match(r"guest_drivers/|hypercall_abi/(include|rust)/|docs/|paravirt/extensions/include/", name(path))
        licence = "0BSD" if free else "BSD-2-Clause"
        head = path.read_text()[:200]
        assert re.search(rf"SPDX-License-Identifier: {licence}\b", head), f"{name(path)} is not marked {licence}"


@pytest.mark.parametrize("module", ["hypercall_abi emit", "paravirt.state"])
def test_generated_files_are_current(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", *module.split(), "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_names_a_machine() -> None:
    place = re.compile(r"(?<![\w.])/(work|home|Users)/\w+")
    for path in tree():
        try:
            found = place.search(path.read_text())
        except UnicodeDecodeError:
            continue
        assert not found, f"{name(path)} names {found[0]}" if found else ""


def test_nothing_is_left_undone() -> None:
    # Spelled so that this file does not find itself.
    mark = re.compile(r"\b(TO" r"DO|FIX" r"ME|X{3})\b")
    for path in tree("*.py", "*.c", "*.h", "*.S", "*.rs", "*.md", "dev"):
        found = mark.search(path.read_text())
        assert not found, f"{name(path)}: {found[0]}" if found else ""
