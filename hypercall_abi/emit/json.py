"""The whole declaration as one JSON object, for tools in other languages."""

from __future__ import annotations

import json
from typing import Any

from .. import CONSTANTS, LIMITS, MODULES, RECORDS, RULES, SERVICES, VERSION
from ..conventions import REGISTERS, ROAD, answers
from ..cpuid import SIGNATURE
from ..notes import OWNER
from ..schema import Arg, Buffer, Call, Constants, Field, Record, Rule, Service
from .c import digest
from .docs import arguments, home


def _page(item: object) -> str:
    return home(item).__name__.rpartition(".")[2]


def _argument(arg: Arg | Buffer) -> dict[str, Any]:
    if isinstance(arg, Arg):
        return {"name": arg.name, "kind": "value", "until": arg.until, "doc": arg.doc}
    return {
        "name": arg.name,
        "kind": "buffer",
        "doc": arg.doc,
        "host": arg.access,
        "limit": arg.limit.name if arg.limit else None,
        "align": arg.align,
        "record": arg.entry.name_ if arg.entry else None,
        "unit_bytes": arg.entry_bytes,
        "fixed": arg.fixed,
    }


def call(service: Service, what: Call) -> dict[str, Any]:
    """One call: its id, what it takes in which register, what it can answer."""
    registers = zip(REGISTERS[0].args, arguments(what), strict=False)
    return {
        "name": f"{service.name}.{what.name}",
        "id": service.id(what),
        "doc": what.doc,
        "feature": what.feature,
        "roads": [v.name for v in ROAD if what.roads >> v.number & 1],
        "arguments": [_argument(arg) for arg in what.args],
        "registers": [{"x86-64": register, "name": name, "doc": doc} for register, (name, doc) in registers],
        "value": what.value,
        "varies": list(what.varies),
        "no_return": what.no_return,
        "statuses": list(answers(what)),
    }


def service(what: Service) -> dict[str, Any]:
    """One service with its calls."""
    return {
        "name": what.name,
        "number": what.number,
        "doc": what.doc,
        "optional": what.optional,
        "features": what.features.name if what.features else None,
        "calls": [call(what, c) for c in what.calls],
    }


def _field(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "offset": field.offset,
        "bytes": field.size,
        "c": field.c,
        "count": field.count,
        "reserved": field.reserved,
        "gpa": field.gpa,
        "doc": field.doc,
    }


def record(what: Record) -> dict[str, Any]:
    """One record with its fields; `page` is the page of the specification it stands on."""
    return {
        "name": what.name_,
        "page": _page(what),
        "doc": what.doc,
        "bytes": what.size,
        "align": what.alignment,
        "grows": what.grows,
        "fields": [_field(f) for f in what.fields],
    }


def constants(what: Constants) -> dict[str, Any]:
    """One set of constants; of bits, the numbers are bit numbers."""
    values = [{"name": v.name, "number": v.number, "doc": v.doc} for v in what]
    return {"name": what.name, "page": _page(what), "doc": what.doc, "bits": what.bits, "values": values}


def rules() -> list[dict[str, str]]:
    """Every rule with the page it stands on."""

    def page(rule: Rule) -> str:
        module = next(m for m in MODULES if rule in getattr(m, "RULES", ()))
        return module.__name__.rpartition(".")[2]

    return [
        {"id": r.id, "page": page(r), "binds": r.binds, "text": r.text} | ({"no_case": r.no_case} if r.no_case else {})
        for r in RULES.values()
    ]


def describe() -> dict[str, Any]:
    """Everything that is declared, in plain values."""
    return {
        "version": list(VERSION),
        "digest": digest(),
        "note_owner": OWNER,
        "cpuid_signature": SIGNATURE[:-1].decode(),
        "services": [service(s) for s in SERVICES.values()],
        "records": [record(r) for r in RECORDS.values()],
        "constants": [constants(c) for c in CONSTANTS.values()],
        "limits": [
            {"id": i.id, "name": i.name, "number": i.number, "unit": i.unit, "doc": i.doc} for i in LIMITS.values()
        ],
        "registers": [
            {
                "kind": r.kind,
                "architecture": r.architecture,
                "instruction": r.instruction,
                "call": r.call,
                "arguments": list(r.args),
                "status": r.status,
                "value": r.value,
                "undefined": r.undefined,
            }
            for r in REGISTERS
        ],
        "rules": rules(),
    }


def emit() -> str:
    """The object as text."""
    return json.dumps(describe(), indent=1, ensure_ascii=False) + "\n"
