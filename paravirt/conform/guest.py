"""Runs a guest under the strict host, once plainly and once with each injection, and says what it did wrong.

A rule is broken where the calls show it (``findings.py``), and where the guest does not come to its proper end
with an injection that leaves a correct guest's end as it is.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, TypeVar

from hypercall_abi import RULES

from ..attachments import FileAttachment
from ..config import Disk, MachineConfig, ServedDisk
from ..errors import BootRefused, ConfigError, GuestError, GuestTimeout, WatchdogExpired
from ..recording.reader import read
from . import injections as known
from .findings import Finding, judge_calls, judge_image, judge_machine
from .late_disk import LateDisk
from .strict import Injection, StrictMachine

File = TypeVar("File", bound=FileAttachment)
PLAIN, ALL, MANDATORY = "plain", "all", "boot-mandatory"
TWINS = {"later-status": "failed"}
"""An injection → the one with which the guest's end must be the same."""
FREE_ENDS = ("failed", "later-status")
"""With these the guest may end as it likes, in order."""
LEAST_S, SLOWER = 5.0, 20

KINDS: dict[str, Callable[[], Injection]] = {
    kind.name: kind
    for kind in (
        known.Poison,
        known.SpuriousEvents,
        known.EarlyBlock,
        known.Continue,
        known.ShortReads,
        known.Refusals,
        known.LaterStatus,
        known.Quota,
        known.BootRecords,
        known.BootMandatory,
        known.Clock,
        known.ConfigChanges,
        LateDisk,
    )
}

BY_HOST = frozenset(
    [
        *(f"VQ-{n}" for n in (*range(1, 9), 13)),
        *(f"NET-{n}" for n in (1, 2, 3)),
        *("BLK-3", "BAL-1", "PMEM-5", "RING-7", "VSK-1", "VSK-2"),
    ]
)
"""Rules that the host itself names when a queue or a ring is stopped for them."""

UNSEEN = {
    "DATA-2": "what a guest does not look at leaves no trace",
    "DATA-3": "a word of the host's that the guest wrote is written again by the host, and nobody was misled",
    "VER-2": "what a guest leaves alone leaves no trace; records, statuses and bits of later versions are tried by "
    "injections",
    "VER-3": "a guest with notes is not started by CPUID, and others do not come under this host",
    "MEM-9": "what a guest misses of its memory it misses alone, and a page that it touches costs no exit",
    "TIME-4": "what a guest makes of the counter is not seen",
    "CONT-2": "what a guest takes from the page it keeps to itself",
    "CONT-6": "whether a guest is quiet it knows alone",
    "CONT-8": "what a guest draws it keeps to itself; the reference generator is tested by the library's own tests",
    "DEV-20": "what virtio asks of drivers beyond the rules here is virtio's to judge",
    "CALL-15": "an x86-64 trap is a barrier by itself; nothing is left for the guest to do",
    "CALL-16": "a guest's own programs are not seen from outside of it",
    "EVT-12": "a bit that a guest sets of its own accord leaves no trace; what it loses, it loses alone",
    "EVT-14": "what comes between two instructions is chance; an end that is missing is seen as EVT-9",
    "RING-3": "a guest that counts wrong is one that breaks RING-7, or hangs",
    "RING-4": "an order of stores within a guest cannot be seen from outside; the reference driver's is held by TSan",
    "RING-11": "there is nothing that a guest could do wrong",
    "CPUID-2": "a guest with notes is not started by CPUID, and others do not come under this host",
    "VSK-5": "data beyond the credit resets its connection (VSK-4), which the guest sees itself",
    "VQ-9": "there is nothing that a driver could do wrong",
}
"""Rules that bind a guest, and why this host cannot see them broken."""


class End(NamedTuple):
    """How a run ended."""

    kind: str
    """``shutdown``, ``reset``, ``crash`` or the name of an error's class."""
    reason: str = ""
    status: int = 0
    text: str = ""

    @property
    def orderly(self) -> bool:
        """Whether the guest ended by its own decision, and said how."""
        return self.kind == "shutdown"


class Run(NamedTuple):
    """One run: under which injection, its end, what was found."""

    injection: str
    doc: str
    end: End
    findings: tuple[Finding, ...]
    seconds: float
    touched: int
    """Calls that the injection had a hand in."""


Progress = Callable[[str], None]


def choose(wanted: Sequence[str]) -> tuple[str, ...]:
    """The injections named, or all.  Raises ConfigError."""
    there = (*KINDS, ALL)
    for name in wanted:
        if name not in there:
            raise ConfigError(f"there is no injection {name!r}; there are {', '.join(there)}")
    return tuple(dict.fromkeys(wanted)) or there


