"""Instructions that the host's walk of a ring takes per chain, counted by callgrind: the same on every machine.

``python -m tests.benchmarks.instructions`` compares with the figures beside this file and fails where one has
become worse by more than WORSE; ``--renew`` writes them.  They are a compiler's: another one is not judged.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIGURES = Path(__file__).with_suffix(".json")
WORSE = 0.05
ROUNDS, BATCH = 20, 32
"""Batches of each kind, and chains of a batch, as in instructions.c."""
SOURCES = (
    "tests/benchmarks/instructions.c",
    *(f"paravirt/native/{name}.c" for name in ("guest_memory", "inflight", "ring", "ring_packed", "ring_split")),
    *(f"guest_drivers/lib/virtqueue{name}.c" for name in ("", "_packed", "_split")),
)
INCLUDES = ("hypercall_abi/include", "paravirt/native", "guest_drivers/include", "tests/native")
RENEW = "python -m tests.benchmarks.instructions --renew"


def compiler() -> str:
    """What compiles, with its major version: what decides about counts."""
    version = subprocess.run(["gcc", "-dumpversion"], check=True, capture_output=True, text=True).stdout
    return f"gcc {version.split('.')[0].strip()}"


def count() -> dict[str, float]:
    """Instructions per chain taken and given back, by kind of ring.  Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as place:
        program, out = Path(place, "instructions"), Path(place, "out")
        flags = ["-std=gnu11", "-O2", "-fPIC", "-fvisibility=hidden", *(f"-I{ROOT / name}" for name in INCLUDES)]
        subprocess.run(["gcc", *flags, *(ROOT / name for name in SOURCES), "-lpthread", "-o", program], check=True)
        command = ["valgrind", "-q", "--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={out}"]
        subprocess.run([*command, program, str(ROUNDS)], check=True, timeout=120)
        return dict(sorted(filter(None, map(_counted, Path(place).glob("out.*")))))


def _counted(dump: Path) -> tuple[str, float] | None:
    text = dump.read_text()
    kind = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.M)
    total = re.search(r"^(?:summary|totals): (\d+)", text, re.M)
    return (kind[1], round(int(total[1]) / ROUNDS / BATCH, 1)) if kind and total else None


def judge(counted: dict[str, float], committed: dict[str, float]) -> list[str]:
    """What is wrong with the figures, a line each."""
    wrong = [
        f"{kind}: not counted" if kind not in counted else f"{kind}: no figure"
        for kind in counted.keys() ^ committed.keys()
    ]
    for kind, figure in committed.items():
        if counted.get(kind, 0) > figure * (1 + WORSE):
            wrong.append(f"{kind}: {counted[kind]} instructions per chain, {figure} were committed")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.instructions", description=__doc__)
    parser.add_argument("--renew", action="store_true", help="write the figures")
    args = parser.parse_args()
    counted, with_what = count(), compiler()
    if args.renew:
        FIGURES.write_text(json.dumps({"compiler": with_what, "instructions": counted}, indent=1) + "\n")
    committed = json.loads(FIGURES.read_text())
    if committed["compiler"] != with_what:
        print(f"instruction counts are of {committed['compiler']}, this is {with_what}: not judged", file=sys.stderr)
        return 0
    wrong = judge(counted, committed["instructions"])
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        print(f"the walk of rings became slower; if that is meant: {RENEW}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
