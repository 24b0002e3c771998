"""A machine's life as its user in Python sees it, on KVM."""

from __future__ import annotations

import json
import os
import re
import resource
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from paravirt import Budgets, Disk, Machine, MachineConfig
from paravirt.errors import (
    GuestCrashed,
    GuestReset,
    GuestTimeout,
    HostLimit,
    ImageTooLarge,
    OutputError,
    ParavirtError,
    TripleFault,
    WatchdogExpired,
)
from paravirt.memory import GuestMemory
from paravirt.outcome import Statistics
from tests.support.built import GUESTS
from tests.support.elf import BLOCK, CONSOLE, ENTROPY, OPTIONAL, SPIN, Load, Note, manifest, pvh, require
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


@pytest.mark.parametrize("observer", ["trace", "record"])
def test_it_is_closed_again(tmp_path: Path, observer: str) -> None:
    """What was a recording's descriptor may be somebody else's by now."""
    config = hello(memory_bytes=4 << 20).replace(**{observer: tmp_path / "file"})
    with Machine(config) as machine:
        assert machine.run().status == 0
        machine.close()
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(32)]
    machine.close()
    for fd in fds:
        os.close(fd)


def test_who_counts_while_it_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any thread may look at any time: what it looks at stays until it has looked."""
    look, looking, given_back = GuestMemory.statistics, threading.Event(), threading.Event()
    found: list[object] = []

    def slowly(memory: GuestMemory, native: Any) -> Any:
        if threading.current_thread() is reader:
            looking.set()
            given_back.wait(0.3)
        return look(memory, native)

    def read() -> None:
        try:
            found.append(machine.statistics().memory.total_bytes)
        except OSError as error:
            found.append(error)

    monkeypatch.setattr(GuestMemory, "statistics", slowly)
    reader = threading.Thread(target=read)
    with Machine(MachineConfig(write_guest(tmp_path / "spin", SPIN), memory_bytes=4 << 20)) as machine:
        machine.start()
        reader.start()
        assert looking.wait(60)
        machine.close()
        given_back.set()
        reader.join()
    assert found == [4 << 20]


def test_a_machine_that_is_never_started_leaves_nothing() -> None:
    with Machine(hello(vcpus=3)):
        pass


def test_a_machine_outside_its_context_says_so() -> None:
    machine = Machine(hello())
    with pytest.raises(RuntimeError, match="with Machine"):
        machine.run()
    with machine:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        machine.start()


def test_every_outcome_has_its_statistics(tmp_path: Path) -> None:
    image = write_guest(tmp_path / "short", say("again\n") + shutdown(), b"again\n")
    with Machine(MachineConfig(image)) as machine:
        machine.start()
        outcome = machine.wait()
        assert (outcome.kind, outcome.statistics.console_bytes) == ("shutdown", 6)
        machine.stop()
        assert machine.wait().statistics == machine.statistics()
    assert machine.wait().statistics == machine.statistics()


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
    """SYS-3."""
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
    """SYS-4."""
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


def test_a_trace_that_cannot_be_written_is_said_at_the_end() -> None:
    with pytest.raises(OutputError, match="No space left"), Machine(hello(trace=Path("/dev/full"))) as machine:
        assert machine.run().kind == "shutdown"


@pytest.mark.parametrize(("notes", "most"), [([require()], 19), ([pvh()], 17)])
def test_more_devices_than_interrupt_lines(tmp_path: Path, notes: list[Note], most: int) -> None:
    """A line too many would be the upcall of a vCPU."""
    disks = [Disk(f"d{i}", tmp_path / f"d{i}") for i in range(most + 1)]
    for disk in disks:
        disk.path.write_bytes(bytes(4096))
    if notes == [require()]:
        notes = [*notes, manifest(*((BLOCK, OPTIONAL, disk.name) for disk in disks))]
    image = write_guest(tmp_path / "guest", b"", notes=notes)
    with Machine(MachineConfig(image, disks=tuple(disks[:most]), transport="mmio")):
        pass
    with pytest.raises(HostLimit, match="fewer"), Machine(MachineConfig(image, disks=tuple(disks), transport="mmio")):
        pass


def test_open_files_are_used_up(tmp_path: Path) -> None:
    """Wherever it happens: it is said, and nothing is left behind."""
    devices = manifest((CONSOLE, 0, "console"), (ENTROPY, 0, "entropy"))
    image = write_guest(tmp_path / "guest", b"", notes=[require(), devices])
    first = os.dup(0)
    os.close(first)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    made = 0
    try:
        for more in range(20):
            resource.setrlimit(resource.RLIMIT_NOFILE, (first + more, hard))
            try:
                with Machine(MachineConfig(image, vcpus=2, trace=tmp_path / "trace")):
                    made += 1
            except ParavirtError as error:
                assert re.search("open files", str(error))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 0 < made < 20


def test_one_trace_holds_all_lives_of_a_machine(tmp_path: Path) -> None:
    image = write_guest(tmp_path / "again", call(RESET))
    trace = tmp_path / "trace.json"
    config = MachineConfig(image, timeout_s=60, trace=trace)
    with Machine(config) as machine, pytest.raises(GuestReset):
        machine.run()
    events = json.loads(trace.read_text())["traceEvents"]
    assert [e["args"]["name"] for e in events if e.get("name") == "thread_name"] == ["vCPU 0"]
    assert sum(e["name"] == "system.reset" for e in events if e["ph"] == "X") > 2


def test_a_machine_that_was_given_back_still_knows_its_counts() -> None:
    machine = Machine(hello())
    assert machine.statistics() == Statistics()
    with machine:
        assert machine.statistics().run_ns == 0, "it has not begun"
        last = machine.run().statistics
        assert machine.statistics() == last, "nothing runs any more"
    assert machine.statistics() == last
    assert last.vcpus[0].calls > 0 < last.run_ns


def test_a_trace_ends_at_its_budget(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    budgets = Budgets(trace_events=10)
    config = MachineConfig(GUESTS / "conformance_calls.elf", timeout_s=60, trace=trace, budgets=budgets)
    with Machine(config) as machine:
        machine.run()
    written = json.loads(trace.read_text())
    assert sum(e["ph"] != "M" for e in written["traceEvents"]) == 10
    assert written["otherData"]["lost"] > 0


def test_a_machine_is_started_once() -> None:
    with Machine(MachineConfig(GUESTS / "spin.elf")) as machine:
        machine.start()
        with pytest.raises(RuntimeError, match="already"):
            machine.start()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (b"\x31\xe4\x50", "stack overflowed or was never set"),  # xor %esp, %esp; push %rax
        (b"\x48\xbc" + struct.pack("<Q", 0x400000) + b"\xf4", "wait by vcpu.block"),  # mov $0x400000, %rsp; hlt
        (b"\x48\xbc" + struct.pack("<Q", 0x400000) + b"\xee", "take them from boot_abi"),  # out %al, (%dx)
        (b"\x48\xbc" + struct.pack("<Q", 0x400000) + b"\xa2" + struct.pack("<Q", 8), "page fault was at 0x8"),
    ],
)
def test_a_triple_fault_comes_with_a_hint(code: bytes, text: str, tmp_path: Path) -> None:
    image = write_guest(tmp_path / "fault", code)
    with Machine(MachineConfig(image, timeout_s=10)) as machine, pytest.raises(TripleFault, match=text):
        machine.run()


def test_every_queue_has_a_track(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_bytes(bytes(1 << 20))
    trace = tmp_path / "trace.json"
    config = MachineConfig(
        GUESTS / "devices.elf", disks=(Disk("scratch", tmp_path / "scratch"),), trace=trace, timeout_s=60
    )
    with Machine(config) as machine:
        machine.run()
    events = json.loads(trace.read_text())["traceEvents"]
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    queues = {"disk scratch queue 0", "entropy dice queue 0", *(f"console terminal queue {n}" for n in range(2))}
    assert set(tracks.values()) == {"vCPU 0", *queues}
    served = {tracks[e["tid"]] for e in events if e.get("cat") == "request" and "args" in e}
    assert served >= queues - {"console terminal queue 0"}, "nobody types"
