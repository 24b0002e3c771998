"""Linux modules build without a word, and are what a kernel wants of modules."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tree import ROOT

SOURCES = ROOT / "guest_drivers/linux"
HEADERS = sorted(Path("/usr/src").glob("linux-headers-*-cloud-amd64"))

pytestmark = pytest.mark.skipif(not HEADERS, reason="needs Debian's linux-headers-cloud-amd64")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("linux")
    command = ["make", "-s", "-C", str(SOURCES), f"OUT={out}", f"KERNEL={HEADERS[-1]}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (done.stdout + done.stderr).splitlines() == ["cc paravirtctl"]
    return out


def about(module: Path) -> dict[str, str]:
    """What it says of itself, as modinfo reads it."""
    found = re.findall(rb"\0?(license|depends|alias|vermagic|description)=([^\0]*)\0", module.read_bytes())
    return {key.decode(): value.decode() for key, value in found}


def test_they_can_be_loaded_by_any_kernel_of_that_version(built: Path) -> None:
    core, virtio = about(built / "paravirt.ko"), about(built / "paravirt_virtio.ko")
    release = HEADERS[-1].name.removeprefix("linux-headers-")
    assert core["license"] == virtio["license"] == "Dual BSD/GPL"
    assert core["vermagic"].split()[0] == virtio["vermagic"].split()[0] == release
    assert core["depends"] == ""
    assert set(virtio["depends"].split(",")) == {"paravirt", "virtio", "virtio_ring"}
    assert "PVRT0001" in core["alias"]


def test_the_guests_command_needs_nothing_and_says_what_it_is_for(built: Path) -> None:
    program = built / "paravirtctl"
    assert b"ld-linux" not in program.read_bytes()[:4096]
    done = subprocess.run([program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "usage: paravirtctl COMMAND" in done.stderr
    assert "call     ID [ARGUMENT…] any call" in done.stderr
    asked = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=30)
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, done.stderr, "")
    if not Path("/dev/paravirt").exists():
        done = subprocess.run([program, "info"], capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert "is the module paravirt loaded?" in done.stderr


def test_sources_are_not_written_to(built: Path) -> None:
    assert shutil.which("git")
    command = ["git", "-C", str(ROOT), "status", "--porcelain", "--ignored", "guest_drivers/linux"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not [line for line in done.stdout.splitlines() if line.startswith("!!")]
