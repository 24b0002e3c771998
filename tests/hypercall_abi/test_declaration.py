"""The declaration as a whole: numbers that must never change, and that what it names exists."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hypercall_abi
from hypercall_abi import CONSTANTS, LIMITS, RECORDS, RULES, SERVICES, STATUS, VERSION
from hypercall_abi.conventions import REGISTERS, TRAP_KIND, answers
from hypercall_abi.schema import ALL_ROADS, TRAP, Buffer, Call, Constants, Limit, Record, Rule, Service, declared

CALLS = {f"{s.name}.{c.name}": (s, c) for s in SERVICES.values() for c in s.calls}

each_call = pytest.mark.parametrize("call", [c for _, c in CALLS.values()], ids=list(CALLS))

# Released numbers: a line here changes only with the major version.
NUMBERS = {
    "base": 1,
    "console": 2,
    "event": 3,
    "time": 4,
    "vcpu": 5,
    "memory": 6,
    "device": 7,
    "system": 8,
    "continuity": 9,
    "entropy": 10,
    "trace": 11,
}

STATUSES = {
    "CONTINUE": 1,
    "OK": 0,
    "FAILED": -1,
    "NOT_SUPPORTED": -2,
    "INVALID": -3,
    "BAD_ADDRESS": -4,
    "UNALIGNED": -5,
    "LIMIT": -6,
    "WRONG_ROAD": -7,
    "BAD_STATE": -8,
    "NOT_FOUND": -9,
    "QUOTA": -10,
    "IO": -11,
    "NO_MEMORY": -12,
}


def test_version() -> None:
    assert VERSION == (1, 0)


def test_numbers_of_services() -> None:
    assert {s.name: s.number for s in SERVICES.values()} == NUMBERS


def test_numbers_of_statuses() -> None:
    assert {v.name: v.number for v in STATUS} == STATUSES


def test_call_ids_are_unique() -> None:
    ids = [s.id(c) for s, c in CALLS.values()]
    assert len(set(ids)) == len(ids)
    assert all(0 < number < 1 << 32 for number in ids)


def test_services_are_below_the_vendors() -> None:
    assert all(0 < s.number < 0x8000 for s in SERVICES.values())


def test_function_numbers_have_no_gaps() -> None:
    """BASE-7 holds as long as there are no gaps; the schema refuses a number above it."""
    for service in SERVICES.values():
        assert [c.number for c in service.calls] == list(range(len(service.calls)))


def test_limit_ids_have_no_gaps() -> None:
    """Generated tables are indexed by the id."""
    assert [limit.id for limit in LIMITS.values()] == list(range(len(LIMITS)))
    assert all(limit.number > 0 for limit in LIMITS.values())


def test_rule_ids_are_unique_and_numbered_from_one() -> None:
    groups: dict[str, list[int]] = {}
    for rule in RULES.values():
        match = re.fullmatch(r"([A-Z]+)-([1-9]\d*)", rule.id)
        assert match, rule.id
        groups.setdefault(match[1], []).append(int(match[2]))
    for group, numbers in groups.items():
        assert numbers == list(range(1, len(numbers) + 1)), group


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_rules_are_sentences(rule: Rule) -> None:
    assert rule.text.endswith(".")
    assert "  " not in rule.text
    assert re.match(r"[A-Z]|[a-z_]+[ .]", rule.text), "a sentence, or one that begins with a declared name"


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_rules_name_calls_and_statuses_that_exist(rule: Rule) -> None:
    for service, name in re.findall(r"\b([a-z]+)\.([a-z_]+)\b", rule.text):
        assert f"{service}.{name}" in CALLS
    for other in re.findall(r"\b(?!UTF-)[A-Z]+-\d+\b", rule.text):
        assert other in RULES
    for status in re.findall(r"answers? ([A-Z_]{2,})", rule.text):
        assert status in STATUSES


def test_everything_has_a_description() -> None:
    for service, call in CALLS.values():
        assert service.doc.endswith(".")
        assert call.doc.endswith("."), call.name
        assert all(arg.doc.endswith(".") for arg in call.args), call.name
        assert call.value
    for record in RECORDS.values():
        assert record.doc.endswith("."), record.name_
        assert all(f.doc.endswith(".") for f in record.fields), record.name_
    for constants in CONSTANTS.values():
        assert constants.doc.endswith("."), constants.name
        assert all(v.doc.endswith(".") for v in constants), constants.name
    assert all(limit.doc.endswith(".") and limit.unit for limit in LIMITS.values())


@each_call
def test_statuses_of_a_call_exist(call: Call) -> None:
    assert set(call.statuses) <= set(STATUSES)
    assert set(call.statuses) <= set(answers(call)) <= set(STATUSES)


@each_call
def test_a_call_stopping_or_waiting_has_the_trap_alone(call: Call) -> None:
    """A batch or ring that never ends, or that ends its reader, has no completion to write."""
    if call.no_return or call.name in ("block", "yield", "batch", "ring"):
        assert call.roads == TRAP


@each_call
def test_output_tells_its_length(call: Call) -> None:
    """CALL-11 needs a value that says how much of the output holds."""
    outputs = [a for a in call.args if isinstance(a, Buffer) and a.access == "write"]
    assert len(outputs) <= 1
    if outputs:
        assert call.value.startswith("bytes ") or call.value == "calls completed"


@each_call
def test_every_length_is_bounded(call: Call) -> None:
    for arg in call.args:
        if isinstance(arg, Buffer) and not arg.fixed:
            assert arg.limit in LIMITS.values()


def test_answers() -> None:
    _, version = CALLS["base.version"]
    assert answers(version) == ("OK", "FAILED", "NOT_SUPPORTED", "INVALID")
    _, batch = CALLS["base.batch"]
    assert answers(batch) == (
        "CONTINUE",
        "OK",
        "FAILED",
        "NOT_SUPPORTED",
        "INVALID",
        "BAD_ADDRESS",
        "UNALIGNED",
        "LIMIT",
        "WRONG_ROAD",
    )
    _, stop = CALLS["vcpu.stop"]
    assert answers(stop) == ("FAILED", "NOT_SUPPORTED", "INVALID", "WRONG_ROAD")
    _, write = CALLS["console.write"]
    assert "UNALIGNED" not in answers(write)
    assert write.roads == ALL_ROADS


def test_base_cannot_be_switched_off() -> None:
    assert [s.name for s in SERVICES.values() if not s.optional] == ["base"]


def test_trap_kinds_have_registers() -> None:
    assert {r.kind for r in REGISTERS} == {v.name for v in TRAP_KIND}
    pairs = [(r.kind, r.architecture) for r in REGISTERS]
    assert len(set(pairs)) == len(pairs)
    for registers in REGISTERS:
        assert len(set(registers.args)) == 6
        assert registers.status != registers.value


def test_module_of_a_service_has_its_name() -> None:
    for module in hypercall_abi.services.MODULES:
        name = module.__name__.rpartition(".")[2]
        assert vars(module)["SERVICE"] is SERVICES[name]


def test_nothing_declared_is_left_out() -> None:
    """Every module under the package that declares something is among MODULES."""
    package = Path(hypercall_abi.__file__).parent
    listed = {module.__name__ for module in hypercall_abi.MODULES}
    kinds = (Service, Record, Constants, Limit)
    for path in [*package.glob("*.py"), *package.glob("services/*.py")]:
        name = ".".join(("hypercall_abi", *path.relative_to(package).with_suffix("").parts))
        if path.stem.startswith("__") or path.stem == "schema":
            continue
        module = importlib.import_module(name)
        if any(declared([module], kind) for kind in kinds):
            assert name in listed


ALONE = """
import sys
sys.path[:0] = {path!r}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("construct", "hypercall_abi"):
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
import hypercall_abi
from hypercall_abi import __main__, emit, vectors
assert vectors.load() and all(output() for output in emit.OUTPUTS.values())
try:
    import pytest
except ImportError:
    print("alone")
"""


def test_imports_with_construct_alone() -> None:
    """In a fresh interpreter that refuses every other third-party module."""
    import construct

    path = [str(Path(m.__file__ or "").parents[1]) for m in (hypercall_abi, construct)]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE.format(path=path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "alone\n", "")
