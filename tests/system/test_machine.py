"""A machine's life as its user in Python sees it, on KVM."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import pytest

from paravirt import Machine, MachineConfig
from paravirt.errors import GuestCrashed, GuestReset, GuestTimeout, ImageTooLarge, TripleFault, WatchdogExpired
from tests.support.built import GUESTS
from tests.support.elf import Load
from tests.support.guests import RESET, UNDEFINED, WATCHDOG, call, guest, say, shutdown, write_guest

pytestmark = [pytest.mark.kvm]


def hello(**options: object) -> MachineConfig:
    return MachineConfig(GUESTS / "hello.elf", timeout_s=30, **options)  # type: ignore[arg-type]


def test_run() -> None:
    said = bytearray()
    with Machine(hello(console=said.extend)) as machine:
        outcome = machine.run()
    assert said == b"hello from a paravirt guest\n"
    assert (outcome.kind, outcome.reason, outcome.status) == ("shutdown", "POWEROFF", 0)
    assert outcome.statistics.console_bytes == len(said)
    assert outcome.statistics.vcpus[0].calls == outcome.statistics.vcpus[0].exits == 2


def test_a_machine_that_is_never_started_leaves_nothing() -> None:
    with Machine(hello(vcpus=3)):
        pass


def test_stop_from_another_thread() -> None:
    """A guest that loops for ever without an exit is stopped at once."""
    with Machine(MachineConfig(GUESTS / "spin.elf", vcpus=2)) as machine:
        machine.start()
        stopped: list[float] = []

        def stop() -> None:
            time.sleep(0.1)
            began = time.monotonic()
            machine.stop()
            stopped.append(time.monotonic() - began)

        thread = threading.Thread(target=stop)
        thread.start()
        assert machine.wait().kind == "stopped"
        thread.join()
    assert stopped[0] < 1


def test_timeout(tmp_path: Path) -> None:
    with (
        Machine(MachineConfig(write_guest(tmp_path / "spin", b""), timeout_s=0.2)) as machine,
        pytest.raises(GuestTimeout),
    ):
        machine.run()


def test_reset_starts_again_from_the_image(tmp_path: Path) -> None:
    said: list[bytes] = []
    image = write_guest(tmp_path / "again", say("again\n") + call(RESET), b"again\n")
    with Machine(MachineConfig(image, console=said.append, timeout_s=60)) as machine, pytest.raises(GuestReset):
        machine.run()
    assert len(said) > 2
    assert set(said) == {b"again\n"}


def test_watchdog(tmp_path: Path) -> None:
    image = write_guest(tmp_path / "hang", call(WATCHDOG, 50_000_000))
    with Machine(MachineConfig(image, timeout_s=10)) as machine, pytest.raises(WatchdogExpired):
        machine.run()


def test_a_watchdog_that_is_fed_does_not_bite(tmp_path: Path) -> None:
    image = write_guest(tmp_path / "fed", call(WATCHDOG, 10_000_000_000) + call(WATCHDOG, 0) + shutdown())
    with Machine(MachineConfig(image, timeout_s=10)) as machine:
        assert machine.run().kind == "shutdown"


def test_a_fault_without_gates_is_a_triple_fault(tmp_path: Path) -> None:
    image = write_guest(tmp_path / "fault", UNDEFINED)
    with Machine(MachineConfig(image, timeout_s=10)) as machine, pytest.raises(TripleFault, match="rip 0x200000"):
        machine.run()


def test_a_crash_comes_with_its_report() -> None:
    config = MachineConfig(GUESTS / "crash.elf", command_line="vcpu", vcpus=2, timeout_s=10)
    with Machine(config) as machine, pytest.raises(GuestCrashed) as caught:
        machine.run()
    report = caught.value.report
    assert (report.vcpu, report.vector) == (1, 14)
    assert report.fault_address < 4096, "page zero is not mapped (BOOT-2)"
    assert report.registers["rip"] == int(re.findall("rip (0x[0-9a-f]+)", str(caught.value))[0], 16)


def test_machines_side_by_side() -> None:
    """Several in one process, one console each."""
    heard: list[bytearray] = [bytearray() for _ in range(4)]

    def one(index: int) -> None:
        for _ in range(3):
            with Machine(hello(console=heard[index].extend)) as machine:
                machine.run()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bytes(h) for h in heard] == [b"hello from a paravirt guest\n" * 3] * 4


def test_a_hundred_lives_leave_nothing_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        with Machine(hello(vcpus=2)) as machine:
            machine.run()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_image_that_claims_to_be_huge_costs_nothing(tmp_path: Path) -> None:
    """Page tables for 4 PiB would take the host's memory before anybody looked."""
    image = guest(b"")
    image.loads.append(Load(0x400000, b"", memory_bytes=1 << 51))
    began = time.monotonic()
    with pytest.raises(ImageTooLarge), Machine(MachineConfig(image.write(tmp_path / "huge"))):
        pass
    assert time.monotonic() - began < 2
