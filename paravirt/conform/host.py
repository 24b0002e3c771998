"""Which images are run in which way, and what came of it.

A chapter is an image ``conformance_NAME.elf``; it is run once in each mode, that is level of privilege, and
some on our own host once more with services and calls switched off, to see that nothing of them is left.
The chapter ``refused`` is made of the images ``refused_RULE_what.elf``, which a host must not boot.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from hypercall_abi import RULES
from hypercall_abi.virtio_musts import MUSTS

from ..boot.bundled import GUESTS
from ..errors import ConfigError
from ..interrupts import signal_name
from .launch import OUR_HOST, End, check_launcher, fill_in, launch
from .tap import Case, Reader

Privilege = Literal["user", "supervisor"]

PREFIX = "conformance_"
REFUSED = "refused"
MMIO = "mmio"  # chapters whose name begins so reach their devices by virtio-mmio
ALL = "all"  # the image of every chapter, for hosts that are slow to start
WHOLE = (ALL, "rust")  # have the chapters' own cases again (rust: entered by another start code): run when named
# The option that attaches each, and its size in bytes; an image's manifest says which it takes, and how.
DISKS = {
    "scratch": ("--disk", 1 << 20),
    "fixed": ("--disk", 1 << 16),
    "mapped": ("--pmem", (2 << 20) + 4096),
    "frozen": ("--pmem", 1 << 16),
}
LOOPS = ("wire",)  # networks that give back each frame
SOCKETS = ("socks",)  # vsocks at a path where nothing is
BALLOONS = ("rubber",)  # that want nothing
ATTACHED = (*DISKS, *LOOPS, *SOCKETS, *BALLOONS)
MASKED = "masked"  # the mode in which our own host has switched off what stands here
DENIED = {"calls": "trace,time.deadline,memory.discard"}
PROVABLE = frozenset(rule.id for rule in RULES.values() if rule.binds in ("host", "both") and not rule.no_case)
"""The rules that a case proves."""
CITABLE = frozenset(RULES) | frozenset(MUSTS)
"""What a case may cite: rules, and what virtio asks of devices."""


class Plan(NamedTuple):
    """What `judge` runs."""

    chapters: tuple[str, ...]
    privileges: tuple[Privilege, ...] = ("user", "supervisor")
    launcher: str | None = None
    """A command with ``{image}`` in it; None: this package's host."""
    vcpus: int = 2
    memory: str = "64M"
    poison: bool = True
    accel: str | None = None
    timeout_s: float = 120.0
    environment: tuple[tuple[str, str], ...] = ()
    """Put before this process's own."""


class Run(NamedTuple):
    """What one chapter came to in one mode."""

    chapter: str
    mode: str
    cases: tuple[Case, ...]
    problems: tuple[str, ...]
    """What was wrong with the run itself; any is a failure."""
    skipped: str = ""
    """Why the chapter tried nothing."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether all of it holds."""
        return not self.problems and all(case.passed for case in self.cases)

    @property
    def title(self) -> str:
        """``chapter (mode)``."""
        return f"{self.chapter} ({self.mode})" if self.mode else self.chapter


Progress = Callable[[str, str, Sequence[Case]], None]
"""Told of chapter, mode and the cases so far; what it raises ends the run."""


