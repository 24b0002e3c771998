"""Replays a recording into a host and says what differed first.

The host is a process that boots an ELF file: this package's own, or any launcher's.  What it prints is read like
a test runner's output; the guest there (guests/replay.c) ends at the first difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hypercall_abi import SERVICES
from hypercall_abi.conventions import STATUS
from hypercall_abi.devices.types import DEVICE_TYPE
from hypercall_abi.recording import RECORDED_FLAG

from ..boot.bundled import find_image
from ..config import MEMORY_STEP_BYTES
from ..conform.launch import OUR_HOST, End, fill_in, launch
from ..errors import RecordingError
from .convert import DECLARED, Entry, Program
from .image import with_program
from .reader import Call, Life

LEAST_MEMORY_BYTES = 16 << 20
FILES = {DEVICE_TYPE.BLOCK: "--disk", DEVICE_TYPE.PMEM: "--pmem"}
NEEDED = ("base", "console", "system")  # of the guest that replays

_CASE = re.compile(r"(not )?ok (\d+) - replay: call (\d+)")
_STATUS = re.compile(r"# status expected (-?\d+) got (-?\d+)")
_VALUE = re.compile(r"# value expected ([0-9a-f]+) got ([0-9a-f]+)")
_OUTPUT = re.compile(r"# output ([0-9a-f]+) expected ([0-9a-f]+) got ([0-9a-f]+)")
_BAIL = re.compile(r"Bail out! (.*)")


class Host(NamedTuple):
    """What replays."""

    launcher: str | None = None
    """A command with ``{image}`` in it; None: this package's host."""
    privilege: str | None = None
    """``user`` or ``supervisor``; None: as recorded."""
    accel: str | None = None
    timeout_s: float = 120.0


class Difference(NamedTuple):
    """The first call whose answer is another."""

    call: Call
    name: str
    """Of the call made: a batch, for those made together."""
    what: tuple[str, ...]
    """Lines: status, value, output."""


class Verdict(NamedTuple):
    """What the replay of one life came to."""

    calls: int
    """Made and answered as recorded."""
    left_out: tuple[tuple[Call, str], ...]
    difference: Difference | None
    problem: str
    """Why not all calls were made, other than by a difference; else empty."""

    @property
    def same(self) -> bool:
        """Whether every call was answered as recorded."""
        return not self.difference and not self.problem


def replay(program: Program, host: Host, place: Path) -> Verdict:
    """Runs `program`; files go to the directory `place`.  Raises RecordingError and ConfigError."""
    _check(program.life)
    data = program.build()
    image = place / "replay.elf"
    image.write_bytes(with_program(find_image("replay").read_bytes(), data, program.life.devices))
    reading = _Reading(program)
    end = launch(_command(program, host, image, len(data)), host.timeout_s, reading.line)
    reading.line(end.left)
    return reading.verdict(end)


def _check(life: Life) -> None:
    for name in NEEDED:
        service = SERVICES[name]
        _, denied = life.services.get(service.number, (0, 0xFFFF_FFFF))
        if denied:
            raise RecordingError(
                f"the recorded guest was denied calls of the service {name}, without which nothing can be replayed"
            )


