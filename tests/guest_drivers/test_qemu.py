"""The same images under QEMU's microvm: entered by PVH, then at CPL 3, devices behind virtio-mmio."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.guest_drivers.conftest import Build
from tests.guest_drivers.test_guests import check_tap

QEMU = "qemu-system-x86_64"
pytestmark = [
    pytest.mark.kvm,
    pytest.mark.only_kvm("QEMU's guests run on it"),
    pytest.mark.skipif(not shutil.which(QEMU), reason=f"no {QEMU}"),
]

MACHINE = f"{QEMU} -M microvm,acpi=off,pic=off,pit=off,rtc=off,isa-serial=on -accel kvm -m 128M".split()
# Some KVMs offer a capability MSR that they then refuse to take back from QEMU.
MACHINE += "-cpu host,arch-capabilities=off -nodefaults -no-user-config -display none -no-reboot -serial stdio".split()
MACHINE += "-device isa-debug-exit,iobase=0x501,iosize=4 -global virtio-mmio.force-legacy=false".split()


def run(image: Path, *options: str, status: int = 0) -> str:
    """What a guest prints under QEMU; isa-debug-exit makes 2 * status + 1 of its status."""
    command = [*MACHINE, "-kernel", str(image), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, errors="replace")
    assert done.returncode == 2 * status + 1, done.stderr + done.stdout[-2000:]
    return done.stdout.replace("\r", "")


def disk(path: Path, name: str, options: str = "") -> list[str]:
    drive = f"id={name},file={path},format=raw,if=none{options}"
    return ["-drive", drive, "-device", f"virtio-blk-device,drive={name},serial={name}"]


def test_hello(build: Build) -> None:
    assert run(build["hello"]) == "hello from a paravirt guest\n"


def test_demo(build: Build, tmp_path: Path) -> None:
    """The digests are those of the files, on the console and on the disk."""
    source, lines = random.Random(build.cc), []
    with tarfile.open(tmp_path / "input", "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(60):
            name = f"dir-{number % 7}/" + "long-" * (number % 40) + str(number)
            data = source.randbytes(source.choice([0, 1, 512, 5000, 200_000]))
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            lines.append(f"{hashlib.sha256(data).hexdigest()}  {len(data)}  {name}\n")
    (tmp_path / "report").write_bytes(bytes(32768))
    output = run(
        build["demo"], *disk(tmp_path / "input", "input", ",readonly=on"), *disk(tmp_path / "report", "report")
    )
    assert "".join(line for line in output.splitlines(keepends=True) if line[64:66] == "  ") == "".join(lines)
    report = (tmp_path / "report").read_bytes()
    assert report.rstrip(b"\0").decode() == "".join(lines)
    assert "demo: 60 files in " in output


@pytest.mark.parametrize("rings", ["split", "packed"])
def test_devices(build: Build, tmp_path: Path, rings: str) -> None:
    (tmp_path / "scratch").write_bytes(bytes(1 << 20))
    (tmp_path / "fixed").write_bytes(bytes(65536))
    globals_ = [f"{device},packed=on" for device in ("virtio-blk-device", "virtio-rng-device") if rings == "packed"]
    check_tap(
        run(
            build["devices"],
            *(word for option in globals_ for word in ("-global", option.replace(",", ".", 1))),
            *disk(tmp_path / "scratch", "scratch", ",discard=unmap"),
            *disk(tmp_path / "fixed", "fixed", ",readonly=on"),
            *("-object", "rng-random,filename=/dev/urandom,id=dice", "-device", "virtio-rng-device,rng=dice"),
        ),
        30,
    )


def test_no_disk(build: Build) -> None:
    assert "demo: there is no disk input that works (NOT_FOUND)" in run(build["demo"], status=2)


def test_crash(build: Build) -> None:
    output = run(build["crash"], status=127)
    assert "crash: vCPU 0: page fault, error code 6, rip " in output
