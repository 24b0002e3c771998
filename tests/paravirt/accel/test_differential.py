"""The same guest on KVM and on the software vCPU: the same calls with the same answers, one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi import SERVICES
from paravirt import Machine, MachineConfig
from paravirt.demo import run_demo
from paravirt.recording.reader import Call, read
from tests.support.built import GUESTS

pytestmark = [pytest.mark.kvm, pytest.mark.only_kvm("compares it with the software vCPU")]

# Left out: virtqueue and base count what depends on who is faster, discovery what CPUID says at CPL 3.
IMAGES = "hello conformance_calls conformance_console conformance_device conformance_entropy conformance_event \
    conformance_memory conformance_notify conformance_range conformance_system conformance_trace conformance_trap \
    conformance_vcpu".split()

WRITE, DEADLINE = SERVICES["console"].id("write"), SERVICES["time"].id("deadline")
SEND = SERVICES["event"].id("send")
CHANGING = re.compile(rb"(?<=entropy )[0-9a-f]+|\d+")  # in what a guest says
# How often somebody waited or looked whether another is ready is a matter of time; so is how much is done at once.
WAITS = frozenset(
    SERVICES[service].id(call)
    for service, call in (
        ("vcpu", "block"),
        ("vcpu", "state"),
        ("device", "status"),
        ("device", "notify"),
        ("memory", "discard"),
    )
)


def trace(path: Path, vcpu: int) -> Iterator[tuple[Any, ...]]:
    """What vCPU `vcpu` asked and was answered, without times, and without sends that only say again what one said."""
    for life in read(path):
        last: tuple[Any, ...] = ()
        for call in life.calls:
            if call.vcpu == vcpu and call.id not in WAITS:
                before, last = last, plain(call)
                if call.id != SEND or last != before:
                    yield last


def plain(call: Call) -> tuple[Any, ...]:
    if call.id == DEADLINE:
        return call.name, call.status, call.value
    if call.id == WRITE and call.status == 0:
        return call.name, CHANGING.sub(b"N", b"".join(buffer.data for buffer in call.buffers))
    return call.name, call.road, call.args, call.status, call.value


def test_calls_are_told_apart(tmp_path: Path) -> None:
    """The comparison can fail: another command line, another call."""
    for name, line in (("one", "page"), ("two", "divide")):
        config = MachineConfig(GUESTS / "crash.elf", record=tmp_path / name, command_line=line, timeout_s=20)
        with Machine(config) as machine, pytest.raises(Exception, match="crashed"):
            machine.run()
    assert list(trace(tmp_path / "one", 0)) != list(trace(tmp_path / "two", 0))


@pytest.mark.parametrize("privilege", ["user", "supervisor"])
@pytest.mark.parametrize("image", IMAGES)
def test_guests_that_judge(image: str, privilege: Any, tmp_path: Path) -> None:
    for accel in ("kvm", "software"):
        said: list[bytes] = []
        config = MachineConfig(
            GUESTS / f"{image}.elf",
            accel=accel,
            console=said.append,
            vcpus=2,
            privilege=privilege,
            record=tmp_path / accel,
            timeout_s=90,
        )
        with Machine(config) as machine:
            assert machine.accelerator.name == accel
            assert machine.run().status == 0, re.findall(rb"(?:# .*\n)*not ok.*", b"".join(said))
    for vcpu in range(2):
        expected = list(trace(tmp_path / "kvm", vcpu))
        assert list(trace(tmp_path / "software", vcpu)) == expected
        assert expected or vcpu


def test_demo(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for size in (0, 1, 512, 100_000):
        (tmp_path / "tree" / str(size)).write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))
    calls = []
    for accel in ("kvm", "software"):
        (tmp_path / accel).mkdir()
        record = tmp_path / f"{accel}.pcapng"
        config = MachineConfig(GUESTS / "demo.elf", accel=accel, record=record, timeout_s=60)
        run_demo(config, [tmp_path / "tree"], tmp_path / accel, lambda _: None)
        calls.append(list(trace(record, 0)))
    assert calls[0] == calls[1]
    assert len(calls[0]) > 20
