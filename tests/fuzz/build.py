"""The targets, and how those in C are built: clang with libFuzzer, AddressSanitizer and UBSan."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from tests.support.tree import ROOT

TARGETS = Path(__file__).parent / "targets"
OUT = ROOT / "build" / "fuzz"
NATIVE = ROOT / "paravirt" / "native"

# The host library without KVM, disks and the software vCPU.
LIBRARY = (
    "base callring console continuity device dispatch event extension guest_memory hotplug inflight memory mmio notify "
    "record ring ring_packed ring_split status system time trace"
).split()
SOURCES = {
    "boot_info": [ROOT / "guest_drivers" / "lib" / "boot.c"],
    "calls": [NATIVE / f"{name}.c" for name in LIBRARY],
    "vsock": [
        NATIVE / f"{name}.c"
        for name in (*LIBRARY, "vsock_connection", "vsock_gather", "vsock_host", "vsock_packet", "vsock_receive")
    ],
    "virtqueue": [NATIVE / f"{name}.c" for name in ("ring", "ring_packed", "ring_split", "inflight", "guest_memory")],
}
INCLUDES = [
    f"-I{ROOT / name}"
    for name in ("hypercall_abi/include", "paravirt/native", "guest_drivers/include", "tests/fuzz/targets")
]
FLAGS = [
    *"-std=gnu11 -g -O1 -Wall -Wextra -Wshadow -Wconversion -Werror".split(),
    *"-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer".split(),
]


def names() -> dict[str, str]:
    """The targets by name, and what each is about: the first words of its file."""
    found = {}
    for path in sorted((*TARGETS.glob("*.c"), *TARGETS.glob("[!_]*.py"))):
        found[path.stem] = _summary(path)
    return found


def _summary(path: Path) -> str:
    text = path.read_text()
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    else:
        text = text.split("/*\n", 1)[1].replace(" * ", "")
    words = " ".join(text.split())
    return words[: words.find(":")] if 0 < words.find(":") < 100 else words.partition(".")[0]


def engine(name: str) -> str:
    """What runs the target."""
    return "libFuzzer" if name in SOURCES else "atheris"


def instrumented(name: str) -> tuple[str, ...]:
    """The packages whose coverage leads a target in Python, without importing it."""
    for node in ast.parse((TARGETS / f"{name}.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INSTRUMENT":
            return tuple(ast.literal_eval(node.value))
    raise ValueError(f"{name}.py names no INSTRUMENT")


def command(name: str) -> list[str]:
    """What runs the target, without arguments; builds it if it is out of date.  Raises CalledProcessError."""
    if engine(name) == "atheris":
        return [sys.executable, "-m", "tests.fuzz.harness", name]
    target = OUT / "bin" / name
    sources = [TARGETS / f"{name}.c", *SOURCES[name]]
    headers = [h for place in INCLUDES for h in Path(place[2:]).rglob("*.h")]
    newest = max(path.stat().st_mtime_ns for path in (*sources, *headers, Path(__file__)))
    if not target.exists() or target.stat().st_mtime_ns < newest:
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler = ["clang", *FLAGS, *INCLUDES, *map(str, sources), "-lpthread", "-o", str(target)]
        subprocess.run(compiler, check=True, cwd=ROOT, capture_output=True, text=True)
    return [str(target)]
