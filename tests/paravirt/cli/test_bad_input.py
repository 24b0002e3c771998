"""Every bad input: one line that says what to do, an exit status of its own, nothing left behind.

Threads and file descriptors are watched by the fixture of tests/conftest.py, files here.
"""

from __future__ import annotations

import importlib
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paravirt import errors
from paravirt.cli import main
from paravirt.config import Disk, MachineConfig
from paravirt.machine import Machine
from paravirt.vhost_user.errors import PeerGone
from tests.support.elf import (
    BLOCK,
    CODE_GPA,
    NET,
    OPTIONAL,
    SPIN,
    Elf,
    Load,
    cpu,
    manifest,
    pvh,
    require,
)
from tests.support.guests import (
    BOOT_REFUSED,
    CRASH,
    DATA_GPA,
    FAILURE,
    RESET,
    UNDEFINED,
    WATCHDOG,
    call,
    crash_report,
    guest,
    shutdown,
)

UNKNOWN_TYPE = 16  # virtio's, and no device of ours
NEVER_WRITABLE = "/proc/sys/kernel/version"  # opening it for writing is refused, even to root

GOOD = guest(shutdown())
DISK = guest(shutdown(), notes=[require(), manifest((BLOCK, 0, "disk"))])

Case = tuple[type[errors.ParavirtError], Elf | bytes, list[str], str]

IMAGES: list[Case] = [
    (errors.NotElf, b"#!/bin/sh\n", [], "is not an ELF file"),
    (errors.NotElf, b"", [], "is empty"),
    (errors.WrongMachine, Elf(header={"e_machine": 183}), [], "EM_AARCH64"),
    (errors.TruncatedImage, Elf().build()[:100], [], "ends within its program headers"),
    (errors.TruncatedImage, Elf([Load(data=SPIN * 99)]).build()[:-60], [], "is truncated: segment"),
    (errors.BadSegments, Elf([Load(), Load(CODE_GPA + 1)]), [], "overlap"),
    (errors.ImageTooLarge, Elf([Load(), Load(200 << 20)]), [], "give at least 202M with --memory"),
    (errors.ImageTooLarge, Elf([Load(), Load(31 << 20)]), ["--memory", "30M"], "give at least 32M with --memory"),
    (errors.BadNote, Elf(notes=[("Paravirt", 1, b"")]), [], "REQUIRE has 0 bytes instead of 8"),
    (errors.BadNote, Elf(notes=[("Paravirt", 0x8001, b"")]), [], "a host must know"),
    (errors.BadNote, Elf(note_bytes=b"\xff" * 16), [], "longer than the segment"),
    (errors.AbiNotOffered, Elf(notes=[require(version=(9, 0))]), [], "needs ABI 9.0, this host offers 1.0"),
    (errors.ServiceNotOffered, Elf(notes=[require({0xC000: 0})]), [], "requires the service 0xc000"),
    (errors.ServiceNotOffered, Elf(notes=[require({4: 0})]), ["--deny", "time"], "requires the service time"),
    (errors.ServiceNotOffered, Elf(notes=[require({4: 1 << 63})]), [], "features 0x8000000000000000 of the service"),
    (errors.BadEntry, Elf(notes=[]), [], "neither Paravirt notes nor a PVH entry"),
    (errors.DeviceMissing, Elf(notes=[manifest((NET, 0, "lan"))]), [], "attach it with --net lan"),
    (errors.DeviceNotOffered, Elf(notes=[manifest((UNKNOWN_TYPE, 0, "gpu"))]), [], "device 'gpu' of type 16"),
]

