"""A plain guest and its PC: serial port, reset, power-off, vCPUs that start one another by IPIs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from paravirt.config import MachineConfig
from paravirt.machine import Machine
from tests.support.gdb import debugged, symbols
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.kvm, pytest.mark.only_kvm("the software vCPU has no PC around it"), pytest.mark.nested]
SOURCE = Path(__file__).parent / "guests" / "pc.S"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("plain") / "pc.elf"
    flags = ["-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x200000,--build-id=none,-z,noexecstack,-e,start"]
    subprocess.run(["cc", *flags, "-o", str(made), str(SOURCE)], check=True)
    return made


def test_input_reset_and_power_off(image: Path, tmp_path: Path) -> None:
    said: list[bytes] = []
    disk = tmp_path / "initrd"
    disk.write_bytes(b"initial")
    config = MachineConfig(image, console=said.append, console_input=b"abrcro", timeout_s=60, initrd=disk)
    with Machine(config) as machine:
        disk.unlink()  # what the machine was given is the machine's, for as long as that lives
        outcome = machine.run()
        assert machine.resets == 2
        assert machine.memory.read(machine.layout.disk.gpa, machine.layout.disk.size_bytes) == b"initial"
    assert (outcome.kind, outcome.reason, outcome.status) == ("shutdown", "POWEROFF", 0)
    assert b"".join(said) == b">ab>c>"


def test_input_that_comes_late(image: Path) -> None:
    read, write = os.pipe()
    try:
        told: list[bytes] = []

        def console(text: bytes) -> None:
            told.append(text)
            if b"".join(told) == b">":
                os.write(write, b"x")
            elif b"".join(told) == b">x":
                os.write(write, b"o")

        with Machine(MachineConfig(image, console=console, console_input=read, timeout_s=60)) as machine:
            assert machine.run().reason == "POWEROFF"
        assert b"".join(told) == b">x"
    finally:
        os.close(read)
        os.close(write)


def test_a_cpu_that_is_started_by_ipis(image: Path) -> None:
    """It leaves KVM_RUN for the first time in the midst of its code, which nobody has heard of by then."""
    read, write = os.pipe()
    os.write(write, b"s")
    try:
        told: list[bytes] = []

        def console(text: bytes) -> None:
            told.append(text)
            if b"A" in text:
                os.write(write, b"o")

        with Machine(MachineConfig(image, vcpus=2, console=console, console_input=read, timeout_s=60)) as machine:
            outcome = machine.run()
        assert b"".join(told) == b">A"
        assert outcome.reason == "POWEROFF"
        assert [vcpu.state for vcpu in outcome.statistics.vcpus] == ["RUNNING", "RUNNING"]
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("vcpus", [1, 3])
def test_a_debugger_holds_those_that_wait_for_ipis(image: Path, vcpus: int) -> None:
    """They wait in KVM_RUN, during which KVM answers nobody."""
    config = MachineConfig(image, vcpus=vcpus, console_input=b"o", console=lambda _: None, timeout_s=60)
    with debugged(config) as (_, gdb):
        assert gdb.ask(b"?").startswith(b"T05")
        assert gdb.ask(b"c") == b"W00"


def test_a_debugger_that_goes_away_leaves_no_breakpoint(image: Path) -> None:
    """The guest runs, and comes there later."""
    read, write = os.pipe()
    try:
        config = MachineConfig(image, console_input=read, console=lambda _: None, timeout_s=60)
        with debugged(config) as (machine, gdb):
            assert gdb.ask(b"Z0,%x,1" % symbols(image)["off"]) == b"OK"
            gdb.send(b"c")
            debugger = machine.debugger
            assert debugger
            wait_for(lambda: not debugger.stopped, "it does not run")
            gdb.socket.close()
            wait_for(lambda: not debugger.attached, "it is still there")
            os.write(write, b"o")
            assert machine.wait(60).reason == "POWEROFF"
    finally:
        os.close(read)
        os.close(write)
