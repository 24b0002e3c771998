"""Packets of gdb's remote serial protocol: taking them out of what arrives, and putting answers into them.

What is in a packet is ``stub.py``'s.  Who sends may send anything: what is no packet is dropped, one with a wrong
checksum is asked for again.  One that is too long ends the conversation, and so does a beginning of another protocol's,
such as a web browser's that was led here (:class:`NoDebugger`).
"""

from __future__ import annotations

from collections.abc import Iterator

PACKET_MOST_BYTES = 16384
"""Of one packet's contents; gdb is told (``PacketSize``)."""
INTERRUPT = b"\x03"
"""What :meth:`Receiver.feed` yields for the byte that interrupts, which comes outside of packets."""
_BEGINNINGS = (b"+", b"-", b"$", INTERRUPT)
_ESCAPE, _ESCAPED = 0x7D, b"#$}*"


class NoDebugger(Exception):
    """A packet that nobody announced room for, or none at all at the beginning."""


def checksum(contents: bytes) -> bytes:
    """Two digits."""
    return b"%02x" % (sum(contents) & 0xFF)


def pack(contents: bytes) -> bytes:
    """A packet with these contents, escaped."""
    escaped = b"".join(bytes((_ESCAPE, byte ^ 0x20)) if byte in _ESCAPED else bytes((byte,)) for byte in contents)
    return b"$" + escaped + b"#" + checksum(escaped)


def unescape(contents: bytes) -> bytes:
    """Contents as they were meant: of binary data, which alone is escaped by who asks."""
    parts = contents.split(bytes((_ESCAPE,)))
    return parts[0] + b"".join(bytes((part[0] ^ 0x20,)) + part[1:] if part else b"" for part in parts[1:])


class Receiver:
    """What arrives from one debugger; ``acknowledging`` until it asks for less talk."""

    def __init__(self) -> None:
        self.acknowledging = True
        self.replies: list[bytes] = []
        """Acknowledgements to send, in order: ``+`` for a packet that came well, ``-`` for one to send again."""
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The contents of packets that are complete now, and INTERRUPT where that came.  Raises NoDebugger."""
        if data and not self._begun and data[:1] not in _BEGINNINGS:
            raise NoDebugger
        self._begun = True
        self._rest += data
        while self._rest:
            head = self._rest[:1]
            if head == b"$":
                contents = self._packet()
                if contents is None:
                    return
                if contents:
                    yield contents[1:]
                continue
            self._rest = self._rest[1:]
            if head == INTERRUPT:
                yield INTERRUPT

    def _packet(self) -> bytes | None:
        """``$`` and the contents; empty: a packet that came damaged; None: not all of it is there."""
        end = self._rest.find(b"#")
        if max(end, len(self._rest) - 3 if end < 0 else end) > PACKET_MOST_BYTES:
            raise NoDebugger
        if end < 0 or len(self._rest) < end + 3:
            return None
        packet, told, self._rest = self._rest[:end], self._rest[end + 1 : end + 3], self._rest[end + 3 :]
        good = not self.acknowledging or told.lower() == checksum(packet[1:])
        if self.acknowledging:
            self.replies.append(b"+" if good else b"-")
        return packet if good else b""