def chapters(guests: Path = GUESTS) -> dict[str, tuple[Path, ...]]:
    """The images of each chapter."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(guests.glob(f"{PREFIX}*.elf")):
        found[path.stem.removeprefix(PREFIX)] = (path,)
    if refused := tuple(sorted(guests.glob(f"{REFUSED}_*.elf"))):
        found[REFUSED] = refused
    return found


def choose(wanted: Sequence[str]) -> tuple[str, ...]:
    """The chapters named in `wanted`, each once; without any, all.  Raises ConfigError."""
    there = chapters()
    if not there:
        raise ConfigError(f"there are no conformance images in {GUESTS}; build them with make -C guest_drivers")
    for name in wanted:
        if name not in there:
            raise ConfigError(f"there is no chapter {name!r}; there are {', '.join(there)}")
    return tuple(dict.fromkeys(wanted)) or tuple(name for name in there if name not in WHOLE)


def judge(plan: Plan, progress: Progress) -> Iterator[Run]:
    """Runs what `plan` says, one after the other.  Raises ConfigError for a launcher that cannot be used."""
    if plan.launcher is not None:
        check_launcher(plan.launcher)
    images = chapters()
    for chapter in plan.chapters:
        for mode in modes(plan, chapter):
            with tempfile.TemporaryDirectory(prefix="paravirt-conform-") as place:
                if chapter == REFUSED:
                    yield _refused(plan, images[chapter], mode, Path(place), progress)
                else:
                    yield _chapter(plan, chapter, images[chapter][0], mode, Path(place), progress)


def modes(plan: Plan, chapter: str) -> tuple[str, ...]:
    """How to run `chapter`; a launcher that is not told the level decides it itself."""
    if plan.launcher is None:
        return (*plan.privileges, MASKED) if chapter in DENIED else plan.privileges
    return plan.privileges if "{privilege}" in plan.launcher else ("",)


def _chapter(plan: Plan, chapter: str, image: Path, mode: str, place: Path, progress: Progress) -> Run:
    reader = Reader(CITABLE)

    def line(text: str) -> None:
        reader.line(text)
        progress(chapter, mode, reader.cases)

    progress(chapter, mode, ())
    command = _command(plan, image, mode, place)
    if mode == MASKED:
        command += ["--deny", DENIED[chapter]]
    end = launch(command, plan.timeout_s, line, plan.environment)
    reader.end(end.left)
    problems = [*_end_problems(end, reader.cases), *reader.problems]
    return Run(chapter, mode, tuple(reader.cases), tuple(problems), reader.skipped, end.seconds)


def _refused(plan: Plan, images: Sequence[Path], mode: str, place: Path, progress: Progress) -> Run:
    cases: list[Case] = []
    seconds = 0.0
    for number, image in enumerate(images, 1):
        console: list[str] = []
        end = launch(_command(plan, image, mode, place), plan.timeout_s, console.append, plan.environment)
        booted = any(text.startswith(("ok ", "not ok ", "1..")) for text in console)
        passed = not booted and end.status is not None and end.status > 0
        group, number_of_rule, *words = image.stem.removeprefix(f"{REFUSED}_").split("_")
        notes = () if passed else ("the image was booted" if booted else _manner(end), end.errors)
        rule = f"{group.upper()}-{number_of_rule}"
        cases.append(Case(number, passed, (rule,), f"refused: {' '.join(words)}", "", tuple(filter(None, notes))))
        seconds += end.seconds
        progress(REFUSED, mode, cases)
    return Run(REFUSED, mode, tuple(cases), (), "", seconds)


def _manner(end: End) -> str:
    if end.status is None:
        return end.why
    if end.status < 0:
        return f"the host was ended by {signal_name(-end.status)}"
    return f"the host's exit status is {end.status}"


def _end_problems(end: End, cases: Sequence[Case]) -> Iterator[str]:
    """What is wrong with the host's end, after what the image said in `cases`."""
    passed = all(case.passed for case in cases)
    if end.status is None or end.status < 0 or (end.status == 0) != passed:
        verdict = ", although every case passed" if passed else ", although a case failed"
        manner = f"{_manner(end)}{verdict if cases and end.status is not None and end.status >= 0 else ''}"
        yield f"{manner}; it said: {end.errors}" if end.errors else manner


def _command(plan: Plan, image: Path, mode: str, place: Path) -> list[str]:
    paths = {name: place / name for name in ATTACHED}
    for name, (_, size_bytes) in DISKS.items():
        with paths[name].open("wb") as file:
            file.truncate(size_bytes)
    if plan.launcher is None:
        return _own_command(plan, image, mode, paths)
    return fill_in(
        plan.launcher,
        image=image,
        disk=paths["scratch"],
        **{name: path for name, path in paths.items() if name in (*DISKS, *SOCKETS) and name != "scratch"},
        memory=plan.memory,
        vcpus=plan.vcpus,
        privilege=mode,
    )


def _own_command(plan: Plan, image: Path, mode: str, paths: dict[str, Path]) -> list[str]:
    command = [*OUR_HOST, str(image)]
    command += ["--privilege", plan.privileges[0] if mode == MASKED else mode]
    command += ["--vcpus", str(plan.vcpus), "--memory", plan.memory]
    for name in _wanted(image):
        command += option(name, paths[name])
    if image.stem.startswith(f"{PREFIX}{MMIO}"):
        command += ["--transport", "mmio"]
    if plan.poison:
        command.append("--poison")
    if plan.accel:
        command += ["--accel", plan.accel]
    return command


def option(name: str, path: Path) -> list[str]:
    """What attaches the device `name` to our own host; `path` is its file or socket, if it has one."""
    if name in LOOPS:
        return ["--net", f"{name}=loop"]
    if name in BALLOONS:
        return ["--balloon", f"{name}=0"]
    return ["--vsock" if name in SOCKETS else DISKS[name][0], f"{name}={path}"]


def _wanted(image: Path) -> list[str]:
    """What is to be attached that `image` takes."""
    from ..boot.image import load_image  # loads the C core, which a launcher needs not
    from ..errors import ImageError

    try:
        return [entry.name for entry in load_image(image).notes.manifest if entry.name in ATTACHED]
    except ImageError:  # of those that are to be refused
        return []
