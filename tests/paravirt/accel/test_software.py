"""Machines on the software vCPU: how one is chosen, how it ends, and what is special about its engine."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from paravirt import Machine, MachineConfig
from paravirt._native import ffi, lib
from paravirt.cli import main
from paravirt.errors import CpuNotOffered, EngineLost, KvmMissing, SoftwareMissing, SoftwareUnsupported
from tests.support.built import GUESTS
from tests.support.elf import CODE_GPA, SPIN, Elf, Load, R, W, X, cpu, privilege, pvh, require
from tests.support.guests import CONSOLE_WRITE, DATA_GPA, call, say, shutdown, write_guest
from tests.support.tree import ROOT
from tests.support.waiting import wait_for

NOWHERE = Path("/nonexistent/kvm")
START = 5 << 16
SEND, UPCALL = 3 << 16, 3 << 16 | 1
BLOCK = 5 << 16 | 3
FOREVER = (1 << 64) - 1
STACK = b"\x48\xbc" + struct.pack("<Q", 0x400000)  # mov rsp


def software(image: Path, **options: Any) -> MachineConfig:
    return MachineConfig(image, accel="software", timeout_s=options.pop("timeout_s", 30), **options)


def engine(machine: Machine) -> int:
    """The engine's process."""
    process = machine.accelerator._engine  # type: ignore[union-attr]
    assert process is not None
    return process.pid


@pytest.mark.parametrize("mode", ["user", "supervisor"])
def test_hello(mode: Any) -> None:
    said = bytearray()
    with Machine(software(GUESTS / "hello.elf", console=said.extend, privilege=mode)) as machine:
        outcome = machine.run()
    assert said == b"hello from a paravirt guest\n"
    assert outcome.statistics.vcpus[0].calls == outcome.statistics.vcpus[0].exits == 2


