"""What the benchmarks make of figures: rows, ratios, plots; the guests' lines."""

from __future__ import annotations

import json
from pathlib import Path
from xml.dom import minidom

import pytest

from tests.benchmarks import block
from tests.benchmarks.common import bench_line, compile_c
from tests.benchmarks.report import Row, make_row, missing_row, table, write_growth_svg, write_json, write_svg

ROUNDS = [{"value": 10.0, "floor": 5.0, "peer": 20.0}, {"value": 30.0, "floor": 10.0}, {"value": 20.0, "floor": 5.0}]


@pytest.fixture
def rows() -> list[Row]:
    return [
        make_row("block", "a & b", "us", ROUNDS),
        missing_row("block", "direct", "us", "no O_DIRECT here"),
        make_row("growth", "x", "ns", ROUNDS, points=[(1, 4.0), (2, 5.0), (4, 12.0)]),
    ]


def test_a_row_has_medians_and_the_medians_of_ratios(rows: list[Row]) -> None:
    row = rows[0]
    assert (row.value, row.floor, row.peer, row.ratio_floor, row.ratio_peer) == (20.0, 5.0, 20.0, 3.0, 0.5)


def test_the_table_says_why_a_figure_is_missing(rows: list[Row]) -> None:
    assert "no O_DIRECT here" in table(rows).splitlines()[3]


def test_json(rows: list[Row], tmp_path: Path) -> None:
    write_json(rows, tmp_path / "j")
    read = json.loads((tmp_path / "j").read_text())
    assert [row["figure"] for row in read["rows"]] == ["a & b", "direct", "x"]
    assert read["rows"][0]["rounds"] == ROUNDS


def test_plots(rows: list[Row], tmp_path: Path) -> None:
    """They are XML; growth has a line for each figure that has points, in units of its first."""
    write_svg(rows, tmp_path / "bars.svg")
    minidom.parse(str(tmp_path / "bars.svg"))
    write_growth_svg(rows, tmp_path / "lines.svg")
    (line,) = minidom.parse(str(tmp_path / "lines.svg")).getElementsByTagName("polyline")
    heights = [float(spot.split(",")[1]) for spot in line.getAttribute("points").split()]
    assert len(heights) == 3
    assert 370 - heights[0] == pytest.approx((370 - heights[2]) / 2.5, abs=1), "a ratio above 2.5 is drawn at 2.5"


def test_the_line_of_a_guest() -> None:
    assert bench_line("a word\nbench: requests=3 ns=4\n") == {"requests": 3, "ns": 4}
    with pytest.raises(RuntimeError, match="told no figures: bench: the disk is gone"):
        bench_line("bench: the disk is gone\n")


def test_units_of_a_disk() -> None:
    figures = {"requests": 1000.0, "bytes": 2.0 * (1 << 20), "ns": 5e8, "median_ns": 1500.0, "p99_ns": 9000.0}
    made = {case.unit: case.value(figures) for case in block.CASES}
    assert made == {"IOPS": {"value": 2000.0}, "MiB/s": {"value": 4.0}, "us": {"value": 1.5, "p99": 9.0}}


@pytest.mark.parametrize("source", ["floor.c", "events.c", "mapped.c", "net_floor.c"])
def test_the_floors_compile(source: str, tmp_path: Path) -> None:
    assert compile_c(source, tmp_path)
