"""gdb itself on our guests, at both levels and on both kinds of vCPU."""

from __future__ import annotations

import re
import shutil
import tarfile
import threading
from pathlib import Path

import pytest

from paravirt.boot.bundled import GUESTS
from paravirt.cli.run import _judge as judge
from paravirt.config import Disk, MachineConfig, Privilege
from paravirt.debug.address import GdbConfig
from paravirt.errors import GuestCrashed, GuestFailed, ParavirtError
from paravirt.machine import Machine
from paravirt.outcome import Outcome
from tests.support.gdb import gdb

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb here: apt-get install gdb"),
]
HELLO, CRASH = GUESTS / "hello.elf", GUESTS / "crash.elf"
levels = pytest.mark.parametrize("privilege", ["user", "supervisor"])


def run(config: MachineConfig, *commands: str, path: Path | None = None) -> tuple[str, Outcome | ParavirtError]:
    """What gdb says when it has the guest, and how the guest ended."""
    said: list[str] = []
    with Machine(config.replace(gdb=GdbConfig(path=path), timeout_s=60)) as machine:
        assert machine.gdb
        attach = f"target remote {machine.gdb.place}"
        thread = threading.Thread(target=lambda: said.append(gdb(config.image, attach, *commands)))
        thread.start()
        try:
            outcome: Outcome | ParavirtError = machine.run()
        except ParavirtError as error:
            outcome = error
    thread.join()
    return said[0], outcome


@levels
@pytest.mark.nested
def test_it_steps_and_breaks_once_the_guest_has_gates(privilege: Privilege) -> None:
    """What every KVM does, one under an emulated CPU among them."""
    said, outcome = run(
        MachineConfig(HELLO, privilege=privilege),
        "stepi", "p/x $rip - (long)pv_entry", "break pv_main", "continue", "bt 1", "stepi", "p $rip > pv_main",
        "delete", "continue",
    )  # fmt: skip
    assert "$1 = 0x1" in said, said
    assert "Breakpoint 1, pv_main () at guests/hello.c" in said, said
    assert "$2 = 1" in said, said
    assert isinstance(outcome, Outcome), said
    assert outcome.kind == "shutdown"


@levels
def test_it_breaks_steps_and_reads(privilege: Privilege) -> None:
    written: list[bytes] = []
    said, outcome = run(
        MachineConfig(HELLO, privilege=privilege, console=written.append),
        "break pv_start_paravirt", "continue", "stepi", "p/x $rip - (long)pv_start_paravirt", "break pv_main",
        "continue", "bt", "next", "step", "finish", "delete", "continue",
    )  # fmt: skip
    assert "Breakpoint 1, pv_start_paravirt ()" in said, said
    assert "Breakpoint 2, pv_main () at guests/hello.c" in said, said
    assert "$1 = 0x3" in said, said  # past mov %rdi, %rbx or the like, which has three bytes
    assert re.search("#3 .* in pv_entry ()", said), said
    assert "exited normally" in said, said
    assert isinstance(outcome, Outcome)
    assert outcome.kind == "shutdown"
    assert b"".join(written) == b"hello from a paravirt guest\n"


@levels
def test_registers_and_memory_are_written(privilege: Privilege) -> None:
    written: list[bytes] = []
    said, _ = run(
        MachineConfig(HELLO, privilege=privilege, console=written.append),
        "break pv_print", "continue", "set $r12 = 0x1234567890", "p/x $r12", "p/x $cs & 3",
        "set $xmm3.v2_int64[1] = 77", "set {char}($rdi) = 'H'", "stepi", "p/x $r12", "p $xmm3.v2_int64[1]", "p $mxcsr",
        "delete", "continue",
    )  # fmt: skip
    answers = [line.partition(" = ")[2] for line in said.splitlines() if line.startswith("$")]
    level = "0x3" if privilege == "user" else "0x0"
    assert answers == ["0x1234567890", level, "0x1234567890", "77", str(0x1F80)], said
    assert b"".join(written) == b"Hello from a paravirt guest\n"


@levels
def test_breakpoints_before_and_after_a_guest_negotiates(privilege: Privilege, tmp_path: Path) -> None:
    given, report = tmp_path / "in.tar", tmp_path / "report"
    with tarfile.open(given, "w") as archive:
        archive.add(__file__, "this")
    report.write_bytes(bytes(1 << 20))
    disks = Disk("input", given, read_only=True), Disk("report", report)
    said, outcome = run(
        MachineConfig(GUESTS / "demo.elf", vcpus=2, disks=disks, privilege=privilege),
        "break pv_main", "continue", "break pv_sha256_init", "continue", "bt", "delete", "continue",
    )  # fmt: skip
    assert "Breakpoint 1, pv_main ()" in said, said
    assert "hit Breakpoint 2, pv_sha256_init ()" in said or "Breakpoint 2, pv_sha256_init ()" in said, said
    assert isinstance(outcome, Outcome), said
    assert (outcome.kind, outcome.status) == ("shutdown", 0)


@levels
def test_vcpus_are_threads_and_a_crash_is_looked_at_before_the_end(privilege: Privilege) -> None:
    said, outcome = run(
        MachineConfig(CRASH, command_line="vcpu", vcpus=2, privilege=privilege), "break pv_start_cpu", "continue",
        "info threads", "delete", "continue", "p $_thread", "continue",
    )  # fmt: skip
    assert "Breakpoint 1, " in said, said
    assert '"vCPU 0"' in said, said
    assert '"vCPU 1"' in said, said
    assert "SIGABRT" in said, said
    assert "$1 = 2" in said, said
    assert isinstance(outcome, GuestCrashed)


@levels
def test_a_killed_guest_has_ended(privilege: Privilege) -> None:
    said, outcome = run(MachineConfig(HELLO, privilege=privilege), "kill")
    assert "killed" in said
    assert isinstance(outcome, Outcome)
    assert outcome[:2] == ("stopped", "DEBUGGER")
    with pytest.raises(GuestFailed, match="^a debugger ended the guest$"):
        judge(outcome)


@levels
def test_breakpoints_of_the_guests_own_stop(privilege: Privilege) -> None:
    said, outcome = run(
        MachineConfig(CRASH, command_line="breakpoint", privilege=privilege), "continue", "x/i $rip - 1", "continue"
    )
    assert "SIGTRAP" in said, said
    assert "int3" in said, said
    assert isinstance(outcome, Outcome)
    assert outcome.kind == "shutdown", "it goes on after it"


def test_a_core_opens(tmp_path: Path) -> None:
    core = tmp_path / "core"
    script = ("break pv_print", "continue", f"monitor dump {core}", "kill")
    assert "it writes no files" in run(MachineConfig(HELLO, vcpus=2), *script)[0]
    run(MachineConfig(HELLO, vcpus=2), *script, path=tmp_path / "gdb")
    said = gdb(HELLO, "info threads", "bt", "x/s $rdi", "p $mxcsr", core=[str(core)])
    assert "in pv_main ()" in said, said
    assert "hello from a paravirt guest" in said, said
    assert core.stat().st_blocks * 512 < 8 << 20
