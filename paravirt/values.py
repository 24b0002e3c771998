"""Frozen values with named fields: what dataclasses do, without what loading them costs.

The module dataclasses loads inspect and compiles each class's methods, a quarter of the time in which a
small guest starts.  Type checkers know this base for what it is.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, dataclass_transform

from .errors import ConfigError


def check_name(what: str, name: str, most_bytes: int) -> None:
    """Raises ConfigError unless `name` is printable and of 1 to `most_bytes` bytes."""
    if not name or not name.isprintable() or len(name.encode("utf-8", "surrogatepass")) > most_bytes:
        raise ConfigError(f"{what} {name!r} must be printable text of 1 to {most_bytes} bytes")


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ConfigError unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError(f"{what} {value!r} is not one of {', '.join(choices)}")


@dataclass_transform(frozen_default=True)
class Value:
    """Base of a frozen value; a subclass lists fields as a dataclass does and may have ``__post_init__``.

    Its own come after those of its base.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        own = (name for name, kind in cls.__annotations__.items() if not kind.startswith("ClassVar"))
        cls._fields = (*cls._fields, *own)

    def __init__(self, *args: Any, **named: Any) -> None:
        given = dict(zip(self._fields, args, strict=False)) | named
        if len(args) > len(self._fields) or len(given) != len(args) + len(named) or not given.keys() <= {*self._fields}:
            raise TypeError(f"{type(self).__name__} takes {', '.join(self._fields)}, each once")
        for name in self._fields:
            if name not in given and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs {name}")
            self.__dict__[name] = given[name] if name in given else getattr(type(self), name)
        self.__post_init__()

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