# ---- which accelerator ----


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite's own choice is not this test's."""
    monkeypatch.delenv("PARAVIRT_ACCEL")


@pytest.mark.usefixtures("undecided")
def test_auto_is_software_where_there_is_no_kvm(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("paravirt.cli.run.KVM_DEVICE", NOWHERE)
    assert main(["run", str(GUESTS / "hello.elf")]) == 0
    out, err = capfd.readouterr()
    assert out == "hello from a paravirt guest\n"
    assert err.startswith("paravirt: NO KVM: cannot open /nonexistent/kvm")
    assert err.count("\n") == 1
    assert main(["run", str(GUESTS / "hello.elf"), "--accel", "kvm"]) == KvmMissing.exit_status
    assert main(["run", str(GUESTS / "hello.elf"), "--accel", "software"]) == 0
    assert "NO KVM" not in capfd.readouterr().err, "it was asked for"


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARAVIRT_ACCEL", "software")
    assert MachineConfig(Path("x")).accel == "software"
    assert MachineConfig(Path("x"), accel="kvm").accel == "kvm"


@pytest.mark.usefixtures("undecided")
def test_without_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    image = GUESTS / "hello.elf"
    with pytest.raises(SoftwareMissing, match=r"pip install 'paravirt\[software\]'"), Machine(software(image)):
        pass
    with (
        pytest.raises(KvmMissing, match=r"modprobe|load the module"),
        Machine(MachineConfig(image, kvm_device=NOWHERE)),
    ):
        pass


def test_a_level_of_cpu_that_the_engine_has_not(tmp_path: Path) -> None:
    image = write_guest(tmp_path / "guest", shutdown(), notes=[require(), privilege(0), cpu(3)])
    with pytest.raises(CpuNotOffered), Machine(software(image)):
        pass


def test_nothing_of_the_engine_is_in_this_process() -> None:
    program = (
        "import sys; from pathlib import Path; from paravirt import Machine, MachineConfig\n"
        f"with Machine(MachineConfig(Path({str(GUESTS / 'hello.elf')!r}), accel='software')) as m: m.run()\n"
        "assert not any('unicorn' in name for name in sys.modules)\n"
        "assert 'unicorn' not in Path('/proc/self/maps').read_text()\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


# ---- how it ends ----


def test_an_engine_that_is_killed(tmp_path: Path) -> None:
    with Machine(software(write_guest(tmp_path / "spin", b""))) as machine:
        machine.start()
        os.kill(engine(machine), signal.SIGKILL)
        with pytest.raises(EngineLost, match="SIGKILL"):
            machine.wait(10)


def test_an_engine_that_is_killed_while_all_vcpus_wait(tmp_path: Path) -> None:
    with Machine(software(write_guest(tmp_path / "idle", call(BLOCK, FOREVER)), vcpus=2)) as machine:
        machine.start()
        time.sleep(0.3)
        os.kill(engine(machine), signal.SIGKILL)
        with pytest.raises(EngineLost, match="SIGKILL"):
            machine.wait(10)


def test_an_engine_that_hangs_does_not_hold_the_host(tmp_path: Path) -> None:
    with Machine(software(write_guest(tmp_path / "spin", b""))) as machine:
        machine.start()
        process = engine(machine)
        os.kill(process, signal.SIGSTOP)
        began = time.monotonic()
        machine.stop()
        assert time.monotonic() - began < 10
    assert not Path(f"/proc/{process}").exists()


def test_the_engine_ends_with_its_host() -> None:
    program = (
        "import os; from pathlib import Path; from paravirt import Machine, MachineConfig\n"
        f"machine = Machine(MachineConfig(Path({str(GUESTS / 'spin.elf')!r}), accel='software')).__enter__()\n"
        "machine.start(); print(machine.accelerator._engine.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60)
    wait_for(lambda: not running(int(done.stdout)), "the engine lives on")


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_vcpus_that_wait_take_no_time(tmp_path: Path) -> None:
    with Machine(software(write_guest(tmp_path / "idle", call(BLOCK, FOREVER)), vcpus=4)) as machine:
        machine.start()
        wait_for(lambda: machine.vcpus[0].native.state.state == lib.PV_VCPU_STATE_BLOCKED, "it does not wait")
        stat = Path(f"/proc/{engine(machine)}/stat")
        before = stat.read_text().split()[13:15]
        time.sleep(0.5)
        assert sum(map(int, stat.read_text().split()[13:15])) - sum(map(int, before)) <= 1, "clock ticks"


def test_what_it_does_not_do_is_said(tmp_path: Path) -> None:
    nowhere = b"\xb8" + struct.pack("<I", 0xE0000000) + b"\xff\xe0"  # mov eax; jmp rax, in PVH's 32 bits
    image = Elf([Load(data=nowhere)], [pvh()]).write(tmp_path / "x")
    text = "code at 0xe0000000, which is not RAM"
    with Machine(software(image)) as machine, pytest.raises(SoftwareUnsupported, match=text):
        machine.run()


# ---- what its engine does not do by itself ----


def gates(machine: Machine, vectors: dict[int, int]) -> None:
    """Trap gates to CPL 3."""
    for vector, entry in vectors.items():
        gate = struct.pack("<HHBBHII", entry & 0xFFFF, 0x23, 0, 0xEF, entry >> 16, 0, 0)
        machine.memory.write(machine.layout.idt_gpa + vector * 16, gate)


def test_exceptions_one_after_the_other_with_their_error_codes(tmp_path: Path) -> None:
    """The engine would make a double fault of the second: it never hears that the first was delivered."""
    # pop rax; mov [rcx], rax; add rcx, 8; add qword [rsp], 2; iretq
    handler = b"\x58\x48\x89\x01\x48\x83\xc1\x08\x48\x83\x04\x24\x02\x48\xcf"
    load = b"\x8e\xd8"  # mov ds, eax
    body = STACK + b"\xb9" + struct.pack("<I", DATA_GPA)
    for selector in (0x1238, 0x2340, 0x3458):
        body += b"\xb8" + struct.pack("<I", selector) + load
    body += b"\xf4\x90" + shutdown()  # hlt at CPL 3
    code = b"\xe9" + struct.pack("<i", len(handler)) + handler + body
    with Machine(software(write_guest(tmp_path / "gp", code, bytes(64)))) as machine:
        gates(machine, {13: CODE_GPA + 5})
        assert machine.run().status == 0
        assert struct.unpack("<4Q", machine.memory.read(DATA_GPA, 32)) == (0x1238, 0x2340, 0x3458, 0)


@pytest.mark.parametrize(("store", "operand"), [(b"\xc6", b"\x01"), (b"\x48\x89", b"")], ids=["byte", "64 bits"])
def test_a_page_fault_has_every_bit_of_its_address(tmp_path: Path, store: bytes, operand: bytes) -> None:
    """vcpu.fault_address in the handler; mov byte [0x123], 1 or mov [0x123], rax."""
    handler = b"\x48\x83\xc4\x08" + call(5 << 16 | 5) + b"\x48\x89\x14\x25" + struct.pack("<I", DATA_GPA)
    handler += shutdown() + SPIN
    body = STACK + store + b"\x04\x25" + struct.pack("<I", 0x123) + operand
    code = b"\xe9" + struct.pack("<i", len(handler)) + handler + body
    with Machine(software(write_guest(tmp_path / "pf", code, bytes(64)))) as machine:
        gates(machine, {14: CODE_GPA + 5})
        assert machine.run().status == 0
        assert struct.unpack("<Q", machine.memory.read(DATA_GPA, 8)) == (0x123,)


def test_a_slice_ends_between_instructions(tmp_path: Path) -> None:
    """What is done in part would be done once more: a sum in memory, with the slices of a second vCPU in between."""
    rounds = 3_000_000
    add = b"\x48\xff\x04\x25" + struct.pack("<I", DATA_GPA)  # inc qword [DATA_GPA]
    add += b"\x48\x83\x04\x25" + struct.pack("<I", DATA_GPA + 8) + b"\x02"  # add qword [DATA_GPA + 8], 2
    loop = add * 4 + b"\xff\xc9"  # dec ecx
    body = STACK + b"\xb9" + struct.pack("<I", rounds) + loop + b"\x0f\x85" + struct.pack("<i", -len(loop) - 6)
    other = CODE_GPA + 4096
    code = call(START, 1, other, 0x400000) + body + shutdown()
    loads = [
        Load(CODE_GPA, code + SPIN, flags=R | X),
        Load(other, SPIN, flags=R | X),
        Load(DATA_GPA, bytes(16), flags=R | W),
    ]
    image = Elf(loads, [require()]).write(tmp_path / "sum")
    with Machine(software(image, vcpus=2)) as machine:
        assert machine.run().status == 0
        assert struct.unpack("<2Q", machine.memory.read(DATA_GPA, 16)) == (4 * rounds, 8 * rounds)


def test_an_interrupt_that_came_while_if_was_clear_comes_after_sti(tmp_path: Path) -> None:
    """To a vCPU that runs alone and makes no exit."""
    vector = 0x40
    handler = shutdown(status=3) + SPIN
    body = STACK + call(UPCALL, vector) + b"\xfa" + call(SEND, 0, 20)  # cli
    body += b"\xb9" + struct.pack("<I", 1_000_000) + b"\xff\xc9\x75\xfc" + b"\xfb"  # mov ecx; dec ecx, jnz; sti
    code = b"\xe9" + struct.pack("<i", len(handler)) + handler + body + SPIN
    image = write_guest(tmp_path / "if", code)
    with Machine(software(image, privilege="supervisor", timeout_s=10)) as machine:
        entry = CODE_GPA + 5
        gate = struct.pack("<HHBBHII", entry & 0xFFFF, 0x08, 0, 0x8E, entry >> 16, 0, 0)
        machine.memory.write(machine.layout.idt_gpa + vector * 16, gate)
        assert machine.run().status == 3


def test_code_that_is_written_after_its_page_ran(tmp_path: Path) -> None:
    """The trap's instruction comes into a page that was looked through without it."""
    use = b"\xe8" + struct.pack("<i", 0)
    said = bytearray()
    code = STACK
    for patch in (b"\xc3\x90", b"\xef\xc3"):  # ret; then out dx, eax; ret
        code += b"\x66\xc7\x04\x25" + struct.pack("<I", DATA_GPA) + patch  # mov word [DATA_GPA]
        code += call(CONSOLE_WRITE, DATA_GPA + 16, 3)[:-1]
        code += use[:1] + struct.pack("<i", DATA_GPA - (CODE_GPA + len(code) + 5))
    code += shutdown()
    loads = [Load(CODE_GPA, code + SPIN, flags=R | X), Load(DATA_GPA, bytes(16) + b"hey", flags=R | W | X)]
    image = Elf(loads, [require(), privilege(0)]).write(tmp_path / "patched")
    with Machine(software(image, console=said.extend)) as machine:
        assert machine.run().status == 0
    assert said == b"hey"


