"""Mapped disks under a guest: loads and stores, what is read-only, files that are cut, one file for many machines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from paravirt import Machine, MachineConfig
from paravirt.attachments.pmem import Pmem
from paravirt.cli import main
from paravirt.errors import DiskLost, GuestCrashed
from tests.support.built import GUESTS, without_notes

pytestmark = [pytest.mark.kvm]

MIB = 1 << 20
PAGE = 4096
SIZE = 4 * MIB + PAGE
PATIENCE_S = 60


class Guest:
    """The guest `mapped` with some mapped disks; what it says is in `text`."""

    def __init__(self, way: str, *disks: Pmem, image: Path = GUESTS / "mapped.elf", **options: Any) -> None:
        self._said = bytearray()
        self._news = threading.Condition()
        options = {"timeout_s": PATIENCE_S, "command_line": way, **options}
        self.machine = Machine(MachineConfig(image, devices=disks, console=self._hear, **options))

    def _hear(self, data: bytes) -> None:
        with self._news:
            self._said += data
            self._news.notify_all()

    @property
    def text(self) -> str:
        return self._said.decode()

    def wait_for(self, words: str) -> None:
        with self._news:
            assert self._news.wait_for(lambda: words in self.text, PATIENCE_S), self.text


@pytest.fixture
def start() -> Iterator[Callable[..., Guest]]:
    """Makes guests that are stopped at the end."""
    with ExitStack() as machines:

        def begin(*args: Any, **options: Any) -> Guest:
            guest = Guest(*args, **options)
            machines.enter_context(guest.machine).start()
            return guest

        yield begin


def run(way: str, *disks: Pmem, **options: Any) -> tuple[str, Any]:
    guest = Guest(way, *disks, **options)
    with guest.machine:
        outcome = guest.machine.run()
    return guest.text, outcome


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(bytes(SIZE))
    return path


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    path = tmp_path / "fixed"
    path.write_bytes(b"fixed" * 2000)  # no whole pages
    return path


@pytest.mark.parametrize("privilege", ["user", "supervisor"])
def test_guest(data: Path, fixed: Path, privilege: str) -> None:
    """PMEM-1, PMEM-2: the manifest asks for `fixed` read-only, whatever the user says."""
    text, outcome = run("", Pmem("data", data), Pmem("fixed", fixed), privilege=privilege)
    assert outcome.status == 0, text
    assert "not ok" not in text and "# SKIP" not in text and text.count(" - two steps: ") == 7
    assert data.read_bytes()[:2] == b"\x5a\0"
    device = next(device for device in outcome.statistics.devices if device.name == "data")
    assert device.more["syncs"] >= 4 and device.more["mapped_bytes"] == SIZE
    assert fixed.read_bytes() == b"fixed" * 2000


def test_guest_with_much_memory(data: Path) -> None:
    """Above RAM that goes on at 4 GiB."""
    text, outcome = run("", Pmem("data", data), memory_bytes=5 << 30)
    assert outcome.status == 0, text


def test_what_was_flushed_is_in_the_file(data: Path) -> None:
    text, _ = run("flush", Pmem("data", data))
    assert text == "mapped: flush 0\n"
    pages = data.read_bytes()
    assert [pages[n * PAGE] for n in range(SIZE // PAGE)] == [(n + 1) % 256 for n in range(SIZE // PAGE)]


@pytest.mark.parametrize("privilege", ["user", "supervisor"])
def test_a_store_to_what_is_read_only_is_a_page_fault(fixed: Path, privilege: str) -> None:
    """PMEM-3: of that guest's, which reports where."""
    with pytest.raises(GuestCrashed, match=r"exception 14 .* fault address 0x1000\d+1000: page fault"):
        run("store", Pmem("fixed", fixed), privilege=privilege)
    assert fixed.read_bytes() == b"fixed" * 2000


def test_a_store_that_the_guests_own_tables_let_pass(fixed: Path, tmp_path: Path) -> None:
    """PMEM-3: it changes nothing and faults the device, by which the flush behind it is lost; the machine lives."""
    image = without_notes(GUESTS / "mapped.elf", tmp_path)
    before = fixed.read_bytes()
    text, outcome = run("store", Pmem("any", fixed, read_only=True), image=image)
    assert re.fullmatch(rf"mapped: stored, now {before[PAGE]}, flush -\d+\n", text)
    assert outcome.statistics.devices[0].fault == "PMEM-3"
    assert fixed.read_bytes() == before


