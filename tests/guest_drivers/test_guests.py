"""The guests that judge a host, on ours: every check of theirs must hold, at both levels, with and without poison.

A guest that attacks passes if it says so *and* its machine ends as it asked.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from paravirt.config import Budgets, MachineConfig
from paravirt.machine import Machine
from tests.guest_drivers.conftest import Build
from tests.support.tree import ROOT

pytestmark = pytest.mark.kvm

LINE = re.compile(r"(not ok|ok) (\d+) - (.+)")
LEAST = {"calls": 50, "events": 55, "devices": 70, "hostile": 600, "hostile_rings": 40}
QUOTA = -10


def run(image: Path, *options: str, status: int = 0, timeout: float = 100) -> str:
    """What a guest prints; the exit status must be `status`."""
    command = [sys.executable, "-m", "paravirt", "run", str(image), "--timeout", "90", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, errors="replace")
    assert done.returncode == status, f"{done.returncode}: {done.stderr}{done.stdout[-2000:]}"
    return done.stdout + done.stderr


def check_tap(output: str, least: int) -> None:
    """All checks hold, in order, as many as the plan says and at least `least`."""
    found = [match.groups() for line in output.splitlines() if (match := LINE.fullmatch(line))]
    assert [text for verdict, _, text in found if verdict != "ok"] == []
    assert [int(number) for _, number, _ in found] == list(range(1, len(found) + 1))
    assert f"1..{len(found)}" in output.splitlines()
    assert len(found) >= least


def disks(tmp_path: Path) -> list[str]:
    """The disks of devices and hostile_rings."""
    (tmp_path / "scratch").write_bytes(bytes(1 << 20))
    (tmp_path / "fixed").write_bytes(b"fixed".ljust(65536, b"."))
    return ["--disk", f"scratch={tmp_path / 'scratch'}"]


@pytest.mark.parametrize("mode", ["user", "user --poison", "supervisor --poison"])
@pytest.mark.parametrize("name", LEAST)
def test_checks(build: Build, name: str, mode: str, tmp_path: Path) -> None:
    options = ["--vcpus", "2", "--privilege", *mode.split()]
    if name in ("devices", "hostile_rings"):
        options += disks(tmp_path)
    if name == "devices":
        options += ["--disk", f"fixed={tmp_path / 'fixed'}"]
    check_tap(run(build[name], *options), LEAST[name])
    if name == "devices":
        assert (tmp_path / "fixed").read_bytes() == b"fixed".ljust(65536, b".")


@pytest.mark.parametrize(("name", "least"), [("devices", 28), ("hostile_rings", 40)])
def test_checks_over_mmio(gcc_build: Build, name: str, least: int, tmp_path: Path) -> None:
    check_tap(run(gcc_build[name], "--transport", "mmio", *disks(tmp_path)), least)


@pytest.mark.parametrize("vcpus", ["1", "4"])
def test_events_with(gcc_build: Build, vcpus: str) -> None:
    check_tap(run(gcc_build["events"], "--vcpus", vcpus), 45)


@pytest.mark.parametrize(
    ("how", "report"),
    [
        ("page", r"exception 14 \(error code 0x6\) on vCPU 0 .* fault address 0x10\b.*page fault"),
        ("text", r"exception 14 \(error code 0x7\)"),
        ("opcode", r"exception 6 .*invalid opcode"),
        ("divide", r"exception 0 .*divide error"),
        ("breakpoint", r"exception 3 .*breakpoint"),
        ("protection", r"exception 13 .*general protection"),
        ("panic", r"panic on vCPU 0 .*wanted, with\\na control character and an argument"),
        ("vcpu", r"exception 14 .* on vCPU 1"),
    ],
)
def test_crash(gcc_build: Build, how: str, report: str) -> None:
    assert re.search(report, run(gcc_build["crash"], "--cmdline", how, "--vcpus", "2", status=50))


def test_crash_without_a_stack(gcc_build: Build) -> None:
    assert "triple fault" in run(gcc_build["crash"], "--cmdline", "stack", status=51)


@pytest.mark.parametrize(
    ("what", "last_words"),
    [
        ("trace", f"flood: trace: 1001 rounds, then status {QUOTA}"),
        ("doorbell", "flood: doorbell: 20000 rounds, then status 0"),
        ("notify", "flood: notify: "),
        ("entropy", "flood: entropy: 20000 rounds, then status 0"),
        ("upcall", "flood: upcall: 20000 rounds, then status 0"),
        ("console", None),  # its last words are beyond the budget, too
    ],
)
def test_flood(gcc_build: Build, what: str, last_words: str | None, tmp_path: Path) -> None:
    """Rules CON-2, TRC-1: what is bounded is refused, the machine runs on and ends well."""
    console = bytearray()
    config = MachineConfig(
        gcc_build["flood"],
        command_line=what,
        console=console.extend,
        trace=tmp_path / "trace.json" if what == "trace" else None,
        budgets=Budgets(console_bytes=1 << 20, trace_marks=1000),
        timeout_s=90,
    )
    with Machine(config) as machine:
        outcome = machine.run()
    assert (outcome.reason, outcome.status) == ("POWEROFF", 0)
    assert len(console) <= 1 << 20
    if last_words:
        assert console.decode().startswith(last_words)
    else:
        assert len(console) == 1 << 20


def test_spin_is_stopped(gcc_build: Build) -> None:
    command = [sys.executable, "-m", "paravirt", "run", str(gcc_build["spin"]), "--timeout", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode not in (0, 1)
    assert done.stdout == "spin: from now on nothing happens\n"


def test_bench_reports(gcc_build: Build) -> None:
    output = run(gcc_build["bench"])
    assert [line.split('"figure": "')[1].split('"')[0] for line in output.splitlines()] == [
        "trap",
        "batch 1",
        "batch 32",
        "batch 256",
    ]
