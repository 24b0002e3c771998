"""The guests in Rust: built by Debian's compiler and a newer one, without vector registers; our host passes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hypercall_abi import RULES
from tests.guest_drivers.test_conformance import devices, run
from tests.support.tree import ROOT

COMPILERS = sorted({path for path in ("/usr/bin/rustc", shutil.which("rustc")) if path and Path(path).exists()})
IMAGES = ("conformance_rust", "rust_chapters")
VECTORS = re.compile(r"%[xyz]mm\d")

Built = dict[str, Path]


@pytest.fixture(scope="session", params=COMPILERS or ["rustc"])
def rust(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both images by each compiler there is."""
    if not COMPILERS:
        pytest.fail("rustc is not installed: apt-get install rustc")
    out = tmp_path_factory.mktemp("rust")
    images = {name: out / f"{name}.elf" for name in IMAGES}
    make = ["make", "-s", f"OUT={out}", f"RUSTC={request.param}", *map(str, images.values())]
    done = subprocess.run(make, cwd=ROOT / "guest_drivers", capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return images


def cited(cases: list[tuple[str, str | None]]) -> set[str]:
    """Rules of the cases that were not skipped."""
    return {word for title, why in cases if why is None for word in title.split() if word in RULES}


@pytest.mark.parametrize(
    ("name", "allowed"), [("conformance_rust", set()), ("rust_chapters", {"cf_trap_registers", "use_sse"})]
)
def test_no_vector_registers(rust: Built, name: str, allowed: set[str]) -> None:
    """BOOT-6 and what upcalls save: general registers only, but for chapters' cases that are about the others."""
    command = ["objdump", "-d", "--no-show-raw-insn", str(rust[name])]
    code = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    places: set[str] = set()
    function = ""
    for line in code.splitlines():
        if match := re.match(r"[0-9a-f]+ <(.+)>:", line):
            function = match[1]
        elif VECTORS.search(line):
            places.add(function)
    assert function
    assert places <= allowed


@pytest.mark.kvm
@pytest.mark.parametrize("mode", ["user", "user --poison", "supervisor --poison"])
def test_cases_in_rust(rust: Built, mode: str, tmp_path: Path) -> None:
    cases = run(rust["conformance_rust"], "--vcpus", "2", "--privilege", *mode.split(), *devices(tmp_path))
    assert len(cited(cases)) >= 50


@pytest.mark.kvm
@pytest.mark.parametrize("mode", ["user --poison", pytest.param("supervisor", marks=pytest.mark.slow)])
def test_chapters_behind_a_start_code_in_rust(rust: Built, mode: str, tmp_path: Path) -> None:
    cases = run(rust["rust_chapters"], "--vcpus", "2", "--privilege", *mode.split(), *devices(tmp_path))
    assert len(cited(cases)) >= 90


@pytest.mark.kvm
def test_the_start_code_keeps_what_it_was_given(rust: Built, tmp_path: Path) -> None:
    """BOOT-1 is judged through the start code in Rust, not skipped for want of registers."""
    for name in IMAGES:
        cases = run(rust[name], *devices(tmp_path))
        assert any(title.startswith("BOOT-1 ") and why is None for title, why in cases)


@pytest.mark.kvm
@pytest.mark.parametrize("vcpus", ["1", "4"])
def test_our_host_with(rust: Built, vcpus: str) -> None:
    run(rust["conformance_rust"], "--vcpus", vcpus)


@pytest.mark.kvm
def test_a_host_that_offers_little(rust: Built) -> None:
    """What is not offered is skipped, and still looked at: it answers as CALL-2 says."""
    cases = run(rust["conformance_rust"], "--deny", "trace,memory,entropy,event,time,device,vcpu")
    assert sum(why is not None for _, why in cases) >= 5
    assert "CALL-2" in cited(cases)
