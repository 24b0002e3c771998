"""Debian's kernel for clouds, unpacked once, and initramfs images of busybox with what a test wants in them."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "linux-image-cloud-amd64"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "paravirt-tests"
XZ = b"\xfd7zXZ"
SIGNED = b"~Module signature appended~\n"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a program says; the test is skipped if it cannot be run, for all of them fetch or unpack."""
    try:
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"{command[0]}: {error.strerror}")
    if done.returncode:
        pytest.skip(f"{command[0]} failed: {(done.stderr.strip() or '?').splitlines()[-1]}; try apt-get update")
    return done.stdout


@cache
def kernel() -> Path:
    """The directory of the unpacked package: ``vmlinux``, and ``modules`` by name.  The test is skipped without it."""
    ready = CACHE / PACKAGE
    if ready.exists():
        return ready
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as scratch:
        work = Path(scratch)
        package = re.search(
            r"^Depends: (linux-image-\S+)", run("apt-cache", "show", "--no-all-versions", PACKAGE), re.M
        )
        if not package:
            pytest.skip(f"apt knows no {PACKAGE}; try apt-get update")
        run("apt-get", "download", package[1], cwd=work)
        run("dpkg-deb", "-x", next(work.glob("*.deb")), work / "tree")
        made = work / "made"
        (made / "modules").mkdir(parents=True)
        bzimage = next(work.glob("tree/boot/vmlinuz-*")).read_bytes()
        (made / "vmlinuz").write_bytes(bzimage)
        (made / "vmlinux").write_bytes(uncompressed(bzimage))
        for path in (work / "tree").glob("**/*.ko*"):
            data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
            (made / "modules" / path.name.split(".")[0].replace("-", "_")).write_bytes(_unsigned(data))
        with suppress(OSError):  # another was quicker
            made.rename(ready)
    return ready


def uncompressed(bzimage: bytes) -> bytes:
    """The ELF kernel in it, which spares an emulated CPU the work; else itself."""
    sectors, (start, size) = bzimage[0x1F1] or 4, struct.unpack_from("<II", bzimage, 0x248)
    start += (sectors + 1) * 512
    payload = bzimage[start : start + size]
    return lzma.LZMADecompressor().decompress(payload) if payload.startswith(XZ) else bzimage


def _unsigned(module: bytes) -> bytes:
    """The same for its signature, which would have to be checked."""
    if not module.endswith(SIGNED):
        return module
    end = len(module) - len(SIGNED)
    return module[: end - 12 - struct.unpack_from(">I", module, end - 4)[0]]


def modules(*wanted: str) -> dict[str, bytes]:
    """Modules and what they depend on, in the order in which they are loaded; what is built in has none."""
    order: dict[str, bytes] = {}

    def add(name: str) -> None:
        path = kernel() / "modules" / name.replace("-", "_")
        if not path.is_file() or path.name in order:
            return
        data = path.read_bytes()
        depends = re.search(rb"\0depends=([^\0]*)", data)
        for other in depends[1].decode().split(",") if depends else ():
            add(other)
        order[path.name] = data

    for name in wanted:
        add(name)
    return order


def program(name: str) -> str:
    """The path of a program, of those for administrators too; the test is skipped without it."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return path or pytest.skip(f"{name} is not installed")


def programs(*names: str) -> dict[str, bytes]:
    """Programs of this host, in ``own/`` of an initramfs, and the libraries that they load."""
    files: dict[str, bytes] = {}
    for name in names:
        path = program(name)
        files[f"own/{name}"] = Path(path).read_bytes()
        for library in re.findall(r"(/\S+)", run("ldd", path)):
            files[library.lstrip("/")] = Path(library).read_bytes()
    return files


def busybox() -> bytes:
    """The program, static."""
    path = shutil.which("busybox")
    data = Path(path).read_bytes() if path else b""
    if not data or b"ld-linux" in data[:4096]:
        pytest.skip("there is no static busybox; apt-get install busybox-static")
    return data


def cpio(files: Mapping[str, bytes | None]) -> bytes:
    """An archive for the kernel: names with bytes, or None for a directory; directories above them are made."""
    every: dict[str, bytes | None] = {}
    for name, content in files.items():
        for parent in reversed(Path(name).parents):
            if str(parent) != ".":
                every.setdefault(str(parent), None)
        every[name] = content
    archive = bytearray()
    for name, content in [*every.items(), ("TRAILER!!!", b"")]:
        mode, data = (0o40755, b"") if content is None else (0o100755, content)
        path = name.encode() + b"\0"
        fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        for part in (b"070701" + b"".join(b"%08X" % f for f in fields) + path, data):
            archive += part + bytes(-len(part) % 4)
    return bytes(archive)


HEAD = """#!/busybox sh
/busybox mount -t proc proc /proc
export PATH=/bin
/busybox --install -s /bin 2>/dev/null
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
"""


def initramfs(script: str, *, load: Iterable[str] = (), files: Mapping[str, bytes | None] | None = None) -> bytes:
    """An initramfs whose init loads modules and goes on with the lines of `script`, as a shell of busybox."""
    found: dict[str, bytes | None] = dict.fromkeys(("bin", "proc", "sys", "dev", "mnt", "tmp"))
    found |= {"busybox": busybox(), "init": (HEAD + script).encode()} | dict(files or {})
    found |= {f"modules/{n:02}-{name}": data for n, (name, data) in enumerate(modules(*load).items())}
    return cpio(found)
