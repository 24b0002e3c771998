"""What virtio asks of devices: each statement is shown by something that exists, or says why it is not."""

from __future__ import annotations

import ast
from functools import cache

from hypercall_abi import RULES
from hypercall_abi.virtio_musts import CLAUSES, MUSTS
from tests.conformance import virtio_table
from tests.support.tree import ROOT


@cache
def _functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_the_table_is_current() -> None:
    found = virtio_table.PLACE.read_text(encoding="utf-8")
    assert found == virtio_table.text(), "run python -m tests.conformance.virtio_table"


def test_every_statement_is_shown_or_has_a_reason() -> None:
    cited = virtio_table.cases()
    shown = {id for id, must in MUSTS.items() if id in cited or must.rules or must.tests}
    reasons = {id for id, must in MUSTS.items() if must.no_case}
    assert set(MUSTS) - shown - reasons == set(), "no case, no rule, no test, and no reason why there can be none"
    assert shown & reasons == set(), "there is something, though it is said that there can be nothing"


def test_what_cases_cite_is_in_the_list() -> None:
    assert set(virtio_table.cases()) <= set(MUSTS)


def test_what_is_named_exists() -> None:
    for id, must in MUSTS.items():
        for rule in must.rules:
            assert rule in RULES and not RULES[rule].no_case, f"{id}: no case can prove {rule}"
            assert RULES[rule].binds in ("host", "both"), f"{id}: {rule} does not bind a host"
        for test in must.tests:
            file, _, name = test.partition("::")
            assert name in _functions(file), f"{id}: there is no {test}"


def test_clauses_are_listed_once_and_have_statements_or_a_reason() -> None:
    assert len({clause.section for clause in CLAUSES}) == len({clause.label for clause in CLAUSES}) == len(CLAUSES)
    assert not [clause for clause in CLAUSES if bool(clause.musts) == bool(clause.not_here)]
    assert len([must for must in MUSTS.values() if must.level == "MUST"]) >= 80
