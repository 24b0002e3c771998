"""What Linux boots into: an initramfs that finds the root file system, and that file system, both made from here."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support import linux_image

HERE = Path(__file__).parent
MODULES = ("virtio_mmio", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "virtio_balloon",
           "vmw_vsock_virtio_transport")  # fmt: skip
TOOLS = ("mke2fs", "e2fsck")  # beside busybox, which has most
ROOT_BYTES = 64 << 20

INIT = """
for try in $(seq 50); do
	[ -b /dev/vda ] && break
	sleep 0.2
done
mount -t ext4 /dev/vda /mnt || { echo "linux: no root file system"; poweroff -f; }
for dir in proc sys dev; do mount --move /$dir /mnt/$dir; done
exec switch_root /mnt /sbin/init
"""


def script(name: str) -> str:
    """That of the guest's half of a test, with what all have in common."""
    return "".join((HERE / part).read_text() for part in ("checks.sh", name))


def initramfs() -> bytes:
    """Loads the drivers and goes on from the root file system."""
    return linux_image.initramfs(INIT, load=MODULES)


def build_talk(to: Path) -> None:
    """The program by which the guest talks to the host, static."""
    command = ["cc", "-O2", "-static", "-Wall", "-Werror", "-o", str(to), str(HERE / "talk.c")]
    subprocess.run(command, check=True)


def _fill(root: Path) -> None:
    for name in ("bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "mnt"):
        (root / name).mkdir()
    (root / "bin/busybox").write_bytes(linux_image.busybox())
    (root / "bin/sh").symlink_to("busybox")
    (root / "sbin/init").write_text("#!/bin/sh\n" + script("workload.sh"))
    shutil.copy(HERE / "shell.sh", root / "bin/shell-tests")
    for name, contents in linux_image.programs(*TOOLS).items():
        to = root / name.replace("own/", "sbin/")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(contents)
        to.chmod(0o755)
    build_talk(root / "bin/talk")
    for path in (root / "bin/busybox", root / "sbin/init", root / "bin/shell-tests"):
        path.chmod(0o755)


def root_file_system(image: Path) -> None:
    """Makes the file system in the file `image`, without mounting it (``mke2fs -d``)."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "root")
        root.mkdir()
        _fill(root)
        blank_disk(image, ROOT_BYTES)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(image)], check=True)


def blank_disk(image: Path, size_bytes: int) -> None:
    """A file of zeros."""
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(size_bytes)
