"""Frozen values: fields in order, defaults, checks, no change afterwards."""

from __future__ import annotations

import sys

import pytest

from paravirt.debug.address import GdbConfig
from paravirt.errors import ConfigError
from paravirt.values import Value


class Point(Value):
    """Two numbers, the first not negative."""

    x: int
    y: int = 7

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x")


def test_fields() -> None:
    assert (Point(1).x, Point(1).y, Point(1, 2).y, Point(x=3, y=4).x) == (1, 7, 2, 3)
    assert repr(Point(1)) == "Point(x=1, y=7)"
    assert Point(1) == Point(1, 7) != Point(2)
    assert len({Point(1), Point(1, 7), Point(2)}) == 2


def test_what_a_field_takes() -> None:
    """Every name in the types of our own values is one that their modules know, or that is loaded by who has one."""
    later = {"GdbConfig": GdbConfig}

    def of(kind: type[Value]) -> list[type[Value]]:
        return [kind, *(below for each in kind.__subclasses__() for below in of(each))]

    for kind in of(Value)[1:]:
        for hint, module in kind._fields.values():
            eval(hint, later | vars(sys.modules[module]))
    with pytest.raises(ConfigError, match="Point: y is 'long.{0,80}, it must be int$"):
        Point(1, "long" * 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [((), {}), ((1, 2, 3), {}), ((1,), {"x": 2}), ((1,), {"z": 2})])
def test_wrong_fields(wrong: tuple[tuple[int, ...], dict[str, int]]) -> None:
    with pytest.raises(TypeError, match="Point"):
        Point(*wrong[0], **wrong[1])


def test_a_value_does_not_change_but_another_is_made() -> None:
    point = Point(1, 2)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 5  # type: ignore[misc]
    assert point.replace(y=9) == Point(1, 9)
    assert point == Point(1, 2)
    with pytest.raises(ValueError, match="x"):
        point.replace(x=-1)