def _memory_bytes(program: Program, data_bytes: int) -> int:
    """As recorded, so that an address beyond the end is one here, too; more if the replay needs it."""
    needed = 2 * (program.arena_bytes + data_bytes) + LEAST_MEMORY_BYTES
    return max(program.life.memory_bytes, -(-needed // MEMORY_STEP_BYTES) * MEMORY_STEP_BYTES)


def _command(program: Program, host: Host, image: Path, data_bytes: int) -> list[str]:
    life = program.life
    memory, privilege = _memory_bytes(program, data_bytes), host.privilege
    privilege = privilege or ("supervisor" if life.flags & RECORDED_FLAG.SUPERVISOR else "user")
    if host.launcher is None:
        command = [*OUR_HOST, str(image), "--privilege", privilege]
        command += ["--vcpus", str(life.vcpus), "--memory", str(memory), *_options(life, image.parent)]
        return command + (["--accel", host.accel] if host.accel else [])
    return fill_in(host.launcher, image=image, memory=memory, vcpus=life.vcpus, privilege=privilege)


def _options(life: Life, place: Path) -> Iterator[str]:
    """What our own host is given besides: disks as large as those recorded, and what was denied."""
    for number, device in enumerate(life.devices):
        if option := FILES.get(device.type):
            path = place / f"disk{number}"
            with path.open("wb") as file:
                file.truncate(device.size_bytes)
            yield from (option, f"{device.name}={path}{',ro' if device.read_only else ''}")
    for name, service in SERVICES.items():
        if service.number not in life.services:
            yield from ("--deny", name)
            continue
        for call in service.calls:
            if life.services[service.number][1] >> call.number & 1:
                yield from ("--deny", f"{name}.{call.name}")
    if life.flags & RECORDED_FLAG.POISON:
        yield "--poison"
    if life.flags & RECORDED_FLAG.MMIO:
        yield from ("--transport", "mmio")


class _Reading:
    """What the guest said so far."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._same = 0
        self._notes: list[str] = []
        self._difference: Difference | None = None
        self._bail = ""

    def line(self, text: str) -> None:
        if self._difference or self._bail:
            return
        if bail := _BAIL.fullmatch(text):
            self._bail = bail[1]
        elif text.startswith("# "):
            self._notes.append(text)
        elif case := _CASE.fullmatch(text):
            self._case(case)

    def _case(self, case: re.Match[str]) -> None:
        """Cases come in order: what the recorded guest wrote may look like one."""
        entries = self._program.entries
        if self._same >= len(entries) or (int(case[2]), int(case[3])) != self._next():
            return
        if case[1]:
            entry = entries[self._same]
            self._difference = Difference(entry.call, _name(entry), tuple(_explain(entry, self._notes)))
        else:
            self._same += 1
            self._notes = []

    def _next(self) -> tuple[int, int]:
        return self._same + 1, self._program.entries[self._same].call.number

    def verdict(self, end: End) -> Verdict:
        problem = self._bail
        if not problem and not self._difference and self._same < len(self._program.entries):
            entry = self._program.entries[self._same]
            manner = end.why or f"the host ended with status {end.status}"
            said = f"; it said: {end.errors}" if end.errors else ""
            problem = f"{manner} at call {entry.call.number}, {_name(entry)}{said}"
        elif not problem and not self._difference and end.status != 0:
            problem = end.why or f"every call is the same, but the host's exit status is {end.status}"
        return Verdict(self._same, tuple(self._program.left_out), self._difference, problem)


def _name(entry: Entry) -> str:
    ring = entry.id != entry.call.id
    return f"{name_of(entry.call)} (of a ring, made as a batch of one)" if ring else name_of(entry.call)


def name_of(call: Call) -> str:
    """A call with its arguments by name."""
    declared = DECLARED.get(call.id)
    if not declared:
        return f"{call.name}({', '.join(f'{arg:#x}' for arg in call.args)})"
    given = (f"{name}={arg:#x}" for name, arg in zip(declared.registers, call.args, strict=False))
    return f"{call.name}({', '.join(given)})"


def _explain(entry: Entry, notes: Sequence[str]) -> Iterator[str]:
    for note in notes:
        if found := _STATUS.fullmatch(note):
            yield f"status: expected {STATUS.name_of(int(found[1]))}, got {STATUS.name_of(int(found[2]))}"
        elif found := _VALUE.fullmatch(note):
            yield f"value: expected 0x{found[1]}, got 0x{found[2]}"
        elif found := _OUTPUT.fullmatch(note):
            yield from _diff(entry, int(found[1], 16), found[2], found[3])


def _diff(entry: Entry, offset: int, expected: str, got: str) -> Iterator[str]:
    output = next((o for o in entry.outputs if o.offset <= offset < o.offset + len(o.data)), None)
    what, at = (output.what, output.begins + offset - output.offset) if output else ("output", offset)
    yield from diff(what, at, bytes.fromhex(expected), bytes.fromhex(got))


def diff(what: str, at: int, one: bytes, other: bytes) -> Iterator[str]:
    """A few bytes of output from byte `at` on, as expected and as got, with a mark below each that differs."""
    marks = " ".join("  " if a == b else "^^" for a, b in zip(one, other, strict=False))
    yield f"{what}: from byte {at} on expected {one.hex(' ')}"
    indent = len(f"{what}: from byte {at} on expected ") - len("got ")
    yield f"{' ' * indent}got {other.hex(' ')}"
    yield f"{' ' * (indent + 4)}{marks}".rstrip()
