"""``./dev nested linux modules``: Linux with our modules, over both transports; prints the time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import linux_image
from tests.support.tree import ROOT

from . import generation
from .files import build_talk, script

SOURCES = ROOT / "guest_drivers/linux"
# Not virtio_console: its port asks for the console's input, whether or not somebody reads it.
DRIVERS = ("virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon", "ext4")


def build(out: Path) -> None:
    """The modules and the guest's command, in `out`, with Debian's kernel headers.  Raises CalledProcessError."""
    subprocess.run(["make", "-s", "-C", str(SOURCES), f"OUT={out}"], check=True)


def initramfs(out: Path) -> bytes:
    """Linux's own drivers, what is in `out`, and the guest's half of the test."""
    files: dict[str, bytes | None] = {"etc/passwd": b"root::0:0::/:/bin/sh\nnobody::65534:65534::/:/bin/sh\n"}
    for name in ("paravirt.ko", "paravirt_virtio.ko", "paravirtctl"):
        if name.endswith(".ko"):  # an emulated CPU reads its symbols slowly
            subprocess.run(["strip", "-g", str(out / name)], check=True)
        files[f"own/{name}"] = (out / name).read_bytes()
    build_talk(out / "talk")
    files["own/talk"] = (out / "talk").read_bytes()
    return linux_image.initramfs(script("modules.sh"), load=DRIVERS, files=files)


def prepare(work: Path) -> None:
    """Makes the files of the test in `work`."""
    out = work / "built"
    build(out)
    (work / "initrd").write_bytes(initramfs(out))
    generation.prepare(work)


def command(work: Path, kernel: Path, vcpus: int) -> list[str]:
    """What runs the test where there is a KVM for it."""
    return [sys.executable, "-m", "tests.linux.modules_inside", str(work), str(kernel), str(vcpus)]
