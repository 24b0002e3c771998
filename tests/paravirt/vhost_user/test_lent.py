"""The notes of what a borrower of a queue has taken, against rings that are written by hand."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paravirt._native import ffi, lib

SIZE = 8


class Rings:
    """The available and the used ring of a queue of SIZE, and what is truly in flight, in order."""

    def __init__(self, start: int = 0) -> None:
        self.available = ffi.new("uint8_t[]", 6 + 2 * SIZE)
        self.used = ffi.new("uint8_t[]", 6 + 8 * SIZE)
        self.state = ffi.new("struct pv_queue_state *", {"size": SIZE, "next_avail": start, "next_used": start})
        self.queue = ffi.new("struct pv_queue *", {"state": self.state})
        self.queue.driver, self.queue.device_area = self.available, self.used
        self.offered = self.returned = start
        self.in_flight: list[int] = []
        self._publish()
        self.lent = ffi.new("struct pv_lent *")
        lib.pv_lent_begin(self.lent, self.queue)

    def _publish(self) -> None:
        struct.pack_into("<H", ffi.buffer(self.available), 2, self.offered & 0xFFFF)
        struct.pack_into("<H", ffi.buffer(self.used), 2, self.returned & 0xFFFF)

    def offer(self, head: int) -> None:
        struct.pack_into("<H", ffi.buffer(self.available), 4 + 2 * (self.offered % SIZE), head)
        self.offered += 1
        self.in_flight.append(head)
        self._publish()

    def give_back(self, head: int) -> None:
        struct.pack_into("<II", ffi.buffer(self.used), 4 + 8 * (self.returned % SIZE), head, 0)
        self.returned += 1
        self.in_flight.remove(head)
        self._publish()

    def look(self) -> None:
        lib.pv_lent_look(self.lent)

    def recover(self, *, tracked: bool = False) -> int:
        return int(lib.pv_lent_recover(self.lent, tracked))

    def waiting(self) -> list[int]:
        """What a new borrower finds from the base that it is told on."""
        entries = struct.unpack_from(f"<{SIZE}H", ffi.buffer(self.available), 4)
        count = (self.offered - self.state.next_avail) & 0xFFFF
        return [entries[(self.state.next_avail + n) % SIZE] for n in range(count)]


@given(st.randoms(use_true_random=False), st.integers(0, 0xFFFF), st.integers(1, SIZE))
def test_whatever_the_order(rng: random.Random, start: int, depth: int) -> None:
    """As long as it looks often enough it knows what is in flight, past the ends of 16 bits too."""
    rings = Rings(start)
    since_look = 0
    for _ in range(rng.randrange(60)):
        free = [head for head in range(SIZE) if head not in rings.in_flight]
        if rings.in_flight and (len(rings.in_flight) >= depth or rng.random() < 0.5):
            rings.give_back(rng.choice(rings.in_flight))
        elif free:
            rings.offer(rng.choice(free))
            since_look += 1
        if since_look == SIZE or rng.random() < 0.3:
            rings.look()
            since_look = 0
            assert rings.lent.in_flight == len(rings.in_flight)
    assert rings.recover() == lib.PV_LENT_GOOD
    assert sorted(rings.waiting()) == sorted(rings.in_flight)
    assert rings.state.next_avail == rings.state.next_used == rings.returned & 0xFFFF


def pass_by(rings: Rings, head: int, times: int) -> None:
    for _ in range(times):
        rings.offer(head)
        rings.give_back(head)


def test_too_much_between_two_looks() -> None:
    """It says that it does not know, until those came back that it has not seen go."""
    rings = Rings()
    rings.offer(0)
    pass_by(rings, 1, SIZE)
    assert rings.recover() == lib.PV_LENT_UNSURE
    rings.offer(3)
    assert rings.recover() == lib.PV_LENT_UNSURE
    rings.give_back(0)
    assert rings.recover() == lib.PV_LENT_GOOD
    assert rings.waiting() == [3]


def test_a_borrower_with_a_record_of_its_own() -> None:
    """The ring stays as it is, whatever the notes say."""
    rings = Rings()
    rings.offer(0)
    pass_by(rings, 1, SIZE)
    before = bytes(ffi.buffer(rings.available))
    assert rings.recover(tracked=True) == lib.PV_LENT_GOOD
    assert bytes(ffi.buffer(rings.available)) == before
    assert rings.state.next_avail == SIZE


def test_nothing_is_written_where_the_order_was_kept() -> None:
    rings = Rings()
    for head in (4, 2, 7):
        rings.offer(head)
    rings.give_back(4)
    before = bytes(ffi.buffer(rings.available))
    assert rings.recover() == lib.PV_LENT_GOOD
    assert bytes(ffi.buffer(rings.available)) == before
    assert rings.waiting() == [2, 7]


@pytest.mark.parametrize("index", [SIZE + 1, 0x8000, 0xFFFF])
def test_a_driver_that_breaks_its_ring(index: int) -> None:
    rings = Rings()
    struct.pack_into("<H", ffi.buffer(rings.available), 2, index)
    assert rings.recover() == lib.PV_LENT_BROKEN


@pytest.mark.parametrize("head", [SIZE, 0xFFFF])
def test_a_head_that_is_none(head: int) -> None:
    rings = Rings()
    rings.offer(head)
    assert rings.recover() == lib.PV_LENT_UNSURE


def test_a_head_that_was_never_taken_comes_back() -> None:
    rings = Rings()
    rings.offer(1)
    rings.offer(2)
    struct.pack_into("<II", ffi.buffer(rings.used), 4, 5, 0)
    struct.pack_into("<H", ffi.buffer(rings.used), 2, 1)
    assert rings.recover() == lib.PV_LENT_UNSURE