def test_entered_by_pvh(data: Path, tmp_path: Path) -> None:
    """The guest brings its own page tables, and its devices are behind virtio-mmio."""
    text, _ = run("flush", Pmem("any", data), image=without_notes(GUESTS / "mapped.elf", tmp_path))
    assert text == "mapped: flush 0\n"
    assert data.read_bytes()[PAGE] == 2


# ---- files that are cut ----


@pytest.mark.parametrize("read_only", [False, True], ids=["rw", "ro"])
@pytest.mark.parametrize("privilege", ["user", "supervisor"])
def test_a_file_that_is_cut_ends_its_machine_alone(
    start: Callable[..., Guest], data: Path, tmp_path: Path, privilege: str, read_only: bool
) -> None:
    """PMEM-6: while it is touched; another machine of the process goes on."""
    other = tmp_path / "other"
    other.write_bytes(bytes(SIZE))
    name = "fixed" if read_only else "data"
    lives = start("touch", Pmem("data", other))
    dies = start("touch", Pmem(name, data), privilege=privilege)
    lives.wait_for("touching")
    dies.wait_for("touching")
    os.truncate(data, MIB)
    with pytest.raises(DiskLost, match=rf"^mapped disk '{name}': .* was cut from {SIZE} to {MIB} bytes") as caught:
        dies.machine.wait(PATIENCE_S)
    assert "\n" not in str(caught.value)
    assert not lives.machine.ending
    lives.machine.stop()
    assert lives.machine.wait().kind == "stopped"


def test_a_file_that_is_cut_and_not_touched(start: Callable[..., Guest], data: Path) -> None:
    """Nobody notices, and the host's own copies never go there (PMEM-2): the machine is stopped as any."""
    guest = start("hold", Pmem("data", data))
    guest.wait_for("all pages")
    os.truncate(data, 0)
    guest.machine.statistics()
    guest.machine.stop()
    assert guest.machine.wait().kind == "stopped"


def test_exit_status(data: Path, tmp_path: Path) -> None:
    """One line, and a status of its own."""
    command = [sys.executable, "-m", "paravirt", "run", "mapped", "--cmdline", "touch", "--timeout", str(PATIENCE_S)]
    process = subprocess.Popen(
        [*command, "--pmem", f"data={data}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    assert process.stdout.readline() == "mapped: touching\n"
    os.truncate(data, PAGE)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == DiskLost.exit_status
    assert errors.startswith(f"paravirt: mapped disk 'data': {data} was cut from {SIZE} to {PAGE} bytes")
    assert errors.count("\n") == 1


# ---- one file for many machines ----


def _mapped_kib(path: Path, pid: int | str = "self") -> dict[str, int]:
    """What /proc/PID/smaps says of all mappings of a file together."""
    found: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(str(path))
        elif inside and (match := re.match(r"(\w+): +(\d+) kB", line)):
            found[match[1]] = found.get(match[1], 0) + int(match[2])
    return found


@pytest.mark.only_kvm("the software vCPU's engine maps the file in its own process")
def test_one_image_for_two_machines_is_in_memory_once(start: Callable[..., Guest], tmp_path: Path) -> None:
    """Its pages are shared: what is proportionally theirs adds up to the file, and nothing of it is private."""
    path = tmp_path / "image"
    path.write_bytes(os.urandom(16 * MIB))
    guests = [start("hold", Pmem("fixed", path)) for _ in range(2)]
    for guest in guests:
        guest.wait_for("all pages")
    sums = {re.search(r"sum (\d+)", guest.text)[1] for guest in guests}  # type: ignore[index]
    assert sums == {str(sum(path.read_bytes()[::PAGE]))}
    mapped = _mapped_kib(path)
    assert mapped["Size"] == 2 * 16 * 1024
    assert mapped["Rss"] > 16 * 1024 and mapped["Pss"] <= 16 * 1024
    assert mapped["Private_Dirty"] == mapped["Anonymous"] == 0


# ---- the command line ----


def test_bad_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_bytes(b"x")
    assert main(["run", "mapped", "--pmem", f"data={odd}"]) == 36
    error = capsys.readouterr().err
    assert error.startswith(f"paravirt: mapped disk 'data': {odd} has 1 bytes, not a multiple of 4096; fill it up by: ")
    assert main(["run", "mapped", "--pmem", f"other={odd}"]) == 31
    assert "has no mapped disk 'other', it has data, fixed" in capsys.readouterr().err


def test_conformance_of_a_guest_with_a_mapped_disk(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each run has a copy of its own."""
    assert main(["conform", "guest", "mapped", "--cmdline", "flush", "--pmem", f"data={data}", "--inject", "all"]) == 0
    assert "passed: the guest broke no rule" in capsys.readouterr().out
    assert data.read_bytes() == bytes(SIZE)
