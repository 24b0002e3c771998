"""Builds the extension ``paravirt._native`` from the C core: cffi in API mode.

Three ways in, one way to build: setuptools' ``build_ext`` (:class:`build_ext`, named in setup.cfg),
``python paravirt/native/build.py`` for developers (in place, only what is out of date), and the
same with ``--sanitize`` for AddressSanitizer and UBSan.  The guests that are shipped inside the
package are built along with the extension by the first way only.

setuptools loads this file by its path: it must never import ``paravirt``, which needs the extension.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools.command.build_ext import build_ext as SetuptoolsBuildExt

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "paravirt" / "native"
ABI = ROOT / "hypercall_abi" / "include"
MODULES = ROOT / "paravirt" / "extensions" / "include"

HEADERS = (
    ABI / "paravirt_abi.h",
    *(
        NATIVE / f"{name}.h"
        for name in (
            *("paravirt_host", "paravirt_host_boot", "state", "trace", "host", "record", "kvm", "software", "pmem"),
            *("serial", "platform"),
            *("aio", "limit", "balloon", "ram", "block", "net_capture", "net", "vsock", "vhost_user", "module_host"),
            *("vhost_back_end", "peer_memory"),
        )
    ),
)

# What the headers take from the C library; the compiler fills in the rest.
SYSTEM = """
typedef union { ...; } pthread_mutex_t;
struct iovec { void *iov_base; size_t iov_len; };
"""

CALLBACKS = """
extern "Python" {
    int64_t pv_py_console_write(struct pv_machine *machine, const uint8_t *text, uint64_t size_bytes);
    uint64_t pv_py_console_read(struct pv_machine *machine, uint8_t *text, uint64_t size_bytes);
    bool pv_py_held(struct pv_vcpu *vcpu, uint32_t why, uint64_t detail);
    void pv_py_end(struct pv_machine *machine, const struct pv_end *end);
    int64_t pv_py_serve_callrings(struct pv_vcpu *vcpu);
    bool pv_py_intercept(struct pv_vcpu *vcpu, struct pv_call *call, struct pv_result *result);
    int64_t pv_py_extension_call(struct pv_vcpu *vcpu, void *opaque, uint32_t function, const uint64_t *args,
                                 uint64_t *value);
    void pv_py_device_activate(struct pv_device *device);
    void pv_py_device_reset(struct pv_device *device);
    void pv_py_device_notify(struct pv_device *device, uint32_t queue);
    void pv_py_device_config_written(struct pv_device *device, uint32_t offset, uint32_t size_bytes);
}
"""

COMMON = (
    "-std=gnu11",
    "-g",
    "-fPIC",
    "-fvisibility=hidden",
    "-DPV_HOST_PRIVATE",
    f"-I{NATIVE}",
    f"-I{ABI}",
    f"-I{MODULES}",
)
OWN = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion")
# Only what would mean that the generated file and the headers disagree.
GENERATED = ("-Werror=incompatible-pointer-types", "-Werror=int-conversion", f"-I{sysconfig.get_path('include')}")
OPTIMISED = ("-O2",)
SANITIZED = ("-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
LIBRARIES = ("-luring", "-lpthread")


def declarations(header: str) -> str:
    """The part of a C header that cffi reads: declarations, and integer macros (others are dropped)."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus\n[^#]*#endif\n", "", text)
    kept = []
    for line in text.splitlines():
        macro = re.match(r"#\s*define\s+(\w+)\s+(\S.*)", line)
        if macro and not macro[2].startswith('"') and "(condition" not in line:
            literal = re.fullmatch(r"-?(0x[0-9a-f]+|\d+)[ul]*", macro[2].strip(), re.IGNORECASE)
            kept.append(f"#define {macro[1]} {macro[2].strip() if literal else '...'}")
        elif not line.lstrip().startswith(("#", "PV_STATIC_ASSERT")):
            kept.append(line)
    return "\n".join(kept)


