"""``python -m tests.benchmarks [NAME…]``: takes figures, prints one table, writes JSON and a plot."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from .report import Row, table, write_growth_svg, write_json, write_svg

BENCHES = ("calls", "events", "block", "net", "vsock", "start", "memory", "growth")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"{', '.join(BENCHES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of each figure (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go (build/bench.json)")
    args = parser.parse_args()
    if unknown := set(args.name) - set(BENCHES):
        parser.error(f"no benchmark {sorted(unknown)[0]!r}; there are: {', '.join(BENCHES)}")
    rows: list[Row] = []
    for name in args.name or BENCHES:
        print(f"{name}: {args.rounds} rounds …", file=sys.stderr, flush=True)
        run: Callable[[int], list[Row]] = importlib.import_module(f".{name}", __package__).run
        rows += run(args.rounds)
    print(table(rows))
    to = args.json or Path("build/bench.json")
    to.parent.mkdir(parents=True, exist_ok=True)
    write_json(rows, to)
    write_svg(rows, to.with_suffix(".svg"))
    written = [to, to.with_suffix(".svg")]
    if any(row.points for row in rows):
        written.append(to.with_name(f"{to.stem}-growth.svg"))
        write_growth_svg(rows, written[-1])
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
