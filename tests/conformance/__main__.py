"""``python -m tests.conformance [ID…]``: runs the wrong hosts and prints which case catches each."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from paravirt.cli.common import table
from tests.conformance import check
from tests.conformance import table as rules
from tests.conformance.check import Caught
from tests.conformance.mutants import IMMUNE, MUTANTS
from tests.conformance.plant import Mutant, build


def _hunt_all(wanted: list[Mutant], whole: bool) -> Iterator[Caught]:
    """Raises SystemExit if the host is not sound to begin with."""
    copy = build(MUTANTS)
    runs = check.healthy(copy)
    for run in runs:
        if not run.passed:
            sys.exit(f"{run.title} fails without a mutant: {run.problems or [c for c in run.cases if not c.passed]}")
    if whole:
        rules.write(runs)
    for number, caught in enumerate(check.hunt_all(copy, wanted, runs), 1):
        if sys.stderr.isatty():
            print(f"\r\033[K{number} of {len(wanted)} {caught.mutant.id}", end="", file=sys.stderr, flush=True)
        yield caught


def main() -> int:
    """Runs the command line; 1 if a mutant survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("id", nargs="*", metavar="ID", help="only these mutants, or those of these rules")
    parser.add_argument("--table", action="store_true", help="also write the table of docs/abi/conformance.md")
    args = parser.parse_args()
    began = time.monotonic()
    wanted = [m for m in MUTANTS if not args.id or {m.id, m.rule} & {*args.id}]
    found = list(_hunt_all(wanted, args.table))
    rows = [["mutant", "rule", "caught by"]]
    rows += [[c.mutant.id, c.mutant.rule, c.by or f"NOTHING ({c.instead})"] for c in found]
    print("\r\033[K" * sys.stderr.isatty() + table(rows))
    for rule, why in IMMUNE.items():
        print(f"no mutant of {rule}: {why}")
    survivors = sum(not c.by for c in found)
    took = time.monotonic() - began
    print(f"{len(found)} mutants of {len({m.rule for m in wanted})} rules, {survivors} not caught, {took:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