def judge(config: MachineConfig, status: int, wanted: Sequence[str], progress: Progress) -> Iterator[Run]:
    """The runs, the plain one first; `status` is that of the guest's proper end.  Raises ParavirtError."""
    limit_s = config.timeout_s
    proper = End("shutdown", "POWEROFF", status)
    progress(PLAIN)
    plain = _run(config, PLAIN, "nothing unusual", [], limit_s or 60.0)
    yield _weigh(plain, proper, ())
    if not _proper(plain.end, proper):  # nothing that comes after could be held against an injection
        return
    patience_s = limit_s or max(LEAST_S, SLOWER * plain.seconds)
    ends: dict[str, End] = {}
    for name in (*(twin for twin in TWINS.values() if set(TWINS) & set(wanted) and twin not in wanted), *wanted):
        progress(name)
        made = known.combined() if name == ALL else [KINDS[name]()]
        doc = "several of them at once" if name == ALL else made[0].doc
        run = _run(config, name, doc, made, patience_s)
        ends[name] = run.end
        rules = () if name == ALL else made[0].rules
        expected = proper
        if name == MANDATORY:
            expected = End(BootRefused.__name__, "BOOT_REFUSED")
        elif name in TWINS:
            expected = ends[TWINS[name]]
        yield _weigh(run, expected, rules, free=name in FREE_ENDS and name not in TWINS)


def _proper(end: End, proper: End) -> bool:
    return (end.kind, end.reason, end.status) == (proper.kind, proper.reason, proper.status)


def _weigh(run: Run, proper: End, rules: tuple[str, ...], *, free: bool = False) -> Run:
    """`run` with a finding for an end that is not `proper`; `free`: any orderly one is."""
    end = run.end
    if end.orderly and free or _proper(end, proper):
        return run
    if end.kind == "shutdown" and proper.kind == BootRefused.__name__ and end.reason == proper.reason:
        return run
    said = end.text or f"it ended with {end.reason or end.kind}, status {end.status}"
    wanted = f"{proper.reason or proper.kind}, status {proper.status}"
    late = Finding(" ".join(rules), f"not its proper end ({wanted}): {said}")
    shown = {finding.rule for finding in run.findings} & set(rules)
    return run if shown else run._replace(findings=(*run.findings, late))


def _run(config: MachineConfig, name: str, doc: str, made: Sequence[Injection], patience_s: float) -> Run:
    with ExitStack() as kept:
        work = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="paravirt-conform-")))
        recording = work / "calls.pcapng"
        disks = tuple(_copy(disk, work) for disk in config.disks)
        devices = tuple(_own(d, work) if isinstance(d, FileAttachment) else d for d in config.devices)
        ready = config.replace(disks=disks, devices=devices, record=recording, timeout_s=patience_s)
        began = time.monotonic()
        found: list[Finding] = []
        with StrictMachine(ready, made) as machine:
            end = _end(machine)
            hung = end.kind in (GuestTimeout.__name__, WatchdogExpired.__name__)
            found += [*judge_image(machine.image), *judge_machine(machine, hung)]
        for life in read(recording):
            found += judge_calls(life, machine.injected)
        return Run(name, doc, end, tuple(_once(found)), time.monotonic() - began, machine.injected.total())


def _end(machine: StrictMachine) -> End:
    try:
        outcome = machine.run()
    except GuestError as error:
        return End(type(error).__name__, text=str(error))
    return End(outcome.kind, outcome.reason, outcome.status)


def _copy(disk: Disk | ServedDisk, work: Path) -> Disk:
    """A disk of its own for each run, so that all begin alike."""
    if isinstance(disk, ServedDisk):
        raise ConfigError(f"the disk {disk.name!r} is another program's and cannot be copied; give a file")
    return _own(disk, work)


def _own(disk: File, work: Path) -> File:
    if disk.read_only:
        return disk
    copy = work / f"{disk.kind}-{disk.name.replace('/', '_')}"
    try:
        shutil.copyfile(disk.path, copy)
    except OSError as error:
        raise ConfigError(f"cannot copy the disk {disk.path}: {error.strerror}; see that there is room") from error
    return disk.replace(path=copy)


def _once(found: Sequence[Finding]) -> Iterator[Finding]:
    """The first of each rule and kind: a guest makes its mistakes in loops."""
    seen = set()
    for finding in found:
        key = finding.rule, finding.text.partition(" by vCPU")[0]
        if key not in seen:
            seen.add(key)
            yield finding


def provoked() -> set[str]:
    """Rules that some injection relies on."""
    return {rule for make in KINDS.values() for rule in make().rules}


def bound() -> set[str]:
    """Rules that bind a guest."""
    return {rule.id for rule in RULES.values() if rule.binds in ("guest", "both") and not rule.no_case}
