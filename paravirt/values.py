"""Frozen values with named fields: what dataclasses do, without what loading them costs.

The module dataclasses loads inspect and compiles each class's methods, a quarter of the time in which a
small guest starts.  Type checkers know this base for what it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, Self, dataclass_transform, get_args, get_origin

from .errors import ConfigError

SHOWN = 80  # characters of a wrong value
_NOTHING = object()


def check_name(what: str, name: str, most_bytes: int) -> None:
    """Raises ConfigError unless `name` is printable and of 1 to `most_bytes` bytes."""
    if not name or not name.isprintable() or len(name.encode("utf-8", "surrogatepass")) > most_bytes:
        raise ConfigError(f"{what} {name!r} must be printable text of 1 to {most_bytes} bytes")


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ConfigError unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError(f"{what} {value!r} is not one of {', '.join(choices)}")


def _as_each(hint: Any, value: Any) -> Any:
    """`value` as a tuple or set of that type.  Raises TypeError."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError
    items, kinds = tuple(value), get_args(hint)
    if kinds[-1] is ... or get_origin(hint) is frozenset:
        kinds = kinds[:1] * len(items)
    if len(kinds) != len(items):
        raise TypeError
    return get_origin(hint)(_as(kind, item) for kind, item in zip(kinds, items, strict=True))


def _as_one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return _as(kind, value)
        except TypeError:
            continue
    raise TypeError


def _as(hint: Any, value: Any) -> Any:
    """`value` as a field of the type `hint` has it: a text becomes a path, a list a tuple.  Raises TypeError."""
    origin = get_origin(hint)
    if origin in (tuple, frozenset):
        return _as_each(hint, value)
    if origin is UnionType:
        return _as_one_of(get_args(hint), value)
    if hint is Path and isinstance(value, str | PathLike):
        return Path(value)
    if hint is Any or origin is Literal:  # whose choices the value's own check tells
        return value
    kind = Callable if origin is Callable else int | float if hint is float else hint
    if not isinstance(value, kind):
        raise TypeError
    return value


@dataclass_transform(frozen_default=True)
class Value:
    """Base of a frozen value; a subclass lists fields as a dataclass does and may have ``__post_init__``.

    Its own come after those of its base.  One that is not of its field's type is a ConfigError.
    """

    _fields: ClassVar[dict[str, tuple[Any, str]]] = {}
    """Their types, and the modules that know what the names in those mean."""

    def __init_subclass__(cls) -> None:
        own = {name: kind for name, kind in cls.__annotations__.items() if not str(kind).startswith("ClassVar")}
        cls._fields = {**cls._fields, **{name: (kind, cls.__module__) for name, kind in own.items()}}

    def __init__(self, *args: Any, **named: Any) -> None:
        given = dict(zip(self._fields, args, strict=False)) | named
        if len(args) > len(self._fields) or len(given) != len(args) + len(named) or not given.keys() <= {*self._fields}:
            raise TypeError(f"{type(self).__name__} takes {', '.join(self._fields)}, each once")
        for name in self._fields:
            default = getattr(type(self), name, _NOTHING)
            value = given.get(name, default)
            if value is _NOTHING:
                raise TypeError(f"{type(self).__name__} needs {name}")
            self.__dict__[name] = value if value is default else self._checked(name, value)
        self.__post_init__()

    def _checked(self, name: str, value: Any) -> Any:
        kind, module = self._fields[name]
        # So are most of them; looking a type up takes a while, and its module may not be loaded.
        if isinstance(kind, str) and type(value).__name__ in kind.split(" | "):
            return value
        try:
            return _as(eval(kind, vars(sys.modules[module])) if isinstance(kind, str) else kind, value)
        except (TypeError, NameError):
            raise ConfigError(f"{type(self).__name__}: {name} is {value!r:.{SHOWN}}, it must be {kind}") from None

    def __post_init__(self) -> None:
        """Checks the fields; may put others in their place by ``self.__dict__``."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen; make another with replace({name}=…)")

    def replace(self, **changes: Any) -> Self:
        """A value like this one but for `changes`, checked anew."""
        return type(self)(**{**self.__dict__, **changes})

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({fields})"