@pytest.mark.parametrize("before", range(-1, 3))
def test_a_trap_at_the_edge_of_a_page(tmp_path: Path, before: int) -> None:
    """In a block that began in the page before, whose end it is near, at or past."""
    trap = shutdown(status=7)
    code = (trap[:-1]).rjust(4096 - before, b"\x90") + trap[-1:]
    with Machine(software(write_guest(tmp_path / "edge", code), timeout_s=10)) as machine:
        assert machine.run().status == 7


def test_the_guests_clock_is_the_hosts(tmp_path: Path) -> None:
    """A deadline by vcpu.block, in time of the page, takes as long for the host."""
    image = write_guest(tmp_path / "clock", call(BLOCK, 300_000_000) + say("x") + shutdown(), b"x")
    heard: list[float] = []
    with Machine(software(image, console=lambda _: heard.append(time.monotonic()))) as machine:
        machine.start()
        began = time.monotonic()
        machine.wait(20)
    assert 0.25 < heard[0] - began < 3


def test_the_counters_frequency_is_measured_well() -> None:
    """The time page makes good for 500 ppm; what two measurements differ by is a bound of their error."""
    machine, software_ = ffi.new("struct pv_machine *"), ffi.new("struct pv_software *")
    measured = []
    for _ in range(5):
        lib.pv_software_init(software_, machine)
        measured.append(lib.pv_software_counter_hz(software_))
    assert (max(measured) - min(measured)) / min(measured) < 100e-6
