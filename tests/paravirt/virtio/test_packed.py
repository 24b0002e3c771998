"""The device side of a packed queue against drivers of every kind; what is expected comes from a model of the rules.

What both formats share (buffers, tables, areas of a split queue) has its cases in test_ring.py.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercall_abi import STATUS
from hypercall_abi.model import GuestMemory
from hypercall_abi.model.packed import PackedVirtqueue
from hypercall_abi.model.virtqueue import Areas, Broken
from hypercall_abi.virtqueue import DESC_FLAG, VIRTIO_FEATURE, VIRTQ_EVENT
from paravirt._native import lib
from tests.paravirt.virtio.ring import ALL, AVAIL, DATA, END, HIGH, LOW, RANGES, TABLE, USED, Ring

NEXT, WRITE, INDIRECT = DESC_FLAG.NEXT, DESC_FLAG.WRITE, DESC_FLAG.INDIRECT
PACKED = ALL | VIRTIO_FEATURE.RING_PACKED
DESC = struct.Struct("<QIHH")
STARTS = st.sampled_from([0, 3, 0x7FFE, 0xFFFD])


class PackedRing(Ring):
    """A packed queue of the C core, and beside it the model, which follows it step by step."""

    def __init__(self, size: int = 8, features: int = PACKED, start: int = 0) -> None:
        super().__init__(size, features, start)
        self.twin = PackedVirtqueue(self.view(), Areas(TABLE, AVAIL, USED), size, features, start, start, start)
        self.enabled()

    def wrap(self, place: int) -> int:
        return int(DESC_FLAG.PACKED_AVAIL if place // self.size % 2 == 0 else DESC_FLAG.PACKED_USED)

    def put(self, place: int, gpa: int, size_bytes: int, name: int, flags: int, *, available: bool = True) -> None:
        """A descriptor at `place`, available or as the round before left it."""
        mine = self.wrap(place if available else place + self.size)
        self.write(TABLE + 16 * (place % self.size), DESC.pack(gpa, size_bytes, name, flags & ~0x8080 | mine))

    def both(self, act: str, *arguments: int) -> Any:
        """The same on the model, in a copy of this memory."""
        self.twin.memory = self.view()
        return getattr(self.twin, act)(*arguments)

    def agree(self) -> None:
        """Memory is as the model has it."""
        self.twin.memory.adopt(self.view())
        assert not self.twin.memory.difference(self.view())

    def take(self) -> bool:
        """Takes a chain; whether the driver was right."""
        try:
            expected = self.both("pop")
        except Broken as broken:
            assert self.pop() == -1
            assert self.fault == broken.rule
            return False
        assert self.pop() == (1 if expected else 0), self.fault
        if expected:
            assert (self.chain.head, *self.segments()) == expected
        return True

    def give(self, name: int, written_bytes: int) -> None:
        self.both("push", name, written_bytes)
        lib.pv_queue_push(self.queue, name, written_bytes)
        self.agree()


def one(ring: PackedRing, place: int, name: int = 0) -> None:
    ring.put(place, DATA, 16, name, WRITE)


@pytest.mark.parametrize(
    ("rule", "descriptors"),
    [
        (None, [(16, 0, 0)]),
        (None, [(16, 7, 0)]),
        ("VQ-13", [(16, 8, 0)]),
        ("VQ-13", [(16, 0xFFFF, 0)]),
        (None, [(16, 0xFFFF, NEXT), (16, 3, WRITE)]),  # of the last one only
        ("VQ-13", [(16, 0, NEXT)]),  # the next one is not available
        ("VQ-3", [(0, 0, 0)]),
        ("VQ-4", [(16, 0, NEXT | WRITE), (16, 0, 0)]),
        (None, [(16, i, NEXT if i < 7 else 0) for i in range(8)]),
        ("VQ-2", [(16, 0, NEXT)] * 8),
        ("VQ-5", [(24, 0, INDIRECT)]),
        ("VQ-6", [(16, 0, INDIRECT | NEXT)]),
    ],
)
def test_rule(rule: str | None, descriptors: list[tuple[int, int, int]]) -> None:
    """Each rule broken in one way; what is just inside is taken."""
    ring = PackedRing()
    for place, (size_bytes, name, flags) in enumerate(descriptors):
        ring.put(place, HIGH if flags & INDIRECT else DATA, size_bytes, name, flags)
    assert ring.take() == (rule is None)
    assert ring.fault == rule
    if rule:
        before = ring.view().ranges
        assert ring.pop() == 0
        lib.pv_queue_push(ring.queue, 0, 1)
        assert not lib.pv_queue_wants_interrupt(ring.queue)
        assert not lib.pv_queue_arm(ring.queue)
        assert ring.view().ranges == before


def test_an_id_in_use() -> None:
    """VQ-13: an id is free again when its chain was given back, and its place, too."""
    ring = PackedRing(2)
    one(ring, 0)
    one(ring, 1)
    assert ring.take()
    assert not ring.take()
    assert ring.fault == "VQ-13"
    ring = PackedRing(2)
    one(ring, 0)
    assert ring.take()
    ring.give(0, 5)
    one(ring, 1)
    assert ring.take()
    one(ring, 2, 1)
    assert ring.take()
    one(ring, 3, 0)  # in the place that the device still has
    assert not ring.take()
    assert ring.fault == "VQ-13"


flag_sets = st.one_of(st.sampled_from([0, 0, NEXT, WRITE, WRITE | NEXT, INDIRECT]), st.integers(0, 0xFFFF))
gpas = st.sampled_from([DATA, DATA + 100, HIGH, HIGH, HIGH + 0x201, LOW - 1, END - 1])
names = st.one_of(st.integers(0, 8), st.sampled_from([0x7FFF, 0xFFFF]))
sizes = st.one_of(st.integers(1, 64), st.integers(0, 5).map(lambda n: 16 * n), st.just(0xFFFF_FFFF))
puts = st.tuples(st.just("put"), st.integers(0, 4), gpas, sizes, names, flag_sets, st.booleans())
fair = st.tuples(
    st.just("put"), st.just(0), st.just(DATA), st.integers(1, 64), st.integers(0, 3), st.just(0), st.just(True)
)
gives = st.tuples(st.just("give"), st.integers(0, 8), st.sampled_from([0, 1, 16, 1 << 31]))
events = st.tuples(st.just("event"), st.integers(0, 9), st.booleans(), st.integers(0, 3))
plain = st.sampled_from([("take",), ("take",), ("ask",), ("arm",), ("disarm",)])


@given(
    size=st.sampled_from([1, 2, 4, 8]),
    features=st.sampled_from([PACKED, PACKED, PACKED & ~VIRTIO_FEATURE.EVENT_IDX & ~VIRTIO_FEATURE.INDIRECT_DESC]),
    start=STARTS,
    steps=st.lists(st.one_of(fair, fair, puts, gives, events, plain, plain), max_size=40),
    table=st.lists(st.tuples(gpas, sizes, names, flag_sets), min_size=5, max_size=5),
)
@settings(max_examples=max(500, settings().max_examples))
def test_any_driver(size: int, features: int, start: int, steps: list[Any], table: list[Any]) -> None:
    """Step by step what the model does: chains, rules, entries, who is told and what is asked for."""
    ring = PackedRing(size, features, start)
    ring.write(HIGH, b"".join(DESC.pack(*entry) for entry in table))
    for place in range(size):
        ring.put(start + place, 0, 0, 0, 0, available=False)
    for kind, *arguments in steps:
        if kind == "put":
            ahead, gpa, size_bytes, name, flags, available = arguments
            ring.put(ring.twin.next_avail + ahead, gpa, size_bytes, name, flags, available=available)
        elif kind == "give" and ring.twin.held:
            which, written_bytes = arguments
            ring.give(sorted(ring.twin.held)[which % len(ring.twin.held)], written_bytes)
        elif kind == "event":
            place, wrap, flags = arguments
            ring.write(AVAIL, struct.pack("<HH", place % size | wrap << 15, flags))
        elif kind == "take" and not ring.take():
            return
        elif kind == "ask":
            assert ring.both("wants_interrupt") == lib.pv_queue_wants_interrupt(ring.queue)
            ring.agree()
        elif kind == "arm":
            assert ring.both("arm") == lib.pv_queue_arm(ring.queue)
            ring.agree()
        elif kind == "disarm":
            ring.both("disarm")
            lib.pv_queue_disarm(ring.queue)
            assert struct.unpack("<HH", ring.read(USED, 4))[1] == VIRTQ_EVENT.DISABLE
            ring.agree()


@given(chains=st.lists(st.integers(1, 3), min_size=1, max_size=30), start=STARTS, batch=st.integers(1, 4))
def test_in_order(chains: list[int], start: int, batch: int) -> None:
    """A batch of chains that were used wholly is one entry, of the last one; seen when it is published."""
    ring = PackedRing(16, PACKED | VIRTIO_FEATURE.IN_ORDER, start)
    place, waiting = start, []
    for number, count in enumerate(chains):
        for i in range(count):
            ring.put(place + i, DATA, 16, number % 16, WRITE | (NEXT if i + 1 < count else 0))
        assert ring.pop() == 1
        waiting.append((place, number % 16, 16 * count))
        place += count
        if len(waiting) < batch and number + 1 < len(chains):
            continue
        before = ring.read(TABLE, 16 * 16)
        for _, name, written_bytes in waiting:
            lib.pv_queue_stage(ring.queue, name, written_bytes)
        assert ring.read(TABLE, 16 * 16) == before
        lib.pv_queue_publish(ring.queue)
        first, (_, name, written_bytes) = waiting[0][0], waiting[-1]
        both = 0x8080 if ring.wrap(first) == DESC_FLAG.PACKED_AVAIL else 0
        entry = DESC.unpack(ring.read(TABLE + 16 * (first % 16), 16))[1:]
        assert entry == (written_bytes, name, both | WRITE)
        assert ring.state.next_used == place & 0xFFFF
        waiting.clear()


def test_in_part_is_said() -> None:
    """In order, but not wholly used: an entry of its own, and all of a batch seen at once."""
    ring = PackedRing(8, PACKED | VIRTIO_FEATURE.IN_ORDER)
    for place in range(3):
        one(ring, place, place)
        assert ring.pop() == 1
    for name, written_bytes in ((0, 4), (1, 16), (2, 3)):
        lib.pv_queue_stage(ring.queue, name, written_bytes)
    flags = [ring.read(TABLE + 16 * place + 14, 2) for place in (0,)]
    assert flags == [struct.pack("<H", WRITE | DESC_FLAG.PACKED_AVAIL)]
    lib.pv_queue_publish(ring.queue)
    entries = [DESC.unpack(ring.read(TABLE + 16 * place, 16))[1:] for place in range(2)]
    assert entries == [(4, 0, 0x8080 | WRITE), (3, 2, 0x8080 | WRITE)]


@given(
    size=st.one_of(st.sampled_from([0, 1, 2, 3, 8, 256, 512]), st.integers(0, 0xFFFF)),
    at=st.tuples(*[st.sampled_from([LOW, HIGH - 16, HIGH - 4, HIGH - 2, END - 128, END - 4, END - 2, LOW + 2])] * 3),
)
def test_areas(size: int, at: tuple[int, int, int]) -> None:
    """VQ-8: sizes, alignment and place of the three areas of a packed queue."""
    ring = Ring(size, PACKED)
    ring.state.descriptors_gpa, ring.state.driver_gpa, ring.state.device_gpa = at
    status = Areas(*at).status(GuestMemory(RANGES), size, 256, packed=True)
    assert ring.enable() == status
    assert ring.state.enabled == (status == STATUS.OK)
