"""The C header by which a guest calls an extension: its calls, features, and records if it declares them."""

from __future__ import annotations

from hypercall_abi import RECORDS
from hypercall_abi.emit.c import records
from hypercall_abi.schema import Buffer

from .base import Extension
from .plugin import PluginExtension


def guest_header(extension: Extension) -> str:
    """The whole text."""
    name, number = extension.name.upper(), extension.service.number
    guard = f"PARAVIRT_EXTENSION_{name}_H"
    lines = [
        f"/* The service {extension.name} of {extension.vendor or 'an unnamed vendor'}, version "
        f"{extension.version or 'unknown'}; made by `paravirt extension header`. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        '#include "paravirt_abi.h"',
        "",
        f"#define PV_SERVICE_{name} {number:#x}",
    ]
    for call_name, call in extension.service.calls.items():
        what = f"{call.registers} registers"
        if isinstance(extension, PluginExtension):
            declared = extension.declared[call_name]
            what = f"({', '.join(declared.registers)}) -> {declared.value}. {declared.doc}"
        lines.append(f"#define PV_CALL_{name}_{call_name.upper()} 0x{number << 16 | call.number:08x} /* {what} */")
    lines += ["", *_declared(extension), "#endif", ""]
    return "\n".join(lines)


def _declared(extension: Extension) -> list[str]:
    """Features and records of a plug-in; a binary module does not tell their names."""
    if not isinstance(extension, PluginExtension):
        return []
    service = extension.declared
    features = [
        f"#define PV_{service.name.upper()}_FEATURE_{v.name} (1ull << {v.number}) /* {v.doc} */"
        for v in service.features or ()
    ]
    entries = [arg.entry for call in service.calls for arg in call.args if isinstance(arg, Buffer) and arg.entry]
    own = {record.name_: record for record in entries if record.name_ not in RECORDS}
    return [*features, *([""] if features else []), *records(own.values())]
