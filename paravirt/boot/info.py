"""Boot information: what the guest is told before its first call (chapter boot), as bytes."""

from __future__ import annotations

from collections.abc import Iterable

from hypercall_abi.boot import BOOT_HEADER, BOOT_INFO, BOOT_MAGIC, BOOT_RECORD
from hypercall_abi.schema import Record


def record(kind: int, payload: bytes, flags: int = 0) -> bytes:
    """One record: head, payload, padding to 8 bytes."""
    head: bytes = BOOT_HEADER.build({"type": kind, "flags": flags, "size_bytes": len(payload)})
    return head + payload + bytes(-len(payload) % 8)


def built(layout: Record, **values: object) -> bytes:
    """A record of the ABI from its fields."""
    data: bytes = layout.build(values)
    return data


def join(records: Iterable[bytes]) -> bytes:
    """The whole boot information; the END record is added."""
    listed = [*records, record(BOOT_RECORD.END, b"")]
    body = b"".join(listed)
    head = built(BOOT_INFO, magic=BOOT_MAGIC.MAGIC, size_bytes=BOOT_INFO.size + len(body), records=len(listed))
    return head + body