def emit(path: Path) -> None:
    """Writes the C source of the extension module, which cffi makes from the headers."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(SYSTEM + "".join(declarations(header.read_text()) for header in HEADERS) + CALLBACKS)
    ffi.set_source("paravirt._native", "".join(f'#include "{header.name}"\n' for header in HEADERS))
    with contextlib.redirect_stdout(None):  # it would tell what it does
        ffi.emit_c_code(str(path))


def _stale(target: Path, inputs: list[Path]) -> bool:
    return not target.exists() or target.stat().st_mtime_ns < max(path.stat().st_mtime_ns for path in inputs)


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}\n{done.stdout}")
    print(done.stdout, end="")


def _write(target: Path, command: tuple[str, ...]) -> None:
    """Replaces it, whole: a process that runs may have the old one mapped, and who is killed leaves no part of one."""
    fresh = target.with_name(target.name + ".new")
    _run(*command, "-o", str(fresh))
    fresh.replace(target)


def build(target: Path, work: Path, *, strict: bool = False, sanitize: bool = False) -> bool:
    """Brings the shared object `target` up to date, with intermediate files beside `work`; False if it was.

    With `strict` a warning is an error; a user's compiler may be newer than what we know.
    Ends the process with the compiler's words if something does not compile.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = SANITIZED if sanitize else OPTIMISED
    work = work.with_name("-".join((work.name, Path(compiler[0]).name, *(["sanitize"] if sanitize else []))))
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two developers' commands may run at once
        always = [*sorted(NATIVE.glob("*.h")), *sorted(ABI.glob("*.h")), *sorted(MODULES.glob("*.h")), Path(__file__)]
        generated = work / "_native.c"
        if _stale(generated, always):
            emit(generated)
            os.utime(generated)  # cffi leaves a file alone whose text is the same
        jobs, objects = [], []
        for source in [generated, *sorted(NATIVE.glob("*.c"))]:
            objects.append(work / f"{source.stem}.o")
            if _stale(objects[-1], [source, *always]):
                extra = GENERATED if source is generated else (*OWN, *(("-Werror",) if strict else ()))
                jobs.append((objects[-1], (*compiler, *COMMON, *flags, *extra, "-c", str(source))))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda job: _write(*job), jobs))
        if not _stale(target, objects):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, (*compiler, "-shared", *flags, *map(str, objects), *LIBRARIES))
    return True


class build_ext(SetuptoolsBuildExt):  # type: ignore[misc]
    """setuptools' command: the extension by :func:`build`, then the guests that the package carries."""

    def build_extension(self, ext: object) -> None:
        """Builds `ext` where setuptools wants it."""
        target = Path(self.get_ext_fullpath("paravirt._native")).resolve()
        build(target, ROOT / "build" / "native" if self.inplace else Path(self.build_temp) / "native")
        guests = target.parent / "guests"
        out = guests if self.inplace else Path(self.build_temp).resolve() / "guests"
        ours = [] if self.inplace else ["LWIP="]  # others' code is not for the package
        _run("make", "-s", "-j2", "-C", str(ROOT / "guest_drivers"), f"OUT={out}", *ours)
        if out != guests:  # what make leaves beside them is not for the package
            guests.mkdir(parents=True, exist_ok=True)
            for guest in out.glob("*.elf"):
                shutil.copy(guest, guests)


def main() -> None:
    """Builds in place, or elsewhere with ``--out``."""
    parser = argparse.ArgumentParser(description="Build paravirt._native in place; only what is out of date.")
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UBSan")
    parser.add_argument("--out", type=Path, default=NATIVE.parent, metavar="DIR", help="directory of the result")
    args = parser.parse_args()
    target = args.out.resolve() / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    if build(target, ROOT / "build" / "native", strict=True, sanitize=args.sanitize):
        print(f"built {os.path.relpath(target)}")


if __name__ == "__main__":
    main()
