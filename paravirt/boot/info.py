"""Boot information: what the guest is told before its first call (chapter boot), as bytes."""

from __future__ import annotations

from collections.abc import Iterable

from ..abi import Constants, build, size_of

BOOT_RECORD = Constants("BOOT_RECORD")


def record(kind: int, payload: bytes, flags: int = 0) -> bytes:
    """One record: head, payload, padding to 8 bytes."""
    head = build("boot_header", type=kind, flags=flags, size_bytes=len(payload))
    return head + payload + bytes(-len(payload) % 8)


def join(records: Iterable[bytes]) -> bytes:
    """The whole boot information; the END record is added."""
    listed = [*records, record(BOOT_RECORD.END, b"")]
    body = b"".join(listed)
    total = size_of("boot_info") + len(body)
    head = build("boot_info", magic=Constants("BOOT").MAGIC, size_bytes=total, records=len(listed))
    return head + body
