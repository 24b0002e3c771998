"""Configuration: sizes, disks, what may be denied; and what errors look like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi import LIMITS, RECORDS, SERVICES
from paravirt import Machine, config, errors
from paravirt.attachments.block import QUEUES_MOST
from paravirt.attachments.net import Net
from paravirt.attachments.vsock import Vsock
from paravirt.config import (
    NO_BOUND,
    Budgets,
    Disk,
    MachineConfig,
    ServedDisk,
    check_host,
    parse_console_bytes,
    parse_deny,
    parse_disk,
    parse_poll,
    parse_size,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("128M", 128 << 20),
        ("1g", 1 << 30),
        (" 3 KiB ", 3072),
        ("2T", 2 << 40),
        ("7B", 7),
        ("5MB", 5 << 20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "0x10", "1E", "1 2", "1iB2", "١٢", "1" * 21])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(errors.ConfigError, match="is not a size"):
        parse_size(text)


@given(st.integers(0, 1 << 60))
def test_a_size_that_is_shown_reads_back(size: int) -> None:
    assert parse_size(show_size(size)) == size


def test_parse_served_disk() -> None:
    assert parse_disk("a=vhost:b.sock") == ServedDisk("a", Path("b.sock"))
    assert parse_disk("a=vhost:/b=c,ro,patience=30") == ServedDisk("a", Path("/b=c"), True, 30.0)
    for rest in ("", "b,rw", "b,patience=", "b,patience=-1", "b,direct"):
        with pytest.raises(errors.ConfigError):
            parse_disk(f"a=vhost:{rest}")
    with pytest.raises(errors.ConfigError, match="patience"):
        ServedDisk("a", Path("b"), patience_s=-1)


def test_disks() -> None:
    assert parse_disk("a=b") == Disk("a", Path("b"))
    assert parse_disk("a=b,ro") == Disk("a", Path("b"), True)
    assert parse_disk("a=b=c,x") == Disk("a", Path("b=c,x"))
    assert parse_disk("a=b,direct,ro,writethrough") == Disk("a", Path("b"), True, True, True)
    assert parse_disk("a=b,ro,x,direct") == Disk("a", Path("b,ro,x"), direct=True)
    assert parse_disk("a=b,iops=500,bps=2M,queues=4") == Disk(
        "a", Path("b"), queues=4, operations_per_second=500, bytes_per_second=2 << 20
    )
    for text in ("a=b,iops=0", "a=b,iops=", "a=b,iops=1k", "a=b,bps=0", "a=b,queues=9", "a=b,queues=-1"):
        with pytest.raises(errors.ConfigError, match=r"queues|iops|bps"):
            parse_disk(text)
    with pytest.raises(errors.ConfigError, match="only ,ro is known"):
        parse_disk("a=b,rw")
    for text in ("", "a", "a=", "a=,ro", "=b", "a\n=b"):
        with pytest.raises(errors.ConfigError):
            parse_disk(text)


def test_how_much_is_said_on_the_console() -> None:
    """Kernels write there as long as they live, guests of ours say what they have to."""
    assert Budgets().console_most(plain=False) == 16 << 20
    assert Budgets().console_most(plain=True) == parse_console_bytes("off") == NO_BOUND
    assert Budgets(console_bytes=parse_console_bytes("4K")).console_most(plain=True) == 4096
    with pytest.raises(errors.ConfigError, match="not a size"):
        parse_console_bytes("much")


def test_poll() -> None:
    assert parse_poll("auto") == Budgets().poll_ns > 0
    assert parse_poll("off") == 0
    assert parse_poll("2000") == 2000
    for text in ("", "on", "-1", "1.5", "٣", "9" * 20):
        with pytest.raises(errors.ConfigError, match="no time to poll"):
            parse_poll(text)


def test_limits_are_the_abis() -> None:
    assert LIMITS["VCPUS"].number == config.VCPUS_MOST
    assert LIMITS["DEVICE_QUEUES"].number == QUEUES_MOST
    assert LIMITS["DEVICES"].number == config.DEVICES_MOST
    sizes = {(r, f.name): f.size for r in ("device_info", "boot_machine") for f in RECORDS[r].fields}
    assert sizes["device_info", "name"] == config.DEVICE_NAME_BYTES
    assert sizes["boot_machine", "name"] == config.MACHINE_NAME_BYTES


def test_deny() -> None:
    denied = parse_deny(frozenset({"time", "vcpu.start", "vcpu.stop", "device"}))
    vcpu = SERVICES["vcpu"]
    assert denied.services == {4, 7}
    assert denied.calls == {5: 1 << vcpu["start"].number | 1 << vcpu["stop"].number}
    assert parse_deny(frozenset()).services == frozenset()
    for name in ("base", "base.batch", "", "TIME", "time.", "time.x", ".time"):
        with pytest.raises(errors.ConfigError, match=f"cannot deny '{name}'"):
            parse_deny(frozenset({name}))


def test_a_machine_of_defaults() -> None:
    machine = MachineConfig(Path("guest.elf"))
    assert (machine.memory_bytes, machine.vcpus, machine.privilege, machine.transport) == (
        128 << 20,
        1,
        "user",
        "auto",
    )
    assert machine.uuid != MachineConfig(Path("guest.elf")).uuid
    assert MachineConfig("guest.elf", deny=["time"]).deny == {"time"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_bytes": 2 << 20},
        {"memory_bytes": (4 << 20) + 1},
        {"memory_bytes": 2 << 40},
        {"memory_bytes": -(4 << 20)},
        {"vcpus": 0},
        {"vcpus": 65},
        {"name": ""},
        {"name": "ü" * 25},
        {"name": "a\x1b"},
        {"command_line": "x\0"},
        {"command_line": "ü" * 2048},
        {"disks": (Disk("a", Path("b")), Disk("a", Path("c")))},
        {"disks": tuple(Disk(f"d{i}", Path("x")) for i in range(33))},
        {"privilege": "root"},
        {"transport": "pci"},
        {"io_engine": "aio"},
        {"timeout_s": 0},
        {"timeout_s": -1.0},
        {"timeout_s": float("nan")},
        {"timeout_s": float("inf")},
        {"boot_records": ((1 << 16, 0, b""),)},
        {"boot_records": ((1, -1, b""),)},
        {"boot_records": ((1, 0, "text"),)},
        {"deny": {"base"}},
    ],
)
def test_wrong_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigError):
        MachineConfig(Path("guest.elf"), **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": 7},
        {"image": b"guest.elf"},
        {"memory_bytes": "1"},
        {"memory_bytes": 128e6},
        {"vcpus": None},
        {"huge_pages": "no"},
        {"pin": 1},
        {"pin": ("0",)},
        {"disks": "a=b"},
        {"disks": ("a=b",)},
        {"disks": Disk("a", Path("b"))},
        {"devices": ("x",)},
        {"deny": "time"},
        {"console": b""},
        {"console_input": "text"},
        {"trace": 1},
        {"timeout_s": "1"},
        {"name": None},
        {"uuid": "0" * 16},
        {"boot_records": ((1, 0),)},
        {"budgets": {"console_bytes": 1}},
        {"privilege": 3},
        {"accel": None},
    ],
)
def test_values_of_wrong_types(wrong: dict[str, Any]) -> None:
    """The line says which, and what it takes."""
    (name,) = wrong
    with pytest.raises(errors.ConfigError, match=f"{name} is .*, it must be|is not one of"):
        MachineConfig(**{"image": "guest.elf", **wrong})


def test_wrong_types_of_what_is_attached() -> None:
    wrong: list[Callable[[], object]] = [
        lambda: Disk(1, Path("b")),  # type: ignore[arg-type]
        lambda: Disk("a", 1),  # type: ignore[arg-type]
        lambda: Disk("a", Path("b"), queues="1"),  # type: ignore[arg-type]
        lambda: ServedDisk("a", Path("b"), patience_s="1"),  # type: ignore[arg-type]
        lambda: Net("a", forward="tcp:1:1"),  # type: ignore[arg-type]
        lambda: Net(b"a"),  # type: ignore[arg-type]
        lambda: Vsock("a", Path("b"), cid=None),  # type: ignore[arg-type]
        lambda: Budgets(poll_ns=None),  # type: ignore[arg-type]
    ]
    for make in wrong:
        with pytest.raises(errors.ConfigError, match="it must be"):
            make()


def test_what_can_be_taken_is() -> None:
    taken = MachineConfig("a", pin=[0], disks=[Disk("a", "b")], trace="c", timeout_s=1)  # type: ignore[arg-type]
    assert (taken.image, taken.pin, taken.trace, taken.timeout_s) == (Path("a"), (0,), Path("c"), 1)
    assert taken.disks == (Disk("a", Path("b")),)


def test_a_machine_is_made_of_a_configuration() -> None:
    with pytest.raises(errors.ConfigError, match="a machine is made of a MachineConfig, not of 'guest.elf'"):
        Machine("guest.elf")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"console_bytes": -1}, {"trace_marks": 1 << 63}, {"doorbells_per_second": -1}, {"poll_ns": 10_000_001}]
)
def test_wrong_budgets(wrong: dict[str, int]) -> None:
    with pytest.raises(errors.ConfigError, match=next(iter(wrong))):
        Budgets(**wrong)
    assert Budgets(poll_ns=0).poll_ns == 0


def test_the_host_has_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    check_host(MachineConfig(Path("guest.elf")))
    monkeypatch.setattr(config, "host_memory_bytes", lambda: 100 << 20)
    with pytest.raises(errors.HostMemory, match="128M is more than this machine's 100M"):
        check_host(MachineConfig(Path("guest.elf")))


@given(st.text())
def test_an_error_is_one_printable_line(text: str) -> None:
    error = errors.BadNote(text, rule="NOTE-1")
    assert str(error).isprintable()
    assert str(error).endswith(" (NOTE-1)")
    str(error).encode()