DISKS: list[Case] = [
    (errors.DeviceMissing, DISK, [], "needs a disk 'disk'; attach it with --disk disk=PATH"),
    (errors.DeviceNotInManifest, GOOD, ["--disk", "disk=good"], "has no disk 'disk'"),
    (errors.DiskNotFound, DISK, ["--disk", "disk=none"], "by: truncate -s 64M none"),
    (errors.DiskNotFound, DISK, ["--disk", "disk=odd,sync"], "odd does, and 'sync' is no further option"),
    (PeerGone, DISK, ["--disk", "disk=vhost:none.sock"], "nothing listens at none.sock; start what serves it"),
    (PeerGone, DISK, ["--disk", "disk=vhost:empty"], "empty"),
    (errors.DiskUnreadable, DISK, ["--disk", "disk=."], "."),
    (errors.DiskNotWritable, DISK, ["--disk", f"disk={NEVER_WRITABLE}"], NEVER_WRITABLE),
    (errors.DiskEmpty, DISK, ["--disk", "disk=empty"], "by: truncate -s 64M empty"),
    (
        errors.DiskOddSize,
        DISK,
        ["--disk", "disk=odd"],
        "has 513 bytes, not a multiple of 512; fill it up by: truncate -s 1024 odd",
    ),
]

HOST: list[Case] = [
    (errors.KvmMissing, GOOD, ["--kvm-device", "/nonexistent/kvm"], "/nonexistent/kvm"),
    (errors.KvmMissing, GOOD, ["--kvm-device", "/dev/null"], "/dev/null is not KVM"),
    (errors.KvmForbidden, GOOD, ["--kvm-device", NEVER_WRITABLE], "permission"),
    (errors.HostMemory, GOOD, ["--memory", "1T"], "more than this machine's"),
    (errors.HostLimit, GOOD, ["--pin", "99999"], "cannot pin a vCPU to CPU 99999: this process may use "),
    (
        errors.OutputError,
        GOOD,
        ["--console", "/nonexistent/c"],
        "/nonexistent/c: No such file or directory; give another",
    ),
]

# A report lies at DATA_GPA; the guest jumps to where there is no memory, in the 32-bit mode of PVH.
NOWHERE = b"\xb8" + struct.pack("<I", 0xE0000000) + b"\xff\xe0"

GUESTS: list[Any] = [
    (errors.OutputError, GOOD, ["--trace", "/nonexistent/trace"], "give another --trace"),
    (errors.GuestFailed, guest(shutdown(FAILURE, 3)), [], "ended with FAILURE, status 3"),
    (errors.GuestFailed, guest(shutdown(status=7)), [], "ended with POWEROFF, status 7"),
    (errors.GuestCrashed, guest(call(CRASH, DATA_GPA), crash_report(b"oh\nno")), [], r"rip 0x1234: oh\nno"),
    (errors.GuestCrashed, guest(call(CRASH, DATA_GPA), crash_report(b"", 14)), [], "fault address 0xdead000"),
    (errors.TripleFault, guest(UNDEFINED), [], "triple fault on vCPU 0 at rip 0x200000"),
    pytest.param(
        (errors.KvmInternalError, Elf([Load(data=NOWHERE)], [pvh()]), ["--accel", "kvm"], "KVM internal error"),
        marks=pytest.mark.only_kvm("its own error"),
    ),
    (errors.SoftwareUnsupported, Elf([Load(data=NOWHERE)], [pvh()]), ["--accel", "software"], "code at 0xe0000000"),
    (errors.WatchdogExpired, guest(call(WATCHDOG, 100_000_000)), [], "watchdog"),
    (errors.BootRefused, guest(shutdown(BOOT_REFUSED, 5)), [], "cannot run here, its status is 5"),
    (errors.GuestReset, guest(call(RESET)), [], "reset 100 times"),
    (errors.GuestTimeout, guest(b""), ["--timeout", "0.3"], "did not end within 0.3 s"),
]

