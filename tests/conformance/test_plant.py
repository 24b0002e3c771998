"""Writing mutants into sources: what it does to C and to Python, and what it refuses."""

from __future__ import annotations

import re

import pytest

from hypercall_abi import RULES
from tests.conformance import virtio_table
from tests.conformance.mutants import IMMUNE, MUTANTS
from tests.conformance.plant import VARIABLE, Mutant, PlantError, planted, sources


def mutant(old: str, new: str, name: str = "one", file: str = "a.c") -> Mutant:
    return Mutant(name, "CALL-1", file, old, new)


def plant(text: str, *mutants: Mutant) -> str:
    return planted(text, mutants, {m.id: n for n, m in enumerate(mutants, 1)})


def test_an_expression_in_c() -> None:
    assert plant("if (a  <\n b) x();", mutant("a < b", "a > b")) == "if ((pv_mutant == 1 ? (a > b) : (a  <\n b))) x();"


def test_a_statement_in_c() -> None:
    assert plant("if (a) x(); else y();", mutant("x();", "")) == (
        "if (a) { if (pv_mutant == 1) {  } else { x(); } } else y();"
    )


def test_two_at_one_place_and_one_inside() -> None:
    text = plant("f(a + b);", mutant("f(a + b);", "g();"), mutant("a + b", "1", "two"), mutant("a + b", "2", "three"))
    inner = "(pv_mutant == 3 ? (2) : ((pv_mutant == 2 ? (1) : (a + b))))"
    assert text == f"{{ if (pv_mutant == 1) {{ g(); }} else {{ f({inner}); }} }}"


def run_python(text: str, awake: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    names: dict[str, int] = {}
    monkeypatch.setenv(VARIABLE, awake)
    exec(compile(text, "planted", "exec"), {}, names)
    return names


def test_python(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "for i in range(3):\n    x = i + 1\n    y = 1\n    y += x\n"
    both = plant(
        text,
        mutant("i + 1", "i - 1", "expression", "a.py"),
        mutant("y += x", "y = 5\ny -= x", "statement", "a.py"),
    )
    assert run_python(both, "", monkeypatch) == {"i": 2, "x": 3, "y": 4}
    assert run_python(both, "expression", monkeypatch) == {"i": 2, "x": 1, "y": 2}
    assert run_python(both, "statement", monkeypatch) == {"i": 2, "x": 3, "y": 2}


@pytest.mark.parametrize(
    ("mutants", "said"),
    [
        ([mutant("nowhere", "x")], "one: 'nowhere' stands 0 times in a.c, not once"),
        ([mutant("a", "x")], "one: 'a' stands 2 times"),
        ([mutant("a + b", "x"), mutant("b + c", "x", "two")], "one and two: their texts cross"),
    ],
)
def test_what_does_not_fit_is_named(mutants: list[Mutant], said: str) -> None:
    with pytest.raises(PlantError, match=re.escape(said)):
        plant("a + b + c; a;"[: 9 if len(mutants) == 2 else None], *mutants)


def test_every_mutant_fits_the_sources() -> None:
    """A change of the sources that takes a mutant's place away fails here: mend tests/conformance/mutants."""
    changed = sources(MUTANTS)
    for one in MUTANTS:
        assert one.id.encode() in changed["paravirt/native/mutant.c"]


def test_every_rule_of_the_hosts_has_a_wrong_host_or_a_reason() -> None:
    broken = {one.rule for one in MUTANTS}
    hosts = {rule.id for rule in RULES.values() if rule.binds in ("host", "both")}
    assert broken <= hosts | set(virtio_table.cases())
    assert not broken & set(IMMUNE)
    assert len(broken) >= 40
    missing = {r for r in hosts - broken - set(IMMUNE) if not RULES[r].no_case}
    assert not missing, f"no wrong host and no reason: {', '.join(sorted(missing))}"
