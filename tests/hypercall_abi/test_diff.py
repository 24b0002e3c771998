"""The diff gate (VER-1): each class of change by a deliberately broken copy, and that no edit goes unnamed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi.description import DescriptionError, check
from hypercall_abi.diff import ADDITION, INCOMPATIBLE, WORDING, Change, changes, wanted
from hypercall_abi.emit.json import describe

ABI = describe()
Edit = Callable[[dict[str, Any]], None]


def named(things: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(t for t in things if t.get("name", t.get("id")) == name)


def call(abi: dict[str, Any], name: str) -> dict[str, Any]:
    service = named(abi["services"], name.partition(".")[0])
    return named(service["calls"], name)


def edited(edit: Edit) -> dict[str, Any]:
    new = copy.deepcopy(ABI)
    edit(new)
    return check(new, "edited")


def found(edit: Edit) -> set[tuple[str, str]]:
    """(place, kind) of what an edit changed."""
    return {(change.where, change.kind) for change in changes(ABI, edited(edit))}


def put(part: dict[str, Any], **values: object) -> None:
    part.update(values)


def value(abi: dict[str, Any], constants: str, name: str) -> dict[str, Any]:
    return named(named(abi["constants"], constants)["values"], name)


def field(abi: dict[str, Any], record: str, name: str) -> dict[str, Any]:
    return named(named(abi["records"], record)["fields"], name)


def add_field(abi: dict[str, Any], record: str, **more: object) -> None:
    """A field of 8 bytes at the end, or as `more` says."""
    end = named(abi["records"], record)["bytes"]
    new = copy.deepcopy(field(abi, "completion", "value")) | {"name": "new", "offset": end}
    named(abi["records"], record)["fields"].append(new | more)
    if "offset" not in more:
        named(abi["records"], record)["bytes"] = end + 8


def add_rule(abi: dict[str, Any], binds: str, text: str) -> None:
    abi["rules"].append({"id": "TIME-99", "page": "time", "binds": binds, "text": text})


def drop(things: list[dict[str, Any]], name: str) -> None:
    things.remove(named(things, name))


def add_call(abi: dict[str, Any]) -> None:
    new = copy.deepcopy(call(abi, "time.deadline"))
    named(abi["services"], "time")["calls"].append(new | {"name": "time.zone", "id": 0x4001F})


def use_padding(abi: dict[str, Any]) -> None:
    fields = named(abi["records"], "completion")["fields"]
    put(fields[-1], name="new", reserved=False, c="uint64_t", count=None)


def add_service(abi: dict[str, Any]) -> None:
    abi["services"].append({**named(abi["services"], "entropy"), "name": "oracle", "number": 99, "calls": []})


def both(one: Edit, other: Edit) -> Edit:
    def edit(abi: dict[str, Any]) -> None:
        one(abi)
        other(abi)

    return edit


def turn(things: list[Any]) -> None:
    things.reverse()


DEADLINE = "call time.deadline"
BROKEN: dict[str, tuple[Edit, str]] = {
    "service removed": (lambda a: drop(a["services"], "trace"), "service trace"),
    "service renumbered": (lambda a: put(named(a["services"], "trace"), number=99), "service trace"),
    "service no longer always there": (lambda a: put(a["services"][0], optional=True), "service base"),
    "features gone": (lambda a: put(a["services"][0], features=None), "service base"),
    "call removed": (lambda a: drop(named(a["services"], "time")["calls"], "time.deadline"), DEADLINE),
    "call renumbered": (lambda a: put(call(a, "time.deadline"), id=0x4001F), DEADLINE),
    "road removed": (lambda a: put(call(a, "time.deadline"), roads=["TRAP", "BATCH"]), DEADLINE),
    "feature demanded": (lambda a: put(call(a, "base.version"), feature="RING"), "call base.version"),
    "another value": (lambda a: put(call(a, "time.deadline"), value="the time"), DEADLINE),
    "returns no more": (lambda a: put(call(a, "time.deadline"), no_return=True), DEADLINE),
    "status of success added to a call": (
        lambda a: call(a, "time.deadline")["statuses"].append("CONTINUE"),
        DEADLINE,
    ),
    "argument removed": (lambda a: put(call(a, "time.deadline"), arguments=[], registers=[]), DEADLINE),
    "argument renamed": (lambda a: put(call(a, "time.deadline")["arguments"][0], name="x"), f"{DEADLINE}, argument 1"),
    "arguments in another order": (lambda a: turn(call(a, "event.send")["arguments"]), "call event.send, argument 1"),
    "register": (
        lambda a: put(call(a, "time.deadline")["registers"][0], **{"x86-64": "RSI"}),
        f"{DEADLINE}, register 1",
    ),
    "alignment raised": (
        lambda a: put(call(a, "base.services")["arguments"][0], align=64),
        "call base.services, argument 1",
    ),
    "another limit": (
        lambda a: put(call(a, "base.services")["arguments"][0], limit="CONSOLE_BYTES"),
        "call base.services, argument 1",
    ),
    "access": (lambda a: put(call(a, "console.read")["arguments"][0], host="read"), "call console.read, argument 1"),
    "record removed": (lambda a: drop(a["records"], "time_page"), "record time_page"),
    "record resized": (lambda a: put(named(a["records"], "completion"), bytes=64), "record completion"),
    "record realigned": (lambda a: put(named(a["records"], "completion"), align=4), "record completion"),
    "record that grows no more": (lambda a: put(named(a["records"], "boot_abi"), grows=False), "record boot_abi"),
    "field removed": (
        lambda a: drop(named(a["records"], "completion")["fields"], "value"),
        "record completion, field value",
    ),
    "field moved": (lambda a: put(field(a, "completion", "value"), offset=24), "record completion, field value"),
    "field resized": (lambda a: put(field(a, "completion", "value"), bytes=4), "record completion, field value"),
    "field of another type": (
        lambda a: put(field(a, "completion", "value"), c="int64_t"),
        "record completion, field value",
    ),
    "field added to what does not grow": (lambda a: add_field(a, "completion"), "record completion, field new"),
    "field that became padding": (
        lambda a: put(field(a, "completion", "value"), reserved=True),
        "record completion",
    ),
    "constants removed": (lambda a: drop(a["constants"], "channel"), "constants channel"),
    "bits became numbers": (lambda a: put(named(a["constants"], "road"), bits=False), "constants road"),
    "number changed": (lambda a: put(value(a, "channel", "DEVICE"), number=5), "constants channel, value DEVICE"),
    "number removed": (
        lambda a: drop(named(a["constants"], "channel")["values"], "DEVICE"),
        "constants channel, value DEVICE",
    ),
    "status renumbered": (lambda a: put(value(a, "status", "IO"), number=-99), "constants status, value IO"),
    "status with another meaning": (
        lambda a: put(value(a, "status", "IO"), doc="All went well."),
        "constants status, value IO",
    ),
    "status of success added (ERR-2)": (
        lambda a: named(a["constants"], "status")["values"].append({"name": "HALF", "number": 2, "doc": "Half."}),
        "constants status, value HALF",
    ),
    "size limit tightened": (lambda a: put(named(a["limits"], "CONSOLE_BYTES"), number=512), "limit CONSOLE_BYTES"),
    "time limit loosened": (lambda a: put(named(a["limits"], "BATCH_NS"), number=10**9), "limit BATCH_NS"),
    "limit removed": (lambda a: drop(a["limits"], "VCPUS"), "limit VCPUS"),
    "limit renumbered": (lambda a: put(named(a["limits"], "VCPUS"), id=99), "limit VCPUS"),
    "limit of another unit": (lambda a: put(named(a["limits"], "VCPUS"), unit="bytes"), "limit VCPUS"),
    "trap binding": (lambda a: put(a["registers"][0], status="RBX"), "trap binding PORT x86-64"),
    "trap binding removed": (lambda a: a["registers"].pop(0) and None, "trap binding PORT x86-64"),
    "rule removed": (lambda a: drop(a["rules"], "TIME-2"), "rule TIME-2"),
    "rule in other words": (lambda a: put(named(a["rules"], "TIME-2"), text="It may be early."), "rule TIME-2"),
    "host let off": (lambda a: put(named(a["rules"], "TIME-2"), binds="guest"), "rule TIME-2"),
    "guests bound": (lambda a: put(named(a["rules"], "TIME-2"), binds="both"), "rule TIME-2"),
    "rule for old guests": (lambda a: add_rule(a, "guest", "A guest reads the time twice."), "rule TIME-99"),
    "owner of notes": (lambda a: put(a, note_owner="Other"), "ABI"),
    "signature": (lambda a: put(a, cpuid_signature="Other"), "ABI"),
    "version lowered": (lambda a: put(a, version=[0, 9]), "ABI"),
    "a key that nobody knows": (lambda a: put(call(a, "time.deadline"), colour="red"), DEADLINE),
    "digest alone": (lambda a: put(a, digest="0" * 64), "ABI"),
}

ADDED: dict[str, tuple[Edit, str]] = {
    "service": (add_service, "service oracle"),
    "call": (add_call, "call time.zone"),
    "always there": (lambda a: put(named(a["services"], "time"), optional=False), "service time"),
    "features": (lambda a: put(named(a["services"], "time"), features="road"), "service time"),
    "feature not demanded any more": (lambda a: put(call(a, "base.ring"), feature=None), "call base.ring"),
    "negative status of a call": (lambda a: call(a, "time.deadline")["statuses"].append("IO"), DEADLINE),
    "alignment lowered": (
        lambda a: put(call(a, "base.services")["arguments"][0], align=4),
        "call base.services, argument 1",
    ),
    "record": (
        lambda a: a["records"].append({**named(a["records"], "completion"), "name": "another"}),
        "record another",
    ),
    "tail of a record that grows": (lambda a: add_field(a, "boot_abi"), "record boot_abi, field new"),
    "padding in use": (use_padding, "record completion, field new"),
    "constants": (
        lambda a: a["constants"].append({**named(a["constants"], "channel"), "name": "another"}),
        "constants another",
    ),
    "number": (
        lambda a: named(a["constants"], "channel")["values"].append({"name": "NEW", "number": 7, "doc": "New."}),
        "constants channel, value NEW",
    ),
    "negative status": (
        lambda a: named(a["constants"], "status")["values"].append({"name": "LATE", "number": -13, "doc": "Late."}),
        "constants status, value LATE",
    ),
    "size limit raised": (lambda a: put(named(a["limits"], "CONSOLE_BYTES"), number=8192), "limit CONSOLE_BYTES"),
    "time limit lowered": (lambda a: put(named(a["limits"], "BATCH_NS"), number=1000), "limit BATCH_NS"),
    "limit": (lambda a: a["limits"].append({**a["limits"][0], "name": "NEW", "id": 99}), "limit NEW"),
    "rule for hosts": (lambda a: add_rule(a, "host", "The page is blue."), "rule TIME-99"),
    "rule about something new": (
        both(add_call, lambda a: add_rule(a, "both", "time.zone takes no argument.")),
        "rule TIME-99",
    ),
    "guests let off": (lambda a: put(named(a["rules"], "TIME-1"), binds="host"), "rule TIME-1"),
}
WORDS: dict[str, tuple[Edit, str]] = {
    "description": (lambda a: put(call(a, "time.deadline"), doc="Other words."), DEADLINE),
    "order": (lambda a: turn(a["rules"]), "rules"),
    "page": (lambda a: put(named(a["rules"], "TIME-2"), page="event"), "rule TIME-2"),
    "why no case": (lambda a: put(named(a["rules"], "TIME-2"), no_case="Nobody can see it."), "rule TIME-2"),
    "version raised": (lambda a: put(a, version=[1, 1]), "ABI"),
    "draft": (lambda a: put(a, draft=True), "ABI"),
}


def test_no_change() -> None:
    assert changes(ABI, copy.deepcopy(ABI)) == []


@pytest.mark.parametrize(("edit", "where"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_guests_is_incompatible(edit: Edit, where: str) -> None:
    assert (where, INCOMPATIBLE) in found(edit)
    new = edited(edit)
    demand = wanted(changes(ABI, new), ABI, new)
    assert demand and demand.startswith("the major version must rise: 2.0")


@pytest.mark.parametrize(("edit", "where"), ADDED.values(), ids=ADDED)
def test_what_only_adds_is_compatible(edit: Edit, where: str) -> None:
    assert (where, ADDITION) in found(edit)
    assert {kind for _, kind in found(edit)} <= {ADDITION, WORDING}
    new = edited(edit)
    demand = wanted(changes(ABI, new), ABI, new)
    assert demand and demand.startswith("the minor version must rise: 1.1")
    assert wanted(changes(ABI, new), ABI | {"draft": True}, new) is None
    assert wanted(changes(ABI, new), ABI, new | {"version": [1, 1]}) is None


@pytest.mark.parametrize(("edit", "where"), WORDS.values(), ids=WORDS)
def test_words_change_nothing(edit: Edit, where: str) -> None:
    assert found(edit) == {(where, WORDING)}
    new = edited(edit)
    assert wanted(changes(ABI, new), ABI, new) is None


def test_a_road_more() -> None:
    old = edited(lambda a: put(call(a, "time.deadline"), roads=["TRAP"]))
    assert changes(old, ABI) == [Change(DEADLINE, "roads: TRAP → TRAP, BATCH, RING", ADDITION)]


def test_a_new_major_version_may_do_all() -> None:
    new = edited(both(lambda a: drop(a["services"], "trace"), lambda a: put(a, version=[2, 0])))
    assert wanted(changes(ABI, new), ABI, new) is None


def test_a_change_of_two_things_names_both() -> None:
    def edit(abi: dict[str, Any]) -> None:
        drop(abi["limits"], "VCPUS")
        put(field(abi, "completion", "value"), offset=24)

    assert {("limit VCPUS", INCOMPATIBLE), ("record completion, field value", INCOMPATIBLE)} <= found(edit)


# ---- any edit ----


def _leaves(part: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    steps: Iterator[tuple[str | int, Any]] = iter(part.items() if isinstance(part, dict) else enumerate(part))
    for step, inner in steps:
        yield (*place, step)
        if isinstance(inner, dict | list):
            yield from _leaves(inner, (*place, step))


PLACES = list(_leaves(ABI))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(["x", "RING", []]))


@given(place=st.sampled_from(PLACES), new=SCALARS, how=st.sampled_from(["put", "drop", "double", "turn"]))
def test_any_edit_is_named_or_refused(place: tuple[str | int, ...], new: Any, how: str) -> None:
    abi: Any = copy.deepcopy(ABI)
    part: Any = abi
    for step in place[:-1]:
        part = part[step]
    if how == "put":
        part[place[-1]] = new
    elif how == "drop":
        del part[place[-1]]
    elif how == "double" and isinstance(part, list):
        part.append(part[int(place[-1])])
    elif how == "turn" and isinstance(part, list):
        part.reverse()
    try:
        check(abi, "edited")
    except DescriptionError as error:
        assert "\n" not in str(error) and str(error).startswith("edited: not a description of the ABI: ")
        return
    assert bool(changes(ABI, abi)) == (abi != ABI)
    assert bool(changes(abi, ABI)) == (abi != ABI)