USAGE = [
    (["run"], "required: IMAGE"),
    ([], "required: COMMAND"),
    (["walk"], "invalid choice: 'walk'"),
    (["run", "guest.elf", "--mem", "4M"], "arguments: --mem 4M (did you mean --memory?); see paravirt run --help"),
    (["run", "--vcpu=2", "guest.elf"], "did you mean --vcpus?"),
    (["run", "guest.elf", "--zzz"], "unrecognized arguments: --zzz; see paravirt run --help"),
    (["doctor", "now"], "unrecognized arguments: now; see paravirt doctor --help"),
    (["run", "guest.elf", "--memory", "12Q"], "--memory: '12Q' is not a size"),
    (["run", "guest.elf", "--balloon", "1X"], "--balloon: '1X' is not a size"),
    (["run", "guest.elf", "--net", "a=user,bps=1X"], "--net: '1X' is not a size"),
    (["run", "guest.elf", "--capture", "a=b"], "--capture: cannot capture 'a': there is no such network"),
    (["run", "guest.elf", "--poll", "soon"], "--poll: 'soon' is no time to poll"),
    (["run", "guest.elf", "--memory", "3M"], "from 4M to 1T"),
    (["run", "guest.elf", "--memory", "5M"], "multiple of 2M"),
    (["run", "guest.elf", "--memory", "128"], "from 4M to 1T; 128 is bytes, did you mean 128M?"),
    (["run", "guest.elf", "--disk", "disk=good,rw"], "--disk: 'disk=good,rw': only ,ro is known"),
    (["run", "guest.elf", "--memory", "99999999999999999999T"], "from 4M to 1T"),
    (["run", "guest.elf", "--vcpus", "0"], "0 vCPUs: a machine has from 1 to 64"),
    (["run", "guest.elf", "--vcpus", "65"], "65 vCPUs"),
    (["run", "guest.elf", "--vcpus", "two"], "invalid int value: 'two'"),
    (["run", "guest.elf", "--pin", "0,"], "--pin: '0,' is no list of CPUs; write a number for each vCPU"),
    (["run", "guest.elf", "--pin", "0,0"], "2 CPUs to pin 1 vCPUs to: give one for each"),
    (["run", "guest.elf", "--disk", "nopath"], "write NAME=PATH or NAME=PATH,ro"),
    (["run", "guest.elf", "--disk", "=good"], "must be printable text of 1 to 32 bytes"),
    (["run", "guest.elf", "--disk", "d" * 33 + "=good"], "must be printable text of 1 to 32 bytes"),
    (["run", "guest.elf", "--disk", "a=good", "--disk", "a=odd"], "two disks are called 'a'"),
    (
        ["run", "guest.elf", "--disk", "a=good", "--net", "a"],
        "a disk and a network are called 'a'; give each device its",
    ),
    (["run", "guest.elf", "--deny", "fun"], "cannot deny 'fun': no such service; there are base, console"),
    (["run", "guest.elf", "--deny", "time,base"], "the service base is always offered"),
    (["run", "guest.elf", "--deny", "base.version"], "the service base is always offered"),
    (["run", "guest.elf", "--deny", "time.machine"], "no such call; time has"),
    (["run", "guest.elf", "--timeout", "0"], "time-out must be more than 0 s"),
    (["run", "guest.elf", "--timeout", "nan"], "time-out must be more than 0 s"),
    (["run", "guest.elf", "--privilege", "root"], "invalid choice: 'root'"),
    (["run", "guest.elf", "--cmdline", "x" * 4096], "shorter than 4096 bytes"),
    (["run", "guest.elf", "--cmdline", "a\udcff"], "not valid text"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with disks to attach, current."""
    (tmp_path / "good").write_bytes(bytes(4096))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "odd").write_bytes(bytes(513))
    monkeypatch.chdir(tmp_path)
    return tmp_path


Complaint = Callable[[list[str]], tuple[int, str]]


@pytest.fixture
def complaint(place: Path, capfd: pytest.CaptureFixture[str]) -> Complaint:
    """Runs a command line that must fail: its status and the one line it says."""

    def run(argv: list[str]) -> tuple[int, str]:
        before = sorted(place.iterdir())
        status = main(argv)
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith("paravirt: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert sorted(place.iterdir()) == before
        return status, err

    return run


def check(complaint: Complaint, place: Path, case: Case) -> None:
    error, image, options, text = case
    (place / "guest.elf").write_bytes(image if isinstance(image, bytes) else image.build())
    status, line = complaint(["run", "guest.elf", *options])
    assert text in line
    assert status == error.exit_status


@pytest.mark.parametrize("case", IMAGES, ids=lambda c: c[0].__name__)
def test_images(complaint: Complaint, place: Path, case: Case) -> None:
    check(complaint, place, case)


@pytest.mark.kvm
@pytest.mark.parametrize("case", DISKS, ids=lambda c: c[0].__name__)
def test_disks(complaint: Complaint, place: Path, case: Case) -> None:
    check(complaint, place, case)


@pytest.mark.parametrize("case", HOST, ids=lambda c: c[0].__name__)
def test_host(complaint: Complaint, place: Path, case: Case) -> None:
    check(complaint, place, case)


@pytest.mark.kvm
@pytest.mark.parametrize("case", GUESTS, ids=lambda c: c[0].__name__)
def test_guests(complaint: Complaint, place: Path, case: Case) -> None:
    check(complaint, place, case)


@pytest.mark.parametrize(("argv", "text"), USAGE, ids=lambda v: "_".join(v)[:60] if isinstance(v, list) else "")
def test_usage(complaint: Complaint, place: Path, argv: list[str], text: str) -> None:
    GOOD.write(place / "guest.elf")
    status, line = complaint(argv)
    assert text in line
    assert status == 2


@pytest.mark.parametrize("command", ["run", "inspect"])
@pytest.mark.parametrize("name", ["none.elf", "./hello", "."])
def test_a_missing_image(complaint: Complaint, command: str, name: str) -> None:
    status, line = complaint([command, name])
    assert status == 10
    assert name.strip("./") in line


@pytest.mark.parametrize(
    ("name", "advice"), [("", "the image has no name"), ("helo", "did you mean hello? (bundled: ")]
)
def test_an_image_that_is_named_wrongly(complaint: Complaint, name: str, advice: str) -> None:
    status, line = complaint(["run", name])
    assert status == 10
    assert advice in line


@pytest.mark.only_kvm("a software vCPU's level is its own")
def test_a_cpu_that_is_too_old(complaint: Complaint, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paravirt.boot.cpu.host_cpu_level", lambda: 1)
    notes = [require(), cpu(2)]
    check(complaint, place, (errors.CpuNotOffered, Elf(notes=notes), [], "needs a CPU of level x86-64-v2"))


@pytest.mark.kvm
def test_a_disk_in_use(complaint: Complaint, place: Path) -> None:
    """By a machine that may write it; two that only read may share it."""
    disk = Disk("disk", place / "good")
    with Machine(MachineConfig(DISK.write(place / "other.elf"), disks=(disk,))):
        check(complaint, place, (errors.DiskBusy, DISK, ["--disk", "disk=good"], "good"))
    with Machine(MachineConfig(place / "other.elf", disks=(disk.replace(read_only=True),))):
        assert main(["run", "guest.elf", "--disk", "disk=good,ro"]) == 0


@pytest.mark.kvm
def test_an_optional_disk_may_be_missing(place: Path) -> None:
    guest(shutdown(), notes=[require(), manifest((BLOCK, OPTIONAL, "disk"))]).write(place / "guest.elf")
    assert main(["run", "guest.elf"]) == 0


def test_the_core_does_not_load(complaint: Complaint, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paravirt.machine", None)
    check(complaint, place, (errors.NativeMismatch, GOOD, [], "the C core does not load"))


@pytest.mark.kvm
def test_the_console_cannot_take_it(complaint: Complaint, place: Path) -> None:
    talker = guest(call(2 << 16, DATA_GPA, 5) + shutdown(), b"hello")
    check(
        complaint,
        place,
        (errors.OutputError, talker, ["--console", "/dev/full"], "cannot write the console to /dev/full"),
    )


def test_every_exit_status_is_one_errors() -> None:
    for module in ("demo", "cli.build", "vhost_user.errors"):  # have some of their own
        importlib.import_module(f"paravirt.{module}")
    statuses = [error.exit_status for error in errors.all_errors()]
    assert len(statuses) == len(set(statuses))
    reserved = {0, 70, errors.INTERRUPTED, 141, 143}
    assert not reserved & set(statuses)
    assert all(0 < status < 128 for status in statuses)


def test_root_is_refused_too() -> None:
    """What the cases of missing permission rest on."""
    with pytest.raises(PermissionError):
        os.close(os.open(NEVER_WRITABLE, os.O_RDWR))


@pytest.mark.parametrize("times", ["0", "-1"])
def test_a_demo_that_is_never_run(complaint: Complaint, times: str) -> None:
    status, line = complaint(["demo", "--repeat", times])
    assert status == errors.ConfigError.exit_status
    assert f"--repeat must be 1 or more, it is {times}" in line
