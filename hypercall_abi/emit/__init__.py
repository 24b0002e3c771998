"""Outputs of the declaration: each a pure function from it to texts, keyed by the files they are kept in."""

from collections.abc import Callable

from . import c, calls, docs, json, rust, vectors, wireshark

# name: a function that gives {path below hypercall_abi/: text}
OUTPUTS: dict[str, Callable[[], dict[str, str]]] = {
    "c": lambda: {"include/paravirt_abi.h": c.emit()},
    "calls": lambda: {"include/paravirt_abi_calls.h": calls.emit()},
    "docs": docs.emit,
    "json": lambda: {"json/abi.json": json.emit()},
    "rust": lambda: {"rust/paravirt_abi.rs": rust.emit()},
    "vectors": vectors.emit,
    "wireshark": lambda: {"wireshark/paravirt.lua": wireshark.emit()},
}
