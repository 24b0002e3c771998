"""The generated Rust module: its layouts, its numbers, and every vector, as rustc has them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypercall_abi import CONSTANTS, LIMITS, RECORDS, SERVICES
from hypercall_abi.emit import c, rust
from hypercall_abi.schema import Buffer, Field
from hypercall_abi.vectors import Vector, load, load_generated

MODULE = Path(rust.__file__).parents[1] / "rust" / "paravirt_abi.rs"

# Debian's and, where a version manager put another one before it, that one, too.
COMPILERS = sorted({path for path in ("/usr/bin/rustc", shutil.which("rustc")) if path and Path(path).exists()})

each_rustc = pytest.mark.parametrize("rustc", COMPILERS or ["rustc"])


def compile_rust(rustc: str, source: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Compiles `source` with every warning an error."""
    if not shutil.which(rustc):
        pytest.fail("rustc is not installed: apt-get install rustc")
    command = [rustc, "--edition", "2021", "-D", "warnings", *options, "-o", str(output), str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


def compiled(rustc: str, source: Path, output: Path, *options: str) -> None:
    """As above; the test fails with the compiler's words."""
    done = compile_rust(rustc, source, output, *options)
    assert done.returncode == 0, done.stderr


@each_rustc
def test_compiles_without_std(rustc: str, tmp_path: Path) -> None:
    source = tmp_path / "lib.rs"
    source.write_text(f'#![no_std]\n#[path = "{MODULE}"]\npub mod paravirt_abi;\n')
    compiled(rustc, source, tmp_path / "lib.rmeta", "--crate-type", "lib", "--emit", "metadata")


@each_rustc
@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("    pub cookie: u64,", "    pub cookie: u32,"),
        ("    pub status: i64,", "    pub status: u64,"),
        ("    pub name: [u8; 48],", "    pub name: [u8; 47],"),
    ],
)
def test_a_wrong_layout_does_not_compile(rustc: str, field: str, wrong: str, tmp_path: Path) -> None:
    text = MODULE.read_text()
    assert field in text
    (tmp_path / "broken.rs").write_text(text.replace(field, wrong, 1))
    done = compile_rust(rustc, tmp_path / "broken.rs", tmp_path / "broken.rlib", "--crate-type", "lib")
    assert done.returncode


@each_rustc
def test_swapped_fields_do_not_compile(rustc: str, tmp_path: Path) -> None:
    """Of equal size, so that no size changes: the places are asserted, too."""
    text = MODULE.read_text()
    swapped = text.replace("pub call: u32,", "pub HELD: u32,", 1).replace("pub flags: u32,", "pub call: u32,", 1)
    (tmp_path / "broken.rs").write_text(swapped.replace("pub HELD: u32,", "pub flags: u32,", 1))
    done = compile_rust(rustc, tmp_path / "broken.rs", tmp_path / "broken.rlib", "--crate-type", "lib")
    assert done.returncode
    assert "assertion failed: r.call == 0x3020100" in done.stderr


def _numbers() -> Iterator[tuple[str, int]]:
    for constants in CONSTANTS.values():
        for value in constants:
            yield f"{constants.name}_{value.name}".upper(), getattr(constants, value.name)
    for limit in LIMITS.values():
        yield f"LIMIT_{limit.name}", limit.number
        yield f"LIMIT_ID_{limit.name}", limit.id
    for service in SERVICES.values():
        yield f"SERVICE_{service.name}".upper(), service.number
        for call in service.calls:
            yield f"CALL_{service.name}_{call.name}".upper(), service.id(call)


def _table() -> Iterator[str]:
    """Rust statements about the table of calls, from the declaration."""
    n = 0
    for service in SERVICES.values():
        for call in service.calls:
            yield f"assert!(CALLS[{n}].id == {service.id(call)} && CALLS[{n}].roads == {call.roads});"
            feature = getattr(service.features, call.feature) if call.feature else 0
            yield f"assert!(CALLS[{n}].feature == {feature} && CALLS[{n}].arguments.len() == {len(call.args)});"
            for i, arg in enumerate(call.args):
                if isinstance(arg, Buffer):
                    limit = 1 if arg.fixed or not arg.limit else arg.limit.number
                    expected = (
                        f"Argument::Buffer {{ host_writes: {str(arg.access == 'write').lower()}, limit: {limit}, "
                        f"align: {arg.align}, unit_bytes: {arg.entry_bytes}, fixed: {str(arg.fixed).lower()} }}"
                    )
                    yield f"assert!(CALLS[{n}].arguments[{i}] == {expected});"
                else:
                    yield f"assert!(CALLS[{n}].arguments[{i}] == Argument::Value);"
            n += 1
    yield f"assert!(CALLS.len() == {n});"


def _literal(field: Field, value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, int):
        return str(value)
    assert isinstance(value, str | bytes)
    raw = value.encode() if isinstance(value, str) else value
    return "[" + ", ".join(map(str, raw.ljust(field.size, b"\0"))) + "]"


def _check(index: int, vector: Vector) -> str:
    record = RECORDS[vector.record]
    name = rust.camel(record.name_)
    fields = ", ".join(f"{rust.identifier(f.name)}: {_literal(f, vector.values[f.name])}" for f in record.fields)
    return (
        f"fn check_{index}() {{\n"
        f"    const BYTES: [u8; {record.size}] = [{', '.join(map(str, vector.data))}];\n"
        f"    let expected = {name} {{ {fields} }};\n"
        f"    let read: {name} = unsafe {{ std::mem::transmute(BYTES) }};\n"
        f"    assert_eq!(read, expected);\n"
        f"    let written: [u8; {record.size}] = unsafe {{ std::mem::transmute(expected) }};\n"
        f"    assert_eq!(written, BYTES);\n}}\n"
    )


@each_rustc
def test_numbers_and_vectors(rustc: str, tmp_path: Path) -> None:
    """Every number of the declaration, the table of calls, and every vector, typed and generated."""
    vectors = [*load(), *load_generated()]
    lines = [f'#[path = "{MODULE}"]', "mod paravirt_abi;", "use paravirt_abi::*;", ""]
    lines += [_check(i, v) for i, v in enumerate(vectors)]
    lines += ["fn main() {", f'    assert!(ABI_DIGEST == "{c.digest()}");']
    lines += [f"    assert!({name} as i128 == {number});" for name, number in _numbers()]
    lines += _table()
    lines += [f"    check_{i}();" for i in range(len(vectors))]
    source = tmp_path / "vectors.rs"
    source.write_text("\n".join([*lines, "}", ""]))
    compiled(rustc, source, tmp_path / "vectors", "-C", "opt-level=0")
    done = subprocess.run([str(tmp_path / "vectors")], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_c_header_has_its_rust_name() -> None:
    text = MODULE.read_text()
    header = (MODULE.parents[1] / "include" / "paravirt_abi.h").read_text()
    names = {m[1] for m in re.finditer(r"^#define PV_([A-Z]\w*) ", header, re.MULTILINE)}
    names -= {"STATIC_ASSERT"}
    assert len(names) > 300
    missing = {n for n in names if not re.search(rf"^pub const {n}(_TEXT)?: ", text, re.MULTILINE)}
    assert not missing
