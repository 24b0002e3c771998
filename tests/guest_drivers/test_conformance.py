"""Host conformance: our host passes every image, at both levels and in every shape; the runner of users is conform.

Each rule that binds a host has a case that cites it, or says itself why there can be none.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hypercall_abi import RULES
from paravirt.conform.host import ATTACHED, DISKS, option
from tests.conformance import virtio_table
from tests.guest_drivers.conftest import Build
from tests.support.tree import ROOT

CASE = re.compile(r"(not ok|ok) (\d+) - ((?:[A-Z]+-\d[\d.-]* )+\S.*?)(?: # SKIP (.+))?")
REFUSED = sorted(path.stem for path in (ROOT / "guest_drivers/guests/conformance/refused").glob("*_*.[cS]"))
ALONE = sorted(path.stem for path in (ROOT / "guest_drivers/guests/conformance/alone").glob("*.c"))
IMAGE_ERRORS, MANIFEST_ERRORS = range(10, 30), range(30, 40)


def run(image: Path, *options: str) -> list[tuple[str, str | None]]:
    """The cases of `image` with the reason why one was skipped; all passed and the output is whole."""
    command = [sys.executable, "-m", "paravirt", "run", str(image), "--timeout", "90", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, errors="replace")
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    failed = [line for line in done.stdout.splitlines() if line.startswith("not ok")]
    assert done.returncode == 0, "\n".join([done.stderr, *(failed or [done.stdout[-3000:]])])
    assert lines.pop() == f"1..{len(lines)}"
    matches = [CASE.fullmatch(line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches, strict=True) if not match]
    cases = [match.groups() for match in matches if match]
    assert [case[2] for case in cases if case[0] != "ok"] == []
    assert [int(case[1]) for case in cases] == list(range(1, len(cases) + 1))
    return [(case[2], case[3]) for case in cases]


def devices(tmp_path: Path) -> list[str]:
    """All that images take."""
    for name, (_, size_bytes) in DISKS.items():
        (tmp_path / name).write_bytes(bytes(size_bytes))
    (tmp_path / "fixed").write_bytes(b"fixed".ljust(65536, b"."))
    return [word for name in ATTACHED for word in option(name, tmp_path / name)]


@pytest.mark.kvm
@pytest.mark.parametrize("mode", ["user", "user --poison", "supervisor --poison"])
def test_our_host(build: Build, mode: str, tmp_path: Path) -> None:
    run(build["conformance_all"], "--vcpus", "2", "--privilege", *mode.split(), *devices(tmp_path))
    assert (tmp_path / "fixed").read_bytes() == b"fixed".ljust(65536, b".")


@pytest.mark.kvm
@pytest.mark.parametrize("options", ["--vcpus 1 --memory 4M", "--vcpus 4", "--transport mmio"])
def test_our_host_with(gcc_build: Build, options: str) -> None:
    run(gcc_build["conformance_all"], *options.split())


@pytest.mark.kvm
@pytest.mark.parametrize("name", REFUSED)
def test_refused(gcc_build: Build, name: str, tmp_path: Path) -> None:
    """What must not be run is not; what must not end well does not, and says nothing of a case."""
    command = [sys.executable, "-m", "paravirt", "run", str(gcc_build.directory / f"refused_{name}.elf")]
    done = subprocess.run([*command, "--vcpus", "2"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert not [line for line in done.stdout.splitlines() if not line.startswith("#")]
    if name.startswith(("note", "boot")):
        assert done.returncode in (*IMAGE_ERRORS, *MANIFEST_ERRORS), done.stderr
    else:
        assert done.returncode not in (0, *IMAGE_ERRORS, *MANIFEST_ERRORS), done.stderr


@pytest.mark.kvm
@pytest.mark.slow
def test_every_rule_has_a_case_that_was_tried(gcc_build: Build, tmp_path: Path) -> None:
    """Each rule that binds a host is judged in one of the shapes in which a host can be run, or says why not."""
    everything = ["--vcpus", "2", *devices(tmp_path)]
    shapes = [
        ("all", everything),
        ("all", ["--privilege", "supervisor", *everything]),
        *((name, ["--transport", "mmio", *everything]) for name in ("mmio", "mmio_virtio", "mmio_virtio_queues")),
        ("calls", ["--deny", "trace,memory.discard"]),
        ("plain", []),
        *((name, everything) for name in ALONE),
    ]
    judged = {"-".join(name.upper().split("_")[:2]) for name in REFUSED}
    for name, options in shapes:
        for text, skipped in run(gcc_build[f"conformance_{name}"], *options):
            if skipped is None:
                judged |= set(re.findall(r"[A-Z]+-\d[\d.-]*", text.split(": ")[0]))
    wanted = {rule.id for rule in RULES.values() if rule.binds in ("host", "both") and not rule.no_case}
    assert (wanted | set(virtio_table.cases())) - judged == set()
