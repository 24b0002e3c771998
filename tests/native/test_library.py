"""libparavirt_host as a vendor gets it: installed, linked both ways, and under the example hypervisor."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hypercall_abi import VERSION
from paravirt.conform.launch import launch
from tests.support.built import GUESTS

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "paravirt" / "native"
PUBLIC = ("paravirt_host.h", "paravirt_host_boot.h")
WARNINGS = "-Wall -Wextra -Wshadow -Wconversion -Werror".split()
COMPILERS = [
    pytest.param(cc, marks=pytest.mark.skipif(not shutil.which(cc), reason=f"no {cc}")) for cc in ("gcc", "clang")
]
CONSUMER = Path(__file__).with_name("consumer.c")
SAID = (
    "libparavirt_host is not the one that this program was compiled for; compile it again\n" * 2
    + "a machine has from 1 to 64 vCPUs\n" * 2
    + f"made\n0 {VERSION[0] << 32 | VERSION[1]:x}\n"
)


def carry_out(*command: str | Path, **options: str) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=100, env=os.environ | options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library is installed."""
    place = tmp_path_factory.mktemp("host")
    carry_out("make", "-s", "-j2", "-C", NATIVE, "install", f"OUT={place}/build", f"PREFIX={place}/usr",
              f"CFLAGS=-O1 {' '.join(WARNINGS)}")  # fmt: skip
    return place / "usr"


def flags(installed: Path, *what: str) -> list[str]:
    return carry_out("pkg-config", *what, "paravirt_host", PKG_CONFIG_PATH=str(installed / "lib/pkgconfig")).split()


def declared() -> set[str]:
    """The functions of the public header."""
    text = "".join(re.sub(r"/\*.*?\*/", "", (NATIVE / name).read_text(), flags=re.DOTALL) for name in PUBLIC)
    return set(re.findall(r"^[a-z][\w \*]*?\b(pv_\w+)\(", text, re.MULTILINE))


def test_the_shared_library_exports_the_public_header_and_nothing_else(installed: Path) -> None:
    library = installed / "lib/libparavirt_host.so"
    exported = {line.split()[-1] for line in carry_out("nm", "-D", "--defined-only", library).splitlines()}
    assert exported == declared()
    assert len(exported) > 50
    assert "SONAME" in (table := carry_out("readelf", "-d", library))
    assert re.search(r"SONAME.*\[libparavirt_host\.so\.1\]", table)
    assert set(re.findall(r"NEEDED.*\[(.*?)\.so", table)) <= {"libc", "libpthread"}


@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
def test_a_program_finds_it_by_pkg_config(cc: str, static: bool, installed: Path, tmp_path: Path) -> None:
    """And the library that runs is compared with the one that it was compiled for."""
    libraries = flags(installed, "--libs", *(["--static"] if static else []))
    carry_out(cc, "-std=gnu11", *WARNINGS, *(["-static"] if static else []), *flags(installed, "--cflags"),
              CONSUMER, "-o", tmp_path / "consumer", *libraries)  # fmt: skip
    assert carry_out(tmp_path / "consumer", LD_LIBRARY_PATH="" if static else str(installed / "lib")) == SAID


@pytest.mark.parametrize(
    "cxx", [pytest.param("g++", marks=pytest.mark.skipif(not shutil.which("g++"), reason="no g++"))]
)
def test_a_program_in_cxx(cxx: str, installed: Path, tmp_path: Path) -> None:
    shutil.copy(CONSUMER, tmp_path / "consumer.cc")
    carry_out(cxx, "-Wall", "-Wextra", "-Werror", *flags(installed, "--cflags"), tmp_path / "consumer.cc",
              "-o", tmp_path / "consumer", *flags(installed, "--libs"))  # fmt: skip
    assert carry_out(tmp_path / "consumer", LD_LIBRARY_PATH=str(installed / "lib")) == SAID


