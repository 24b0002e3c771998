"""What one says to the guest `web`: to its small services over TCP, from threads of one's own if need be."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
import time
from functools import cache

ECHO_PORT, DISCARD_PORT, SOURCE_PORT, PAGE_PORT = 7, 9, 19, 80
PATIENCE_S = 60.0
PART_BYTES = 1 << 18
MASK = (1 << 64) - 1
PATTERN_WORDS = 8191

Address = tuple[str, int]


@cache
def _period(seed: int) -> bytes:
    words = []
    for number in range(PATTERN_WORDS):
        z = (seed + (number + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        words.append(z ^ z >> 31)
    return struct.pack(f"<{PATTERN_WORDS}Q", *words)


def pattern(seed: int, size_bytes: int) -> bytes:
    """What the service source says for `seed` (splitmix64, from the start again after a prime number of words)."""
    period = _period(seed)
    return (period * (size_bytes // len(period) + 1))[:size_bytes]


def noise(seed: int, size_bytes: int) -> bytes:
    """Bytes that differ everywhere."""
    return random.Random(seed).randbytes(size_bytes)


def connect(to: Address, receive_bytes: int = 0) -> socket.socket:
    """A connection; with a receive buffer of that size, if given.  Tried again while the way is not known yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if receive_bytes:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            link.settimeout(PATIENCE_S)
            link.connect(to)
            return link
        except OSError:
            link.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def read_all(link: socket.socket) -> bytes:
    """Until the other end ends."""
    data = bytearray()
    while part := link.recv(PART_BYTES):
        data += part
    return bytes(data)


def discard(to: Address, data: bytes) -> None:
    """Sends `data`, and holds what arrived against it."""
    with connect(to) as link:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        answer = read_all(link).decode()
    assert answer == f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"


def source(to: Address, seed: int, size_bytes: int, receive_bytes: int = 0) -> None:
    """Asks for that much, and looks at it."""
    with connect(to, receive_bytes) as link:
        link.sendall(f"{size_bytes} {seed}\n".encode())
        data = read_all(link)
    assert len(data) == size_bytes
    assert data == pattern(seed, size_bytes), f"seed {seed}: other bytes came"


def echo(to: Address, data: bytes, receive_bytes: int = 0) -> None:
    """Sends `data`, ends, and reads it back meanwhile and afterwards."""
    with connect(to, receive_bytes) as link:
        ends: list[BaseException | None] = []

        def send() -> None:
            try:
                link.sendall(data)
                link.shutdown(socket.SHUT_WR)
            except OSError as error:  # for the reader to raise
                ends.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            back = read_all(link)
        finally:
            sender.join()
    assert not ends, ends
    assert back == data


def get(to: Address, request: bytes = b"GET / HTTP/1.1\r\nHost: guest\r\n\r\n") -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body of an answer."""
    with connect(to) as link:
        link.sendall(request)
        head, _, body = read_all(link).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


def reset(link: socket.socket) -> None:
    """Closes a connection by a reset."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()
