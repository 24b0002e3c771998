"""``paravirt abi``: the ABI in the terminal, from the declaration that this host was built with."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from hypercall_abi import RULES, SERVICES
from hypercall_abi.emit import wireshark
from hypercall_abi.emit.json import describe
from hypercall_abi.virtio_musts import CLAUSES

from ..errors import ConfigError
from . import abi_diff
from .common import add_command, print_json, show, table

EPILOG = """\
examples:
  paravirt abi                   services, statuses, limits
  paravirt abi time              a service: its calls, records, rules
  paravirt abi time.deadline     a call: registers, statuses, limits
  paravirt abi time_page         a record or a set of constants
  paravirt abi VQ-3              the rule that a message named
  paravirt abi VIRTIO-2.4.1-1    what virtio asks of devices, by the id that a case cites
  paravirt abi BAD_ADDRESS       a status by its name or its value (-4)
  paravirt abi 0x20000           a call by its id
  paravirt abi device --json
  paravirt abi wireshark > paravirt.lua   the dissector of recordings
  paravirt abi diff hypercall_abi/released/1.0.json new.json
"""

WIDTH = 100
VERBS = ("diff", "wireshark")  # where a name may stand


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the command line."""
    parser = add_command(subparsers, "abi", "show the hypercall ABI: services, calls, records, rules", EPILOG)
    parser.add_argument("name", metavar="SERVICE[.CALL]", nargs="?", help="or a record, constants, status, rule")
    parser.add_argument(
        "file", nargs="*", metavar="FILE", help="with the name diff: two JSON descriptions, OLD and NEW, to compare"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carries the command out.  Raises ConfigError for a name that nothing has."""
    if args.name == "diff":
        return abi_diff.run(args.file, args.json)
    if args.name == "wireshark" and not args.file:
        show(wireshark.emit().removesuffix("\n"))
        return 0
    if args.file:
        raise ConfigError("paravirt abi takes one name; only paravirt abi diff takes files")
    abi = describe()
    kind, found = find(abi, args.name)
    if args.json:
        print_json(found)
    else:
        show("\n\n".join(block for block in SHOW[kind](abi, found) if block))
    return 0


def find(abi: dict[str, Any], name: str | None) -> tuple[str, dict[str, Any]]:
    """What kind of thing `name` is in `abi`, and the thing; without a name, all of it."""
    if name is None:
        return "abi", abi
    tables = _tables(abi)
    for key in _spellings(name):
        for kind, things in tables.items():
            if found := things.get(key):
                return kind, found
    raise ConfigError(f"the ABI has nothing called {name!r}; {_advice(name, tables)}")


def _tables(abi: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Kind → what may be asked for, in lower case → the thing."""
    calls = [c for s in abi["services"] for c in s["calls"]]
    statuses = next(c for c in abi["constants"] if c["name"] == "status")["values"]
    return {
        "service": {s["name"]: s for s in abi["services"]},
        "call": {c["name"]: c for c in calls} | {str(c["id"]): c for c in calls},
        "record": {r["name"]: r for r in abi["records"]},
        "constants": {c["name"]: c for c in abi["constants"]},
        "status": {v["name"].lower(): v for v in statuses} | {str(v["number"]): v for v in statuses},
        "rule": {r["id"].lower(): r for r in abi["rules"]},
        "must": {must["id"].lower(): must for must in _musts()},
    }


def _musts() -> Iterator[dict[str, Any]]:
    for clause in CLAUSES:
        for number, must in enumerate(clause.musts, 1):
            yield {"id": clause.id(number), "section": clause.section, "label": clause.label, **asdict(must)}


def _spellings(name: str) -> Iterator[str]:
    """`name` as it is, a number in decimal, and what a C name is made from."""
    name = name.strip().lower()
    yield name
    with contextlib.suppress(ValueError):
        yield str(int(name, 0))
    if name.startswith("pv_call_"):
        yield name.removeprefix("pv_call_").replace("_", ".", 1)
    elif name.startswith("pv_"):
        plain = name.removeprefix("pv_")
        yield from (plain, plain.replace("_", ".", 1), plain.removeprefix("status_"))


def _advice(name: str, tables: dict[str, dict[str, dict[str, Any]]]) -> str:
    service = SERVICES.get(name.partition(".")[0].lower())
    if service and "." in name:
        return f"{service.name} has the calls {', '.join(c.name for c in service.calls)}"
    prefix = name.partition("-")[0].upper()
    rules = [rule for rule in RULES if rule.partition("-")[0] == prefix]
    if rules:
        return f"the rules are {rules[0]} to {rules[-1]}"
    *_, wanted = _spellings(name)
    close = difflib.get_close_matches(wanted, [key for things in tables.values() for key in things], 1, 0.7)
    meant = f"did you mean {_as_declared(close[0], tables)}? " if close else ""
    return f"{meant}the services are {', '.join(SERVICES)}"


def _as_declared(key: str, tables: dict[str, dict[str, dict[str, Any]]]) -> str:
    thing = next(things[key] for things in tables.values() if key in things)
    return str(thing.get("name") or thing["id"])


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _columns(head: list[str] | None, rows: list[list[str]]) -> str:
    """A table whose last column is wrapped; nothing where there are no rows."""
    if not rows:
        return ""
    lines = [head, *rows] if head else rows
    used = sum(max(len(line[i]) for line in lines) + 2 for i in range(len(rows[0]) - 1))
    wrapped: list[list[str]] = []
    for line in lines:
        first, *more = textwrap.wrap(line[-1], max(WIDTH - used, 30), break_on_hyphens=False) or [""]
        wrapped += [[*line[:-1], first], *([""] * (len(line) - 1) + [rest] for rest in more)]
    return table(wrapped)


def _show_abi(abi: dict[str, Any], _: dict[str, Any]) -> Iterator[str]:
    yield f"The paravirt hypercall ABI, version {'.'.join(map(str, abi['version']))}."
    services = [[str(s["number"]), s["name"], str(len(s["calls"])), s["doc"]] for s in abi["services"]]
    yield _columns(["number", "service", "calls", "what it is"], services)
    statuses = next(c for c in abi["constants"] if c["name"] == "status")
    yield from _show_constants(abi, statuses)
    limits = [[str(i["id"]), i["name"], str(i["number"]), i["unit"], i["doc"]] for i in abi["limits"]]
    yield _columns(["id", "limit", "value", "unit", "of what"], limits)
    yield "More: paravirt abi SERVICE, SERVICE.CALL, a record, a set of constants, or a rule's id."


def _show_service(abi: dict[str, Any], service: dict[str, Any]) -> Iterator[str]:
    never = "" if service["optional"] else " It is always offered."
    yield f"service {service['name']} ({service['number']})\n{_wrap(service['doc'] + never)}"
    rows = [
        [f"{c['id']:#010x}", c["name"], _roads(c), c["feature"] or "", ", ".join(r["name"] for r in c["registers"])]
        for c in service["calls"]
    ]
    yield _columns(["id", "call", "roads", "feature", "arguments"], rows)
    page = service["name"]
    for record in (r for r in abi["records"] if r["page"] == page):
        yield from _show_record(abi, record)
    for constants in (c for c in abi["constants"] if c["page"] == page):
        yield from _show_constants(abi, constants)
    yield "\n".join(_rule(r) for r in abi["rules"] if r["page"] == page)


def _show_call(abi: dict[str, Any], call: dict[str, Any]) -> Iterator[str]:
    yield f"{call['name']}\n{_wrap(call['doc'])}"
    port = abi["registers"][0]
    value = f"{call['value']} ({port['value']})"
    facts = [
        ["id", f"{call['id']:#010x} in {port['call']}"],
        ["roads", _roads(call)],
        ["feature", call["feature"] or "none: it exists from entry on"],
        ["value", "does not return when it is carried out" if call["no_return"] else value],
        ["statuses", f"{', '.join(call['statuses'])} ({port['status']})"],
        ["undefined after", port["undefined"]],
    ]
    yield _columns(None, facts)
    rows = [[r["x86-64"], r["name"], r["doc"].replace("`", "")] for r in call["registers"]]
    yield _columns(["register", "argument", "meaning"], rows) or "It takes no arguments."
    names = {argument["limit"] for argument in call["arguments"] if argument.get("limit")}
    limits = [[i["name"], str(i["number"]), i["unit"], i["doc"]] for i in abi["limits"] if i["name"] in names]
    yield _columns(["limit", "value", "unit", "of what"], limits)
    for record in (r for r in abi["records"] if r["name"] in {a.get("record") for a in call["arguments"]}):
        yield from _show_record(abi, record)


def _show_record(_: dict[str, Any], record: dict[str, Any]) -> Iterator[str]:
    head = f"record {record['name']}, {record['bytes']} bytes, aligned to {record['align']}"
    rows = []
    for f in record["fields"]:
        kind = f["c"] + (f"[{f['count']}]" if f["count"] is not None else "")
        rows.append([f"{f['offset']:#x}", str(f["bytes"]), kind, f["name"], f["doc"].replace("`", "")])
    fields = _columns(["offset", "bytes", "type", "field", "meaning"], rows)
    yield f"{head}\n{_wrap(record['doc'].replace('`', ''))}\n{fields}"


def _show_constants(_: dict[str, Any], constants: dict[str, Any]) -> Iterator[str]:
    head = f"constants {constants['name']}\n{_wrap(constants['doc'])}"
    wide = any(v["number"] > 4095 for v in constants["values"])
    rows = [[hex(v["number"]) if wide else str(v["number"]), v["name"], v["doc"]] for v in constants["values"]]
    yield f"{head}\n{_columns(['bit' if constants['bits'] else 'value', 'name', 'meaning'], rows)}"


def _show_status(abi: dict[str, Any], status: dict[str, Any]) -> Iterator[str]:
    yield f"status {status['name']} ({status['number']})\n{_wrap(status['doc'])}"
    calls = [c["name"] for s in abi["services"] for c in s["calls"] if status["name"] in c["statuses"]]
    if calls:
        yield _wrap(f"Answered by {', '.join(calls)}.")


def _show_rule(_: dict[str, Any], rule: dict[str, Any]) -> Iterator[str]:
    yield f"{_rule(rule)}\n(page {rule['page']} of the specification)"


def _show_must(_: dict[str, Any], must: dict[str, Any]) -> Iterator[str]:
    yield _rule(must)
    yield f"({must['level']} of virtio 1.4, section {must['section']}: {must['label']})"
    if must["no_case"]:
        yield _wrap(f"It has no case: {must['no_case']}.")
        return
    yield "\n".join(["its cases: page virtio_conformance of the specification", *must["rules"], *must["tests"]])


def _rule(rule: dict[str, Any]) -> str:
    return textwrap.fill(f"{rule['id']}  {rule['text']}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _roads(call: dict[str, Any]) -> str:
    return ", ".join(road.lower() for road in call["roads"])


SHOW = {
    "abi": _show_abi,
    "service": _show_service,
    "call": _show_call,
    "record": _show_record,
    "constants": _show_constants,
    "status": _show_status,
    "rule": _show_rule,
    "must": _show_must,
}