@pytest.fixture(scope="module")
def example(installed: Path) -> Path:
    """The example hypervisor, compiled against what is installed."""
    program = installed / "example"
    carry_out("cc", "-std=gnu11", "-O2", *WARNINGS, *flags(installed, "--cflags"), NATIVE / "example/example.c",
              "-o", program, installed / "lib/libparavirt_host.a", "-lpthread")  # fmt: skip
    return program


def test_the_example_is_short_and_uses_the_public_header_alone() -> None:
    text = (NATIVE / "example/example.c").read_text()
    assert text.count("\n") <= 300
    assert re.findall(r'#include "(.*?)"', text) == ["paravirt_host.h"]
    assert set(re.findall(r"#include <(linux/.*?)>", text)) == {"linux/kvm.h"}


def judged(example: Path, image: Path, *options: str) -> tuple[int | None, str]:
    lines: list[str] = []
    end = launch([str(example), str(image), *options], 100, lines.append)
    return end.status, "\n".join(lines) + "\n"


@pytest.mark.kvm
@pytest.mark.only_kvm("the example is a hypervisor over it")
@pytest.mark.parametrize(("level", "vcpus", "poison"), [("user", "4", ["poison"]), ("supervisor", "2", [])])
def test_the_example_passes_host_conformance(example: Path, level: str, vcpus: str, poison: list[str]) -> None:
    status, said = judged(example, GUESTS / "conformance_all.elf", vcpus, level, *poison)
    failed = [line for line in said.splitlines() if line.startswith("not ok")]
    assert not failed
    assert status == 0, said[-500:]
    skipped = {rule for line in said.splitlines() if "# SKIP" in line for rule in re.findall(r"[A-Z]+-\d+", line)}
    assert said.count("\nok ") > 300
    assert not skipped & {"RING-1", "RING-15", "DEV-17", "ENT-1", "VCPU-6"}, "a service that the library offers"


@pytest.mark.kvm
@pytest.mark.only_kvm("the example is a hypervisor over it")
@pytest.mark.parametrize("image", ["conformance_plain", "conformance_budgets"])
def test_the_example_passes_images_that_run_alone(example: Path, image: str) -> None:
    """A plain guest by PVH (NOTE-4), and one that uses every budget up."""
    status, said = judged(example, GUESTS / f"{image}.elf", "2", "user", "poison")
    assert (status, "not ok" in said, "# SKIP" in said) == (0, False, False), said[-500:]


def test_the_example_refuses_what_a_host_must(example: Path) -> None:
    """BOOT-14, NOTE-1 to NOTE-7."""
    images = sorted(path for word in ("boot", "note") for path in GUESTS.glob(f"refused_{word}_*.elf"))
    assert len(images) > 5
    for image in images:
        done = subprocess.run([example, image], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (255, ""), image.name
        assert done.stderr.startswith(f"example: {image}: ") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.kvm
@pytest.mark.only_kvm("the example is a hypervisor over it")
def test_the_example_says_how_a_guest_ended(example: Path) -> None:
    assert judged(example, GUESTS / "hello.elf") == (0, "hello from a paravirt guest\n")
    done = subprocess.run([example, GUESTS / "crash.elf"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (255, "example: the guest did not shut down: end 3\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "example: usage: example IMAGE [VCPUS [user|supervisor [poison]]]\n"),
        (["/nowhere"], "example: /nowhere: No such file or directory\n"),
        (
            [__file__],
            f"example: {__file__}: it is not an executable ELF file for x86-64, linked with -static -no-pie "
            "(BOOT-17)\n",
        ),
        ([str(GUESTS / "hello.elf"), "0"], f"example: {GUESTS / 'hello.elf'}: a machine has from 1 to 64 vCPUs\n"),
    ],
)
def test_the_example_says_what_is_wrong(example: Path, arguments: list[str], said: str) -> None:
    done = subprocess.run([example, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (255, "", said)
