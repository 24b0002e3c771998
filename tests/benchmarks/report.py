"""Rows of figures: medians of rounds, ratios, a table for people, JSON and a plot."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

Rounds = Sequence[float]


@dataclass
class Row:
    """One figure; `rounds` holds what each round measured of value, floor and peer."""

    bench: str
    figure: str
    value: float | None
    unit: str
    floor: float | None = None
    peer: float | None = None
    ratio_floor: float | None = None
    ratio_peer: float | None = None
    better: str = "lower"
    p99: float | None = None
    goal: str = ""
    why: str = ""
    points: list[tuple[int, float]] = field(default_factory=list)
    """Of a figure that grows: size, and the median cost of a unit of work."""
    rounds: list[dict[str, float]] = field(default_factory=list)


def make_row(bench: str, figure: str, unit: str, rounds: list[dict[str, float]], **more: Any) -> Row:
    """A row from rounds that have "value" and perhaps "floor", "peer" and "p99": medians, and medians of ratios."""

    def median(name: str) -> float | None:
        taken = [r[name] for r in rounds if name in r]
        return statistics.median(taken) if taken else None

    def ratio(name: str) -> float | None:
        taken = [r["value"] / r[name] for r in rounds if r.get(name)]
        return statistics.median(taken) if taken else None

    return Row(
        bench, figure, median("value"), unit, median("floor"), median("peer"), ratio("floor"), ratio("peer"),
        p99=median("p99"), rounds=rounds, **more,
    )  # fmt: skip


def missing_row(bench: str, figure: str, unit: str, why: str) -> Row:
    """A figure that could not be taken here."""
    return Row(bench, figure, None, unit, why=why)


def _show(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.{digits}g}"


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    cells = [["figure", "median", "p99", "unit", "floor", "peer", "× floor", "× peer", "goal"]]
    for r in rows:
        shown = [_show(v) for v in (r.value, r.p99)]
        ratios = [_show(v, 3) for v in (r.ratio_floor, r.ratio_peer)]
        cells.append(
            [f"{r.bench} / {r.figure}", *shown, r.unit, _show(r.floor), _show(r.peer), *ratios, r.goal or r.why]
        )
    widths = [max(len(c) for c in column) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    flags = Path("/proc/cpuinfo").read_text()
    kind = "vmx" if " vmx" in flags else "svm" if " svm" in flags else "page tables"
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "kvm": kind}


def write_json(rows: Sequence[Row], path: Path) -> None:
    """The rows with all their rounds."""
    path.write_text(json.dumps({"machine": machine(), "rows": [asdict(r) for r in rows]}, indent=2) + "\n")


def write_svg(rows: Sequence[Row], path: Path) -> None:
    """Bars: each figure in units of its peer or floor, which is the line at 1."""
    drawn = [r for r in rows if r.ratio_peer or r.ratio_floor]
    height, width, left, scale = 28 * len(drawn) + 60, 760, 300, 200
    one, caption = left + scale, "1 = floor (grey) or QEMU (blue)"
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f'<rect {size} fill="white"/>',
        f'<line x1="{one}" y1="10" x2="{one}" y2="{height - 30}" stroke="#888" stroke-dasharray="4"/>',
        f'<text x="{one}" y="{height - 12}" text-anchor="middle" fill="#555">{caption}</text>',
    ]
    for i, r in enumerate(drawn):
        ratio = r.ratio_peer or r.ratio_floor or 0
        y, bar = 20 + 28 * i, min(ratio, 2.1) * scale
        colour = "#3b6ea5" if r.ratio_peer else "#8a8a8a"
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(f"{r.bench} / {r.figure}")}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{bar:.0f}" height="18" fill="{colour}"/>')
        parts.append(f'<text x="{left + bar + 6:.0f}" y="{y + 13}">{ratio:.3g} ({r.better} is better)</text>')
    path.write_text("\n".join([*parts, "</svg>\n"]))


COLOURS = ("#3b6ea5", "#b5533c", "#4a8f5a", "#8a5fa8", "#a8873b", "#4f8f8f", "#777777", "#b04f80")


def write_growth_svg(rows: Sequence[Row], path: Path) -> None:
    """Lines: what a unit of work costs at each size, in units of the cost at the smallest, which is the line at 1."""
    drawn = [r for r in rows if len(r.points) > 1 and r.points[0][1]]
    width, height, left, bottom, top = 760, 420, 60, 370, 2.5
    sizes = sorted({size for r in drawn for size, _ in r.points})
    step = 420 / max(len(sizes) - 1, 1)

    def spot(size: int, ratio: float) -> tuple[float, float]:
        return left + sizes.index(size) * step, bottom - min(ratio, top) / top * 340

    box, text = f'width="{width}" height="{height}"', 'font-family="sans-serif" font-size="13"'
    one, end = spot(sizes[0], 1) if sizes else (left, bottom), left + 420
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} {text}>',
        f'<rect {box} fill="white"/>',
        f'<line x1="{left}" y1="{one[1]:.0f}" x2="{end}" y2="{one[1]:.0f}" stroke="#888" stroke-dasharray="4"/>',
        f'<text x="{left - 8}" y="{one[1] + 4:.0f}" text-anchor="end">1</text>',
        *(f'<text x="{spot(size, 0)[0]:.0f}" y="{bottom + 20}" text-anchor="middle">{size}</text>' for size in sizes),
        f'<text x="{left}" y="{height - 8}" fill="#555">cost of a unit of work, relative to that at {sizes[:1]}</text>',
    ]
    for i, r in enumerate(drawn):
        colour, spots = COLOURS[i % len(COLOURS)], [spot(size, cost / r.points[0][1]) for size, cost in r.points]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in spots)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{end + 20}" y="{40 + 20 * i}" fill="{colour}">{escape(r.figure)}</text>')
    path.write_text("\n".join([*parts, "</svg>\n"]))
