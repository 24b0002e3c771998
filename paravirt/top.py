"""What this user's machines do, as they say themselves (``control/``): read, made into rates, told in OpenMetrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .control.client import Snapshot, machines

GAUGES = frozenset(  # what back ends say of this moment; all else they count
    (
        "actual_bytes",
        "guest_available_memory_bytes",
        "guest_disk_caches_bytes",
        "guest_free_memory_bytes",
        "guest_total_memory_bytes",
        "in_flight",
        "last_ns",
        "longest_ns",
        "mapped_bytes",
        "open_connections",
    )
)


def read_all(directory: Path | None = None) -> list[Snapshot]:
    """Every machine that answers, by name and process.  What a killed process left behind is removed."""
    return [snapshot for _, snapshot in machines(directory)]


def rates(before: Any, after: Any, seconds: float) -> Any:
    """`after` with every count replaced by its growth per second since `before`, of the same shape; gauges stay."""
    if isinstance(after, dict):
        before = before if isinstance(before, dict) else {}
        grown = {name: rates(before.get(name), value, seconds) for name, value in after.items()}
        return grown | {name: after[name] for name in GAUGES & after.keys()}
    if isinstance(after, list):
        before = before if isinstance(before, list) and len(before) == len(after) else [None] * len(after)
        return [rates(b, a, seconds) for b, a in zip(before, after, strict=True)]
    if isinstance(after, int) and not isinstance(after, bool):
        return (after - before if isinstance(before, int) and before <= after else after) / seconds
    return after


def names(machines: Sequence[Snapshot]) -> list[str]:
    """What a table calls each: by its name, with the process if that is several machines', or with the identity."""
    found: list[str] = []
    for more in ("", "pid", "uuid"):
        found = [f"{machine['name']}:{machine[more]!s:.8}" if more else str(machine["name"]) for machine in machines]
        if len(set(found)) == len(found):
            break
    return found


ALIEN = (LookupError, TypeError, ValueError, AttributeError)
"""What who reads a snapshot of another version's may meet: it has other fields."""


def about_alien(machine: Snapshot) -> str:
    """What is said of a machine whose statistics are not as here."""
    return (
        f"the machine {machine['name']!r} (process {machine['pid']}) is run by another version of paravirt: its "
        "statistics are not shown; ask that version's paravirt top"
    )


def _label(value: object) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


Sample = tuple[str, str, Mapping[str, object], float]
"""Family, counter or gauge, labels, value."""


def _samples(machine: Snapshot) -> Iterator[Sample]:
    own: dict[str, object] = {"machine": machine["name"], "pid": machine["pid"], "uuid": machine["uuid"]}
    statistics = machine["statistics"]
    yield "paused", "gauge", own, int(machine["paused"])
    for name, value in statistics["memory"].items():
        kind = "counter" if name == "reported_bytes" else "gauge"
        yield f"memory_{name}", kind, own, value
    for name in ("console_bytes", "trace_marks", "run_ns"):
        yield name, "counter", own, statistics[name]
    for name in ("events", "acknowledged"):
        yield f"continuity_{name}", "counter", own, statistics["continuity"][name]
    for number, vcpu in enumerate(statistics["vcpus"]):
        labels = own | {"vcpu": number}
        for name in ("calls", "ring_calls", "upcalls"):
            yield f"vcpu_{name}", "counter", labels, vcpu[name]
        for reason, count in vcpu["exits_for"].items():
            yield "vcpu_exits", "counter", labels | {"reason": reason}, count
    for device in statistics["devices"]:
        labels = own | {"device": device["name"], "type": device["type"]}
        for name in ("interrupts", "doorbells"):
            yield f"device_{name}", "counter", labels, device[name]
        for name, count in device["more"].items():
            if name in ("interrupts", "doorbells"):  # of the same: a series has one value
                continue
            yield f"device_{name}", "gauge" if name in GAUGES else "counter", labels, count
        for number, queue in enumerate(device["queues"]):
            for name, value in queue.items():
                yield f"queue_{name}", "gauge", labels | {"queue": number}, value


def openmetrics(machines: Sequence[Snapshot], tell: Callable[[str], object]) -> str:
    """The statistics in the text format OpenMetrics 1.0; machines that are left out, `tell` is told."""
    families: dict[str, list[str]] = {}
    samples: list[Sample] = []
    for machine in machines:
        try:
            samples += list(_samples(machine))
        except ALIEN:
            tell(about_alien(machine))
    for family, kind, labels, value in samples:
        name = f"paravirt_{family}"
        lines = families.setdefault(name, [f"# TYPE {name} {kind}"])
        shown = ",".join(f'{label}="{_label(text)}"' for label, text in labels.items())
        lines.append(f"{name}{'_total' if kind == 'counter' else ''}{{{shown}}} {value}")
    return "\n".join([*(line for lines in families.values() for line in lines), "# EOF"])
