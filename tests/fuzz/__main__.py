"""Runs the fuzzers, two at a time, and says how fast they were, how far they got and what they found.

``python -m tests.fuzz [MINUTES] [NAME…]`` or ``--list``; exit status 1 if there is a finding.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.tree import ROOT

from . import build, seeds

AT_ONCE = 2
LOOK_S = 0.5
LINE_S = 10.0
INPUT_BYTES = {"image": 40_000, "extension": 8192}  # the longest input; the others' are 4096
SLOW_S = 10  # an input that takes longer is a finding
STATE = re.compile(r"#(\d+)\s.*?cov: (\d+)(?:.*?exec/s: (\d+))?")


@dataclass
class Run:
    """A fuzzer at work, or what came of it."""

    name: str
    seconds: int
    began: float = field(default_factory=time.monotonic)
    executions: int = 0
    coverage: int = 0
    status: int | None = None

    def __post_init__(self) -> None:
        self.found = build.OUT / "found" / self.name
        self.found.mkdir(parents=True, exist_ok=True)
        self._before = set(self.found.iterdir())
        self.log = build.OUT / f"{self.name}.log"
        arguments = [
            str(seeds.plant(self.name)),
            f"-max_total_time={self.seconds}",
            f"-max_len={INPUT_BYTES.get(self.name, 4096)}",
            f"-artifact_prefix={self.found}/",
            f"-timeout={SLOW_S}",
            "-rss_limit_mb=2048",
        ]
        with self.log.open("w") as log:
            command = [*build.command(self.name), *arguments]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    def look(self) -> bool:
        """Whether it still runs; reads how far it is."""
        self.status = self.process.poll()
        with self.log.open("rb") as log:  # it grows by a line for every interesting input: its end is enough
            log.seek(max(0, self.log.stat().st_size - 8192))
            for state in STATE.finditer(log.read().decode(errors="replace")):
                self.executions, self.coverage = int(state[1]), int(state[2])
        return self.status is None

    @property
    def per_second(self) -> int:
        """Executions so far per second."""
        return int(self.executions / max(1.0, min(time.monotonic() - self.began, self.seconds)))

    @property
    def findings(self) -> list[Path]:
        """Inputs that this run kept because they broke something."""
        return sorted(set(self.found.iterdir()) - self._before)

    @property
    def failed(self) -> bool:
        """Whether it found something, or could not run."""
        return bool(self.status or self.findings)


def say(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def progress(running: list[Run]) -> None:
    """Where the fuzzers are."""
    states = (f"{run.name} {run.executions} inputs, {run.per_second}/s, coverage {run.coverage}" for run in running)
    say("  " + "; ".join(states))


def run_all(names: list[str], seconds: int) -> list[Run]:
    """Runs the targets; none is left running, whatever happens."""
    waiting, running, done = list(names), list[Run](), list[Run]()
    try:
        said = time.monotonic()
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                running.append(Run(waiting.pop(0), seconds))
            time.sleep(LOOK_S)
            done += [run for run in running if not run.look()]
            running = [run for run in running if run.status is None]
            if running and time.monotonic() - said >= LINE_S:
                said = time.monotonic()
                progress(running)
    finally:
        for run in running:
            run.process.kill()
            run.process.wait()
    return sorted(done, key=lambda run: run.name)


def table(runs: list[Run]) -> str:
    """What came of the runs."""
    rows = [("fuzzer", "engine", "inputs", "per second", "coverage", "findings")]
    for run in runs:
        counts = (str(run.executions), str(int(run.executions / max(1, run.seconds))), str(run.coverage))
        rows.append((run.name, build.engine(run.name), *counts, str(len(run.findings))))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def report(runs: list[Run]) -> int:
    """Prints the table and, for each finding, how to see it again; the exit status."""
    print(table(runs))
    for run in runs:
        again = " ".join(build.command(run.name)).replace(f"{ROOT}/", "").replace(sys.executable, "./dev exec python")
        for path in run.findings:
            say(f"{run.name} found something: {again} {path.relative_to(ROOT)}; its words are in {run.log}")
        if run.failed and not run.findings:
            say(f"{run.name} ended with status {run.status} before its time; see {run.log.relative_to(ROOT)}")
    return int(any(run.failed for run in runs))


def main() -> int:
    """Parses the command line and runs."""
    known = build.names()
    parser = argparse.ArgumentParser(prog="./dev fuzz", description="Runs the fuzzers, two at a time.")
    parser.add_argument("--list", action="store_true", help="name the fuzzers")
    parser.add_argument("what", nargs="*", metavar="MINUTES|NAME", help="minutes for each (1), fuzzers (all)")
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{name:10} {build.engine(name):10} {words}" for name, words in known.items()))
        return 0
    minutes = [int(word) for word in args.what if word.isdigit()]
    names = [word for word in args.what if not word.isdigit()]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such fuzzer: {unknown[0]}; --list names them")
    try:
        return report(run_all(names or list(known), 60 * (minutes[-1] if minutes else 1)))
    except subprocess.CalledProcessError as error:
        say(f"dev: a fuzzer cannot be built: {error.stderr or error}")
    except KeyboardInterrupt:
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
