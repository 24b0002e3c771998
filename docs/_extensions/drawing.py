"""Draws SVG from source: sequences from lines of text, layouts from the declaration.

A sequence names its lanes, then a step per line: ``A -> B: text`` an arrow, ``A --> B: text`` an answer,
``A: text`` what one does by itself, ``== text`` a divider.  ``diagrams.py`` makes Sphinx directives of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from hypercall_abi.schema import Field, Record

STEP = re.compile(r"(?P<source>[\w ]+?) *(?:(?P<arrow>-->|->) *(?P<target>[\w ]+?))? *: *(?P<text>.+)")
CHARACTER = 6.6  # width of one at the size below, roughly
ROW = 34
STYLE = 'font-family="monospace" font-size="11" stroke-width="1"'


@dataclass(frozen=True)
class Step:
    """One line of a sequence; `target` is None for what `source` does by itself, `source` for a divider."""

    text: str
    source: str | None = None
    target: str | None = None
    answer: bool = False


def parse(lines: list[str]) -> tuple[list[str], list[Step]]:
    """Lanes and steps.  Raises ValueError for a line that is neither, or an unknown lane."""
    lanes = [lane.strip() for lane in lines[0].split(",")]
    steps = []
    for line in filter(None, (line.strip() for line in lines[1:])):
        if line.startswith("=="):
            steps.append(Step(line.strip("= ")))
            continue
        match = STEP.fullmatch(line)
        if not match or match["source"] not in lanes or match["target"] not in (None, *lanes):
            raise ValueError(f"{line!r} is no step between {', '.join(lanes)}")
        steps.append(Step(match["text"], match["source"], match["target"], match["arrow"] == "-->"))
    return lanes, steps


def _text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="currentColor" {more}>{escape(words)}</text>'


def _svg(width: float, height: float, title: str, parts: Iterator[str]) -> str:
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {box} style="max-width: 100%" {STYLE}>'
    return f"{head}<title>{escape(title)}</title>{''.join(parts)}</svg>"


def _arrow(left: float, right: float, y: float, answer: bool) -> str:
    way = 1 if right > left else -1
    dash = ' stroke-dasharray="4 3"' if answer else ""
    line = f'<line x1="{left:.0f}" y1="{y:.0f}" x2="{right:.0f}" y2="{y:.0f}" stroke="currentColor"{dash}/>'
    tip = f"{right:.0f},{y:.0f} {right - 7 * way:.0f},{y - 3.5:.1f} {right - 7 * way:.0f},{y + 3.5:.1f}"
    return f'{line}<polygon points="{tip}" fill="currentColor"/>'


def sequence(lines: list[str]) -> str:
    """The SVG of a sequence."""
    lanes, steps = parse(lines)
    longest = max((len(step.text) for step in steps), default=10)
    spacing = max(longest * CHARACTER + 24, 160)
    at = {lane: spacing * (n + 0.5) for n, lane in enumerate(lanes)}
    height = ROW * (len(steps) + 1.5)

    def parts() -> Iterator[str]:
        for lane, x in at.items():
            yield _text(x, 14, lane, more='font-weight="bold"')
            yield f'<line x1="{x:.0f}" y1="20" x2="{x:.0f}" y2="{height:.0f}" stroke="currentColor" opacity="0.35"/>'
        for n, step in enumerate(steps):
            y = ROW * (n + 1.5)
            if step.source is None:
                yield f'<line x1="0" y1="{y:.0f}" x2="{spacing * len(lanes):.0f}" y2="{y:.0f}" stroke="currentColor"/>'
                yield _text(4, y - 4, step.text, "start", 'font-style="italic"')
            elif step.target is None:
                wide = len(step.text) * CHARACTER + 12
                x = at[step.source]
                place = f'x="{x - wide / 2:.0f}" y="{y - 12:.0f}" width="{wide:.0f}" height="18"'
                yield f'<rect {place} fill="#f4f1e8" stroke="currentColor"/>'
                yield _text(x, y + 1, step.text, more='style="fill: #222"')
            else:
                left, right = at[step.source], at[step.target]
                yield _text((left + right) / 2, y - 5, step.text)
                yield _arrow(left, right, y, step.answer)

    return _svg(spacing * len(lanes), height, "; ".join(step.text for step in steps), parts())


def _cells(field: Field, across: int) -> Iterator[tuple[int, int, int, bool]]:
    """(row, column, bytes, whether the name stands there) of a field; long ones are cut after two rows."""
    offset, left, first = field.offset, field.size, True
    while left:
        row, column = divmod(offset, across)
        here = min(left, across - column)
        yield row, column, here, first or here > 2 * (field.size - left)
        offset, left, first = offset + here, left - here, False


def layout(record: Record, across: int = 8) -> str:
    """The SVG of a record, `across` bytes to a row; rows wholly inside one long field are drawn once."""
    cell, high, margin = 62, 24, 56
    rows: dict[int, list[tuple[Field, int, int]]] = {}
    for field in record.fields:
        for row, column, size, _ in _cells(field, across):
            rows.setdefault(row, []).append((field, column, size))
    kept = [r for r in rows if r - 1 not in rows or rows[r] != rows[r - 1] or len(rows[r]) > 1]

    def parts() -> Iterator[str]:
        for column in range(across):
            yield _text(margin + cell * (column + 0.5), 12, f"+{column}", more='fill-opacity="0.6"')
        for line, row in enumerate(kept):
            y = 18 + line * high
            yield _text(margin - 6, y + 16, f"0x{row * across:02x}", "end", 'fill-opacity="0.6"')
            for field, column, size in rows[row]:
                place = f'x="{margin + cell * column}" y="{y}" width="{cell * size}" height="{high}"'
                fill = "#e4e4e4" if field.reserved else "#eef3fa"
                yield f'<rect {place} fill="{fill}" stroke="currentColor"/>'
                count = f"[{field.count}]" if field.count is not None and not field.reserved else ""
                words = "0" if field.reserved else field.name + count
                room = int(cell * size / CHARACTER) - 1
                shown = words if len(words) <= room else words[: room - 1] + "…"
                yield _text(margin + cell * (column + size / 2), y + 16, shown, more='style="fill: #222"')

    title = f"Layout of {record.name_}, {record.size} bytes"
    return _svg(margin + cell * across + 4, 22 + len(kept) * high, title, parts())
