"""Two descriptions of the ABI compared: every difference named, and whether old guests can live with it.

An *incompatible* change wants a new major version, an *addition* a new minor one, *wording* nothing.  The
measure is a guest of the old version on a host of the new one.  What no table below knows is
incompatible: silence would be worse.  Reading the files is :mod:`hypercall_abi.description`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .description import Description, identity

INCOMPATIBLE, ADDITION, WORDING = "incompatible", "addition", "wording"

Thing = dict[str, Any]
Judge = Callable[[Any, Any], str]


@dataclass(frozen=True)
class Change:
    """One difference: the thing, what happened to it, and of which kind that is."""

    where: str
    what: str
    kind: str

    @property
    def compatible(self) -> bool:
        """Whether guests of the old version still run on hosts of the new one."""
        return self.kind != INCOMPATIBLE


# ---- judges of one attribute: (old, new) → kind ----


def _never(_old: Any, _new: Any) -> str:
    return INCOMPATIBLE


def _wording(_old: Any, _new: Any) -> str:
    return WORDING


def _if(condition: Callable[[Any, Any], bool]) -> Judge:
    return lambda old, new: ADDITION if condition(old, new) else INCOMPATIBLE


_WORDS = re.compile(r"\w+(?:\.\w+)?")
_DUTIES = {"host": {"host"}, "guest": {"guest"}, "both": {"host", "guest"}, "standard": set()}


def _binds(old: str, new: str) -> bool:
    """Hosts keep their duties, guests get none that they did not have."""
    before, after = _DUTIES[old], _DUTIES[new]
    return before & {"host"} <= after and after & {"guest"} <= before


_DOC: dict[str, Judge] = {"doc": _wording, "page": _wording}
_SERVICE = _DOC | {
    "optional": _if(lambda old, new: not new),
    "features": _if(lambda old, new: old is None),
}
_CALL = _DOC | {
    "feature": _if(lambda old, new: new is None),
    "roads": _if(lambda old, new: set(old) <= set(new)),
    "varies": _wording,  # this and until are for replays; no guest sees them
}
_ARGUMENT = _DOC | {
    "until": _wording,
    "align": _if(lambda old, new: isinstance(old, int) and isinstance(new, int) and new <= old),
}
_RECORD = _DOC | {"grows": _if(lambda old, new: bool(new))}
_VALUE: dict[str, dict[str, Judge]] = {
    "status": {"doc": _never},  # what a status means is more than words
    "abi": _DOC | {"number": _wording},  # the version, judged as such
}
_RULE = _DOC | {"binds": _if(_binds), "no_case": _wording}


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _attributes(where: str, old: Thing, new: Thing, judges: dict[str, Judge], parts: Iterable[str]) -> Iterator[Change]:
    """What differs of two things of one name, but for their `parts`, which are compared elsewhere."""
    for key in sorted((old.keys() | new.keys()) - set(parts)):
        before, after = old.get(key), new.get(key)
        if before != after or (key in old) != (key in new):
            kind = judges.get(key, _never)(before, after)
            what = "described in other words" if key == "doc" else f"{key}: {_shown(before)} → {_shown(after)}"
            yield Change(where, what, kind)


def _pairs(
    name: str, old: list[Thing], new: list[Thing], added: Callable[[Thing], str] = lambda _: ADDITION
) -> Iterator[Change | tuple[str, Thing, Thing]]:
    """Things of both lists, by what they are called; what is in one alone is a change."""
    olds, news = {identity(t): t for t in old}, {identity(t): t for t in new}
    for key, thing in olds.items():
        where = f"{name} {' '.join(key)}"
        if key in news:
            yield where, thing, news[key]
        else:
            yield Change(where, "removed", INCOMPATIBLE)
    for key, thing in news.items():
        if key not in olds:
            yield Change(f"{name} {' '.join(key)}", "added", added(thing))
    if [k for k in olds if k in news] != [k for k in news if k in olds]:
        yield Change(f"{name}s", "listed in another order", WORDING)


class Comparison:
    """The changes from `old` to `new`, in the order of the description."""

    def __init__(self, old: Description, new: Description) -> None:
        self.old, self.new = old, new
        self._numbers = {v["name"]: v["number"] for d in (old, new) for v in _values(d, "status")}

    def changes(self) -> list[Change]:
        """Everything that differs."""
        found = [*self._services(), *self._records(), *self._constants(), *self._limits()]
        found += self._plain("trap binding", "registers", {})
        found += self._rules()
        parts = {"services", "records", "constants", "limits", "registers", "rules", "digest"}
        found += _attributes("ABI", self.old, self.new, {"version": self._version, "draft": _wording}, parts)
        if not found and self.old["digest"] != self.new["digest"]:
            found.append(Change("ABI", "the digest differs and nothing that is described here", INCOMPATIBLE))
        return found

    def _version(self, old: list[int], new: list[int]) -> str:
        return WORDING if new > old else INCOMPATIBLE

    def _plain(self, name: str, key: str, judges: dict[str, Judge]) -> Iterator[Change]:
        for pair in _pairs(name, self.old[key], self.new[key]):
            yield from [pair] if isinstance(pair, Change) else _attributes(*pair, judges, ())

    def _services(self) -> Iterator[Change]:
        for pair in _pairs("service", self.old["services"], self.new["services"]):
            if isinstance(pair, Change):
                yield pair
                continue
            where, old, new = pair
            yield from _attributes(where, old, new, _SERVICE, ["calls"])
            for call in _pairs("call", old["calls"], new["calls"]):
                yield from [call] if isinstance(call, Change) else self._call(*call)

    def _call(self, where: str, old: Thing, new: Thing) -> Iterator[Change]:
        judges = _CALL | {"statuses": self._statuses}
        yield from _attributes(where, old, new, judges, ["arguments", "registers"])
        for key, name in (("arguments", "argument"), ("registers", "register")):
            if len(old[key]) != len(new[key]):
                yield Change(where, f"has {len(new[key])} {key}, had {len(old[key])}", INCOMPATIBLE)
            for n, (before, after) in enumerate(zip(old[key], new[key], strict=False), 1):
                yield from _attributes(f"{where}, {name} {n}", before, after, _ARGUMENT, ())

    def _statuses(self, old: list[str], new: list[str]) -> str:
        """A guest takes a negative status that it does not know for FAILED (ERR-1), and no other (ERR-2)."""
        return ADDITION if all(self._numbers.get(s, 0) < 0 for s in set(old) ^ set(new)) else INCOMPATIBLE

    def _records(self) -> Iterator[Change]:
        for pair in _pairs("record", self.old["records"], self.new["records"]):
            yield from [pair] if isinstance(pair, Change) else self._record(*pair)

    def _record(self, where: str, old: Thing, new: Thing) -> Iterator[Change]:
        tail = old.get("grows") and new["bytes"] > old["bytes"]
        judges = _RECORD | ({"bytes": lambda _old, _new: ADDITION} if tail else {})
        yield from _attributes(where, old, new, judges, ["fields"])
        padding = [_bytes_of(f) for f in old["fields"] if f["reserved"]]

        def added(field: Thing) -> str:
            place = _bytes_of(field)
            free = tail and place.start >= old["bytes"] or any(set(place) <= set(hole) for hole in padding)
            return ADDITION if free else INCOMPATIBLE

        before, after = ([f for f in record["fields"] if not f["reserved"]] for record in (old, new))
        for pair in _pairs(f"{where}, field", before, after, added):
            yield from [pair] if isinstance(pair, Change) else _attributes(*pair, _DOC, ())
        holes = [[f for f in record["fields"] if f["reserved"]] for record in (old, new)]
        if holes[0] != holes[1]:
            had, has = ({b for f in fields for b in _bytes_of(f)} for fields in holes)
            free = had | set(range(old["bytes"], new["bytes"]) if tail else ())
            kind = WORDING if had == has else ADDITION if has <= free else INCOMPATIBLE
            yield Change(where, f"padding: {_places(holes[0])} → {_places(holes[1])}", kind)

    def _constants(self) -> Iterator[Change]:
        for pair in _pairs("constants", self.old["constants"], self.new["constants"]):
            if isinstance(pair, Change):
                yield pair
                continue
            where, old, new = pair
            yield from _attributes(where, old, new, _DOC, ["values"])
            status = old["name"] == "status"

            def added(value: Thing, status: bool = status) -> str:
                return INCOMPATIBLE if status and value["number"] >= 0 else ADDITION  # ERR-2

            judges = _VALUE.get(old["name"], _DOC)
            for value in _pairs(f"{where}, value", old["values"], new["values"], added):
                yield from [value] if isinstance(value, Change) else _attributes(*value, judges, ())

    def _limits(self) -> Iterator[Change]:
        for pair in _pairs("limit", self.old["limits"], self.new["limits"]):
            if isinstance(pair, Change):
                yield pair
                continue
            number = _if(int.__ge__ if pair[1]["unit"] == "ns" else int.__le__)
            yield from _attributes(*pair, _DOC | {"number": number}, ())

    def _rules(self) -> Iterator[Change]:
        fresh = _fresh_names(self.old, self.new)
        pages = {thing["page"] for key in ("records", "constants", "rules") for thing in self.old[key]}

        def added(rule: Thing) -> str:
            """Old guests can keep a new duty of guests only where it is about what they do not use."""
            about_new = rule["page"] not in pages or fresh & set(_WORDS.findall(rule["text"]))
            return ADDITION if rule["binds"] in ("host", "standard") or about_new else INCOMPATIBLE

        for pair in _pairs("rule", self.old["rules"], self.new["rules"], added):
            yield from [pair] if isinstance(pair, Change) else _attributes(*pair, _RULE, ())


def _values(description: Description, name: str) -> list[Thing]:
    return next((c["values"] for c in description["constants"] if c["name"] == name), [])


def _bytes_of(field: Thing) -> range:
    return range(field["offset"], field["offset"] + field["bytes"])


def _places(fields: list[Thing]) -> str:
    return ", ".join(f"{f['bytes']} at {f['offset']:#x}" for f in fields) or "none"


def _names(description: Description) -> Iterator[str]:
    for service in description["services"]:
        yield service["name"]
        yield from (call["name"] for call in service["calls"])
    for key in ("records", "limits", "constants"):
        yield from (thing["name"] for thing in description[key])
    yield from (v["name"] for c in description["constants"] for v in c["values"] if c["bits"])


def _fresh_names(old: Description, new: Description) -> set[str]:
    """What `new` has and `old` had not: services, calls, records, limits, features."""
    return set(_names(new)) - set(_names(old))


def changes(old: Description, new: Description) -> list[Change]:
    """Every difference between two descriptions.  Both are checked before (description.check)."""
    return Comparison(old, new).changes()


def wanted(found: list[Change], old: Description, new: Description) -> str | None:
    """What the version of `new` must do for the changes `found`, in words; None if it is right as it is.

    The description of a draft, which nobody was given, wants no new minor version.
    """
    (old_major, old_minor), (major, minor) = old["version"], new["version"]
    if major > old_major:
        return None
    if any(change.kind == INCOMPATIBLE for change in found):
        return f"the major version must rise: {old_major + 1}.0 instead of {major}.{minor}"
    if any(change.kind == ADDITION for change in found) and minor <= old_minor and not old.get("draft"):
        return f"the minor version must rise: {major}.{old_minor + 1} instead of {major}.{minor}"
    return None
