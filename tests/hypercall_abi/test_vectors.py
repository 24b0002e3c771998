"""The vectors, typed by hand and generated, against construct and C and C++ compilers' idea of records (DATA-1)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from construct import ConstError

from hypercall_abi import RECORDS
from hypercall_abi.schema import Record
from hypercall_abi.vectors import Vector, VectorError, load, load_generated, parse
from tests.hypercall_abi.compilers import compile_c, each_compiler

VECTORS = load()
GENERATED = load_generated()

each_record = pytest.mark.parametrize("record", RECORDS.values(), ids=lambda record: record.name_)


def _plain(container: Any) -> dict[str, Any]:
    """What construct parsed, as plain values."""
    return {
        key: list(value) if isinstance(value, list) else value
        for key, value in container.items()
        if not key.startswith("_")
    }


def _id(vector: Vector) -> str:
    return f"{vector.record}: {vector.title}"


@pytest.mark.parametrize("vector", VECTORS, ids=_id)
def test_parse_gives_the_values(vector: Vector) -> None:
    assert _plain(RECORDS[vector.record].parse(vector.data)) == vector.values


@pytest.mark.parametrize("vector", VECTORS, ids=_id)
def test_build_gives_the_bytes(vector: Vector) -> None:
    assert RECORDS[vector.record].build(vector.values) == vector.data


@pytest.mark.parametrize("vector", VECTORS, ids=_id)
def test_every_byte_is_typed(vector: Vector) -> None:
    assert len(vector.data) == RECORDS[vector.record].size


@each_record
def test_generated_cases_hold(record: Record) -> None:
    """Parsed, they have the values; built, the bytes; with padding set, they are refused (CALL-14)."""
    cases = [v for v in GENERATED if v.record == record.name_]
    for case in cases:
        assert len(case.data) == record.size
        if case.refused:
            with pytest.raises(ConstError):
                record.parse(case.data)
        else:
            assert _plain(record.parse(case.data)) == case.values
            assert record.build(case.values) == case.data
    fields = [f for f in record.fields if not f.reserved]
    for field in fields:
        raws = {case.data[field.offset : field.offset + field.size] for case in cases}
        assert bytes(field.size) in raws and len(raws) >= 3
    assert sum(case.refused for case in cases) == 2 * (len(record.fields) - len(fields))


@each_record
def test_every_record_has_a_vector_that_tells_its_fields_apart(record: Record) -> None:
    """Two fields of one size with one value could be swapped unseen, and a zero looks like padding."""
    fields = [f for f in record.fields if not f.reserved]

    def tells(vector: Vector) -> bool:
        values = [(f.size, str(vector.values[f.name])) for f in fields]
        return len(set(values)) == len(values) and all(vector.values[f.name] not in (0, "") for f in fields)

    assert any(tells(v) for v in VECTORS if v.record == record.name_)


@pytest.mark.parametrize(
    "text",
    [
        "00  01    loose = 1",
        "reject boot_vcpus: no such kind\n00  04 00 00 00    count = 4",
        "record boot_vcpus: wrong offset\n04  04 00 00 00    count = 4",
        "record boot_vcpus: odd digits\n00  4 00 00 00    count = 4",
        "record boot_vcpus: no value\n00  04 00 00 00",
    ],
)
def test_a_bad_line_is_named(text: str) -> None:
    with pytest.raises(VectorError, match=r"^line \d"):
        list(parse(text))


# ---- C ----

_HEAD = """\
#include "paravirt_abi.h"
#include <stdio.h>
#include <string.h>

static int failures;

static void fail(const char *what)
{
	fprintf(stderr, "%s\\n", what);
	failures++;
}
"""


def _literal(value: int) -> str:
    if value == -(1 << 63):  # which C has no literal for
        return "(-0x7fffffffffffffffll - 1)"
    return f"{value}ll" if value < 0 else f"0x{value:x}ull"


def _array(data: bytes) -> str:
    return "{ " + ", ".join(f"0x{byte:02x}" for byte in data) + " }"


def _field(record: Record, vector: Vector, name: str) -> Iterator[str]:
    """C statements that read one field from r, and write it to w."""
    field = next(f for f in record.fields if f.name == name)
    value = vector.values[name]
    if isinstance(value, int):
        yield f'if (r.{name} != ({field.c}){_literal(value)}) fail("{record.name_}.{name}");'
        yield f"w.{name} = ({field.c}){_literal(value)};"
    elif isinstance(value, list):
        for i, element in enumerate(value):
            yield f'if (r.{name}[{i}] != ({field.c}){_literal(element)}) fail("{record.name_}.{name}[{i}]");'
            yield f"w.{name}[{i}] = ({field.c}){_literal(element)};"
    else:
        raw = value.encode() if isinstance(value, str) else value
        raw += bytes(field.size - len(raw))
        yield f"{{ static const unsigned char text[] = {_array(raw)};"
        yield f'if (memcmp(r.{name}, text, sizeof(r.{name}))) fail("{record.name_}.{name}");'
        yield f"memcpy(w.{name}, text, sizeof(w.{name})); }}"


def _check(index: int, vector: Vector) -> str:
    record = RECORDS[vector.record]
    type_ = f"struct pv_{record.name_}"
    statements = [line for f in record.fields for line in _field(record, vector, f.name)]
    return "\n\t".join(
        [
            f"static void check_{index}(void)\n{{",
            f"static const unsigned char bytes[] = {_array(vector.data)};",
            f"{type_} r, w;",
            f'PV_STATIC_ASSERT(sizeof({type_}) == sizeof(bytes), "size");',
            "memcpy(&r, bytes, sizeof(r));",
            "memset(&w, 0, sizeof(w));",
            *statements,
            f'if (memcmp(&w, bytes, sizeof(w))) fail("{record.name_} as written");\n}}\n',
        ]
    )


@each_compiler
def test_compilers_agree(compiler: str, tmp_path: Path) -> None:
    source, program = tmp_path / "vectors.c", tmp_path / "vectors"
    checks = [_check(i, v) for i, v in enumerate(VECTORS + GENERATED)]
    calls = "\n".join(f"\tcheck_{i}();" for i in range(len(checks)))
    source.write_text(
        f"{_HEAD}\n" + "\n".join(checks) + f"\nint main(void)\n{{\n{calls}\n\treturn failures != 0;\n}}\n"
    )
    compile_c(compiler, source, program)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
