"""Guests that use the library, on our host: every check must hold, at both levels, with and without poison."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt.config import Budgets, MachineConfig
from paravirt.machine import Machine
from tests.guest_drivers.conftest import Build
from tests.support.tree import ROOT

pytestmark = pytest.mark.kvm

LINE = re.compile(r"(not ok|ok) (\d+) - (.+)")
F = VIRTIO_FEATURE
RING = F.RING_PACKED | F.IN_ORDER | F.EVENT_IDX | F.INDIRECT_DESC
LEAST = {"library": 44, "callring": 20, "devices": 28}
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
    """The disks of devices."""
    (tmp_path / "scratch").write_bytes(bytes(1 << 20))
    (tmp_path / "fixed").write_bytes(b"fixed".ljust(65536, b"."))
    return ["--disk", f"scratch={tmp_path / 'scratch'}"]


@pytest.mark.parametrize("mode", ["user", "user --poison", "supervisor --poison"])
@pytest.mark.parametrize("name", LEAST)
def test_checks(build: Build, name: str, mode: str, tmp_path: Path) -> None:
    options = ["--vcpus", "2", "--privilege", *mode.split()]
    if name == "devices":
        options += [*disks(tmp_path), "--disk", f"fixed={tmp_path / 'fixed'}"]
    output = run(build[name], *options)
    check_tap(output, LEAST[name])
    if name == "devices":
        assert (tmp_path / "fixed").read_bytes() == b"fixed".ljust(65536, b".")


@pytest.mark.parametrize("transport", ["calls", "mmio"])
@pytest.mark.parametrize("refused", [0, F.RING_PACKED, F.IN_ORDER, F.EVENT_IDX | F.INDIRECT_DESC, RING])
def test_rings(gcc_build: Build, tmp_path: Path, transport: str, refused: int) -> None:
    """Devices work over every kind of ring that they offer."""
    options = ["--transport", transport, "--cmdline", f"virtio.refuse={refused:#x}"]
    output = run(gcc_build["devices"], *options, *disks(tmp_path))
    check_tap(output, LEAST["devices"] - 5)
    assert ("# split rings" if refused & F.RING_PACKED else "# packed rings") in output


@pytest.mark.parametrize("vcpus", ["1", "4"])
def test_library_with(gcc_build: Build, vcpus: str) -> None:
    check_tap(run(gcc_build["library"], "--vcpus", vcpus), 35)


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


def test_boot_is_refused(gcc_build: Build) -> None:
    """Rule BOOT-3: an unknown mandatory record refuses the boot, and the guest says which; others are skipped."""

    def outcome(*records: tuple[int, int, bytes]) -> tuple[str, int]:
        with Machine(MachineConfig(gcc_build["hello"], boot_records=records, timeout_s=60)) as machine:
            done = machine.run()
        return done.reason, done.status

    assert outcome((0x8001, 0, b"optional"), (0x7777, 0, b"")) == ("POWEROFF", 0)
    assert outcome((0x8001, 0, b""), (0x8002, 1, b"mandatory")) == ("BOOT_REFUSED", 0x8002)


def test_paravirt_host_reached_by_pvh(tmp_path: Path) -> None:
    """Rules CPUID-1 and CPUID-2: a guest without our notes, entered by PVH, finds the host all the same."""
    source = tmp_path / "found.c"
    source.write_text(
        '#include "paravirt/guest.h"\n'
        "int pv_main(void)\n{\n"
        '\tpv_print("%d %u %d %s\\n", pv_guest.paravirt, pv_guest.cpus, pv_now_ns() > 0, pv_guest.command_line);\n'
        "\treturn pv_upcalls_on() < 0;\n}\n"
    )
    make = ["make", "-s", "-C", str(ROOT / "guest_drivers"), f"GUEST={source}", f"OUT={tmp_path}"]
    subprocess.run(make, check=True, capture_output=True, timeout=100)
    assert run(tmp_path / "found.elf", "--vcpus", "3", "--cmdline", "words").startswith("1 3 1 words")


def test_demo_without_what_it_can_do_without(gcc_build: Build, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "input", "w") as tar:
        tar.add(__file__, "this")
    (tmp_path / "report").write_bytes(bytes(512))
    attached = [f"--disk={name}={tmp_path / name}" for name in ("input", "report")]
    output = run(gcc_build["demo"], *attached, "--deny", "trace,memory,continuity", "--memory", "4M")
    assert "demo: ABI 1.0, 8 services agreed" in output
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert (tmp_path / "report").read_text().startswith(f"{digest}  {Path(__file__).stat().st_size}  this\n\0")


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
        "ring batch 32",
        "ring depth 1",
    ]
