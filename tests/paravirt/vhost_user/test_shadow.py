"""The queue that a peer is given, against rings that are written by hand: what is in flight is known, whoever lies."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paravirt._native import ffi, lib

SIZE = int(lib.PV_SHADOW_SIZE)
AVAILABLE, USED = int(lib.PV_SHADOW_AVAILABLE), int(lib.PV_SHADOW_USED)
NO_CALLS = 1  # of the available ring's flags
NO_KICKS = 1  # of the used ring's


class Shadow:
    """A shadow, and the peer's side of it."""

    def __init__(self) -> None:
        self.memory = ffi.new("uint8_t[]", int(lib.PV_SHADOW_BYTES))
        self.view = ffi.buffer(self.memory)
        self.native = ffi.new("struct pv_shadow *")
        lib.pv_shadow_init(self.native, self.memory)
        self.seen = self.returned = 0

    def give(self, head: int, *sizes: int, readable: int = 0) -> bool:
        """A chain with segments of those sizes, of which the first `readable` are the driver's."""
        chain = ffi.new("struct pv_chain *", {"head": head})
        chain.readable, chain.writable = readable, len(sizes) - readable
        for n, size in enumerate(sizes):
            chain.segments[n].iov_base, chain.segments[n].iov_len = ffi.cast("void *", 0x1000 * (n + 1)), size
        chain.writable_bytes = sum(sizes[readable:])
        return bool(lib.pv_shadow_give(self.native, chain))

    def publish(self) -> bool:
        return bool(lib.pv_shadow_publish(self.native))

    def offered(self) -> list[int]:
        """What the peer finds since it last looked."""
        (index,) = struct.unpack_from("<H", self.view, AVAILABLE + 2)
        count = (index - self.seen) & 0xFFFF
        at = [AVAILABLE + 4 + 2 * ((self.seen + n) % SIZE) for n in range(count)]
        self.seen = index
        return [struct.unpack_from("<H", self.view, where)[0] for where in at]

    def descriptors(self, first: int) -> list[tuple[int, int, bool]]:
        """Address, size, write, of a chain."""
        found, flags, index = [], 1, first
        while flags & 1:
            address, size, flags, following = struct.unpack_from("<QIHH", self.view, 16 * index)
            found.append((address, size, bool(flags & 2)))
            index = following
        return found

    def give_back(self, first: int, written: int = 0) -> None:
        struct.pack_into("<II", self.view, USED + 4 + 8 * (self.returned % SIZE), first, written)
        self.returned += 1
        struct.pack_into("<H", self.view, USED + 2, self.returned & 0xFFFF)

    def take(self) -> tuple[int, int, int]:
        """Result, head, bytes written."""
        head, written = ffi.new("uint16_t *"), ffi.new("uint32_t *")
        return lib.pv_shadow_take(self.native, head, written), head[0], written[0]

    def restart(self) -> None:
        lib.pv_shadow_restart(self.native)
        self.seen = self.returned = 0


def test_a_chain_goes_and_comes_back() -> None:
    shadow = Shadow()
    assert shadow.give(9, 16, 512, 1, readable=1)
    assert not shadow.offered(), "not published yet"
    shadow.publish()
    (first,) = shadow.offered()
    assert shadow.descriptors(first) == [(0x1000, 16, False), (0x2000, 512, True), (0x3000, 1, True)]
    assert shadow.take() == (0, 0, 0)
    shadow.give_back(first, 513)
    assert shadow.take() == (1, 9, 513)
    assert shadow.take()[0] == 0
    assert shadow.native.free_count == SIZE


@given(st.randoms(use_true_random=False))
def test_whatever_the_order(rng: random.Random) -> None:
    """Peers come and go at any moment; each finds what its predecessor did not give back, in order."""
    shadow, number = Shadow(), 0
    out: dict[int, int] = {}  # what the peer has: its name for it → the driver's, oldest first
    for _ in range(rng.randrange(200)):
        dice = rng.random()
        if dice < 0.45:
            if shadow.give(number % 1000, *[64] * rng.randrange(1, 6)):
                shadow.publish()
                (first,) = shadow.offered()
                out[first] = number % 1000
                number += 1
        elif dice < 0.95 and out:
            first = rng.choice(list(out))
            shadow.give_back(first, 64)
            assert shadow.take() == (1, out.pop(first), 64)
        else:
            shadow.restart()
            assert shadow.offered() == list(out)
        assert shadow.native.in_flight == len(out)


def test_past_the_ends_of_16_bits() -> None:
    shadow = Shadow()
    for turn in range(70_000):
        shadow.give(turn & 0xFF, 8)
        shadow.publish()
        shadow.give_back(shadow.offered()[0])
        assert shadow.take()[:2] == (1, turn & 0xFF)


def test_no_room() -> None:
    """A chain that does not fit waits, and one of any size fits where nothing else is."""
    shadow = Shadow()
    assert shadow.give(1, *[8] * (SIZE - 2))
    assert not shadow.give(2, 8, 8, 8)
    assert shadow.give(3, 8, 8)
    shadow.publish()
    for first in shadow.offered():
        shadow.give_back(first)
    assert [shadow.take()[1] for _ in range(2)] == [1, 3]
    assert shadow.give(4, *[8] * SIZE)


@pytest.mark.parametrize("lie", ["none", "other", "twice", "long", "ahead"])
def test_a_peer_that_lies(lie: str) -> None:
    """It is found out, and what it does have stays known."""
    shadow = Shadow()
    for head in (5, 6):
        shadow.give(head, 8)
    shadow.publish()
    first, second = shadow.offered()
    if lie == "none":
        shadow.give_back(SIZE)
    elif lie == "other":
        shadow.give_back(next(n for n in range(SIZE) if n not in (first, second)))
    elif lie == "twice":
        shadow.give_back(first)
        shadow.give_back(first)
        assert shadow.take() == (1, 5, 0)
    elif lie == "long":
        shadow.give_back(first, 9)
    else:
        struct.pack_into("<H", shadow.view, USED + 2, 0x8000)
        struct.pack_into("<I", shadow.view, USED + 4, 0xFFFF_FFFF)
    assert shadow.take()[0] == -1
    assert shadow.take()[0] == -1, "for good"
    shadow.restart()
    assert shadow.offered() == ([second] if lie == "twice" else [first, second])


def test_what_it_writes_to_our_half_is_not_believed() -> None:
    shadow = Shadow()
    shadow.give(5, 8, 8)
    shadow.publish()
    (first,) = shadow.offered()
    shadow.view[:USED] = b"\xff" * USED
    shadow.give_back(first)
    assert shadow.take()[:2] == (1, 5)
    assert shadow.native.free_count == SIZE


def test_suppression_both_ways() -> None:
    shadow = Shadow()
    flags = AVAILABLE
    assert shadow.view[flags] == bytes([NO_CALLS]), "no calls before they are asked for"
    shadow.give(1, 8)
    assert shadow.publish()
    struct.pack_into("<H", shadow.view, USED, NO_KICKS)
    shadow.give(2, 8)
    assert not shadow.publish()
    assert not lib.pv_shadow_arm(shadow.native)
    assert shadow.view[flags] == b"\0"
    shadow.give_back(shadow.offered()[0])
    assert lib.pv_shadow_arm(shadow.native), "something came meanwhile"
    lib.pv_shadow_disarm(shadow.native)
    assert shadow.view[flags] == bytes([NO_CALLS])
