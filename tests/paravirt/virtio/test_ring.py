"""The device side of a split queue against hostile drivers; what is expected comes from a model of the rules."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercall_abi import STATUS
from hypercall_abi.model import GuestMemory
from hypercall_abi.model.virtqueue import Areas, Broken, Desc
from hypercall_abi.virtqueue import DESC_FLAG, RING_FLAG, USED_FLAG, VIRTIO_FEATURE
from paravirt._native import ffi, lib
from tests.paravirt.virtio.ring import ALL, AVAIL, DATA, END, HIGH, LOW, RANGES, TABLE, USED, Ring

NEXT, WRITE, INDIRECT = DESC_FLAG.NEXT, DESC_FLAG.WRITE, DESC_FLAG.INDIRECT
INDIRECT_TABLES = (HIGH, HIGH + 0x200, HIGH + 0x401)  # they need no alignment
U64 = (1 << 64) - 1


def check_pop(ring: Ring, head: int) -> None:
    """The C core does with `head` what the model says."""
    ring.offer(head)
    try:
        popped = ring.model().pop()
        assert popped
        _, readable, writable = popped
    except Broken as broken:
        assert ring.pop() == -1
        assert ring.fault == broken.rule
        ring.check_silent()
        return
    assert ring.pop() == 1, ring.fault
    assert ring.chain.head == head
    assert ring.segments() == (readable, writable)
    assert ring.chain.readable_bytes == sum(size for _, size in readable)
    assert ring.chain.writable_bytes == sum(size for _, size in writable)
    assert ring.pop() == 0


def data(size_bytes: int = 16, flags: int = 0, following: int = 0) -> Desc:
    return Desc(DATA, size_bytes, flags, following)


def to_table(count: int, flags: int = 0, gpa: int = HIGH) -> Desc:
    return Desc(gpa, 16 * count, INDIRECT | flags, 0)


LOOP = [data(flags=NEXT, following=1), data(flags=NEXT, following=0)]
GOOD = data()

# name: rule or None, descriptors from 0 on (the head), indirect table, features
CASES: dict[str, tuple[str | None, list[Desc], list[Desc], int]] = {
    "one buffer": (None, [GOOD], [], ALL),
    "as long as the queue": (None, [data(flags=NEXT, following=i + 1) for i in range(7)] + [GOOD], [], ALL),
    "next outside": ("VQ-1", [data(flags=NEXT, following=8)], [], ALL),
    "next far outside": ("VQ-1", [data(flags=NEXT, following=0xFFFF)], [], ALL),
    "next outside the indirect table": ("VQ-1", [to_table(2)], [data(flags=NEXT, following=2), GOOD], ALL),
    "loop": ("VQ-2", LOOP, [], ALL),
    "loop of one": ("VQ-2", [data(flags=NEXT, following=0)], [], ALL),
    "loop in the indirect table": ("VQ-2", [to_table(2)], LOOP, ALL),
    "longer with its table than the queue": (
        "VQ-2",
        [data(flags=NEXT, following=1), to_table(8)],
        [data(flags=NEXT, following=i + 1) for i in range(7)] + [GOOD],
        ALL,
    ),
    "empty": ("VQ-3", [data(0)], [], ALL),
    "huge": ("VQ-3", [data(0xFFFF_FFFF)], [], ALL),
    "before memory": ("VQ-3", [Desc(LOW - 1, 2, 0, 0)], [], ALL),
    "behind memory": ("VQ-3", [Desc(END, 1, 0, 0)], [], ALL),
    "over the end": ("VQ-3", [Desc(END - 1, 2, 0, 0)], [], ALL),
    "up to the end": (None, [Desc(END - 2, 2, 0, 0)], [], ALL),
    "across two ranges": ("VQ-3", [Desc(HIGH - 1, 2, 0, 0)], [], ALL),
    "wraps": ("VQ-3", [Desc(U64, 2, 0, 0)], [], ALL),
    "wraps into memory": ("VQ-3", [Desc(U64 - 0xFFFF_FFFF + LOW + 2, 0xFFFF_FFFF, 0, 0)], [], ALL),
    "address zero": ("VQ-3", [Desc(0, 1, 0, 0)], [], ALL),
    "read after write": ("VQ-4", [data(flags=WRITE | NEXT, following=1), GOOD], [], ALL),
    "read after write in the table": ("VQ-4", [to_table(2)], [data(flags=WRITE | NEXT, following=1), GOOD], ALL),
    "write before the table reads": (
        "VQ-4",
        [data(flags=WRITE | NEXT, following=1), to_table(1)],
        [GOOD],
        ALL,
    ),
    "table": (None, [to_table(2)], [data(flags=NEXT, following=1), data(flags=WRITE)], ALL),
    "table after a buffer": (None, [data(flags=NEXT, following=1), to_table(1)], [GOOD], ALL),
    "table marked for writing (VQ-9)": (None, [to_table(1, WRITE)], [GOOD], ALL),
    "table unaligned": (None, [to_table(1, gpa=HIGH + 1)], [], ALL),
    "empty table": ("VQ-5", [to_table(0)], [], ALL),
    "half a descriptor": ("VQ-5", [Desc(HIGH, 24, INDIRECT, 0)], [GOOD, GOOD], ALL),
    "table longer than the queue": ("VQ-5", [to_table(9)], [GOOD] * 9, ALL),
    "huge table": ("VQ-5", [Desc(HIGH, 0xFFFF_FFF0, INDIRECT, 0)], [GOOD], ALL),
    "table in a table": ("VQ-5", [to_table(1)], [to_table(1)], ALL),
    "table in a table, not the first": ("VQ-5", [to_table(2)], [data(flags=NEXT, following=1), to_table(1)], ALL),
    "table outside": ("VQ-3", [Desc(END - 8, 16, INDIRECT, 0)], [], ALL),
    "table with more behind it": ("VQ-6", [to_table(1, NEXT)], [GOOD], ALL),
    "table not agreed": ("VQ-6", [to_table(1)], [GOOD], ALL & ~VIRTIO_FEATURE.INDIRECT_DESC),
    "unknown flags are ignored": (None, [data(flags=0x7FF8)], [], ALL),
}


@pytest.mark.parametrize("case", CASES)
def test_rule(case: str) -> None:
    """Each rule broken in one way, VQ-1 to VQ-6 and VQ-9; what is just inside is taken."""
    rule, table, indirect, features = CASES[case]
    ring = Ring(features=features).enabled()
    if case == "table unaligned":
        ring.describe([GOOD], HIGH + 1)
    ring.describe(table)
    ring.describe(indirect, HIGH)
    ring.offer(0)
    assert ring.pop() == (-1 if rule else 1)
    assert ring.fault == rule
    if rule:
        ring.check_silent()


def test_head_outside() -> None:
    """VQ-1 holds for the head too."""
    ring = Ring().enabled()
    ring.offer(8)
    assert ring.pop() == -1
    assert ring.fault == "VQ-1"


tempting_gpas = st.one_of(
    st.sampled_from([0, LOW - 1, LOW, DATA, HIGH - 8, HIGH, END - 16, END - 1, END, U64, U64 - 15, 1 << 63]),
    st.sampled_from(INDIRECT_TABLES),
    st.integers(LOW, END),
    st.integers(0, U64),
)
tempting_sizes = st.one_of(
    st.integers(1, 64),
    st.integers(0, 18).map(lambda n: 16 * n),
    st.sampled_from([0, 1, 0x1000, 0x4000, 0x4001, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]),
)
flag_sets = st.one_of(
    st.sampled_from([0, NEXT, NEXT, NEXT, WRITE, WRITE | NEXT, INDIRECT, INDIRECT | WRITE, INDIRECT | NEXT]),
    st.integers(0, 0xFFFF),
)
indexes = st.one_of(st.integers(0, 17), st.sampled_from([0x7FFF, 0x8000, 0xFFFF]))
hostile = st.builds(Desc, tempting_gpas, tempting_sizes, flag_sets, indexes)
fair = st.builds(
    Desc, st.integers(DATA, DATA + 0x800), st.integers(1, 64), st.sampled_from([0, NEXT, NEXT]), st.integers(0, 7)
)
tabled = st.builds(
    Desc, st.sampled_from(INDIRECT_TABLES), st.integers(1, 8).map(lambda n: 16 * n), st.just(INDIRECT), st.just(0)
)
descriptors = st.one_of(fair, fair, tabled, hostile)


@given(
    size=st.sampled_from([1, 2, 4, 8, 16]),
    features=st.sampled_from([ALL, ALL, ALL & ~VIRTIO_FEATURE.INDIRECT_DESC]),
    table=st.lists(descriptors, min_size=16, max_size=16),
    indirect=st.lists(st.lists(st.one_of(fair, hostile), max_size=18), min_size=3, max_size=3),
    heads=st.lists(st.one_of(st.integers(0, 15), indexes), min_size=1, max_size=4),
    start=st.sampled_from([0, 0xFFFE]),
)
@settings(max_examples=max(400, settings().max_examples))
def test_hostile_tables(
    size: int, features: int, table: list[Desc], indirect: list[list[Desc]], heads: list[int], start: int
) -> None:
    """Any tables at all: taken with exactly these segments, or refused by exactly this rule (VQ-1 to VQ-6)."""
    ring = Ring(size, features, start).enabled()
    ring.set_avail_index(start)
    ring.describe(table[:size])
    for gpa, entries in zip(INDIRECT_TABLES, indirect, strict=True):
        ring.describe(entries, gpa)
    for head in heads:
        check_pop(ring, head)
        if ring.fault:
            return


@given(
    seen=st.integers(0, 0xFFFF),
    jump=st.one_of(st.sampled_from([0, 1, 2, 3, 8, 9, 256, 257, 0xFFFF]), st.integers(0, 0xFFFF)),
    size=st.sampled_from([1, 2, 8, 256]),
)
@settings(max_examples=max(300, settings().max_examples))
def test_index_jumps(seen: int, jump: int, size: int) -> None:
    """VQ-7, at every place of the 16-bit index."""
    ring = Ring(size, next_avail=seen).enabled()
    ring.describe([data()])
    ring.set_avail_index(seen + jump)
    assert ring.pop() == (0 if jump == 0 else 1 if jump <= size else -1)
    assert ring.fault == ("VQ-7" if jump > size else None)


def test_recovery() -> None:
    """VQ-10: silent until it is enabled again; then it works as ever."""
    ring = Ring().enabled()
    ring.describe([data(0)])
    check_pop(ring, 0)
    assert ring.fault == "VQ-3"
    lib.pv_queue_disable(ring.queue)
    assert ring.pop() == 0
    ring.describe([data()])
    ring.state.next_avail = ring.offered
    ring.enabled()
    check_pop(ring, 0)
    assert ring.fault is None


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@given(reads=lengths, writes=lengths, scribble=st.binary(min_size=64, max_size=64), offset=st.integers(0, 200))
def test_changes_while_in_use(reads: list[int], writes: list[int], scribble: bytes, offset: int) -> None:
    """What the driver does to its tables after a chain was taken changes nothing of the chain."""
    ring = Ring().enabled()
    sizes = reads + writes
    table = [
        Desc(DATA + 64 * i, length, (NEXT if i + 1 < len(sizes) else 0) | (WRITE if i >= len(reads) else 0), i + 1)
        for i, length in enumerate(sizes)
    ]
    ring.describe([to_table(len(table))])
    ring.describe(table, HIGH)
    for i in range(len(sizes)):
        ring.write(DATA + 64 * i, bytes((i * 64 + b) & 0xFF for b in range(64)))
    ring.offer(0)
    assert ring.pop() == 1
    ring.write(HIGH, scribble * 2)  # the table
    ring.write(TABLE, scribble * 2)
    expected = b"".join(ring.read(DATA + 64 * i, n) for i, n in enumerate(reads))
    got = ffi.new("uint8_t[]", 256)
    count = lib.pv_chain_read(ring.chain, offset, got, 256)
    assert bytes(ffi.buffer(got, count)) == expected[offset:]

    message = bytes(range(0x80, 0x100)) * 2
    before = ring.view()
    count = lib.pv_chain_write(ring.chain, offset, message, len(message))
    assert count == max(0, sum(writes) - offset)
    where = [DATA + 64 * (len(reads) + i) + b for i, n in enumerate(writes) for b in range(n)]
    for gpa, byte in zip(where[offset:], message, strict=False):
        before.write(gpa, bytes([byte]))
    assert ring.view().ranges == before.ranges


area_gpas = st.one_of(
    st.sampled_from([LOW, HIGH, HIGH - 16, HIGH - 128, END - 128, END - 16, END - 22, END - 70, 0, U64 - 15]),
    st.integers(LOW, END).map(lambda gpa: gpa & ~15),
    st.integers(LOW, END),
)


@given(
    size=st.one_of(st.sampled_from([0, 1, 2, 3, 8, 256, 512, 0x8000]), st.integers(0, 0xFFFF)),
    maximum=st.sampled_from([0, 1, 8, 256]),
    gpas=st.tuples(area_gpas, area_gpas, area_gpas),
)
@settings(max_examples=max(300, settings().max_examples))
def test_areas(size: int, maximum: int, gpas: tuple[int, int, int]) -> None:
    """VQ-8: sizes, alignment and place of the three areas."""
    ring = Ring(size)
    ring.queue.maximum = maximum
    ring.state.descriptors_gpa, ring.state.driver_gpa, ring.state.device_gpa = gpas
    status = Areas(*gpas).status(GuestMemory(RANGES), size, maximum)
    assert ring.enable() == status
    assert ring.state.enabled == (status == STATUS.OK)


@pytest.mark.parametrize(
    ("area", "size_bytes"), [("descriptors_gpa", 16 * 8), ("driver_gpa", 6 + 2 * 8), ("device_gpa", 6 + 8 * 8)]
)
def test_area_at_the_end(area: str, size_bytes: int) -> None:
    """VQ-8: an area may end where memory ends, and not a step later; used_event and avail_event count."""
    step = {"descriptors_gpa": 16, "driver_gpa": 2, "device_gpa": 4}[area]
    last = (END - size_bytes) // step * step
    for gpa, status in ((last, STATUS.OK), (last + step, STATUS.BAD_ADDRESS)):
        ring = Ring(8)
        setattr(ring.state, area, gpa)
        assert ring.enable() == status


@given(
    start=st.sampled_from([0, 0x7FFA, 0xFFFA]),
    pushed=st.integers(0, 12),
    event=st.integers(-3, 15),
    event_idx=st.booleans(),
    flags=st.integers(0, 3),
)
def test_wants_interrupt(start: int, pushed: int, event: int, event_idx: bool, flags: int) -> None:
    """Told if the entry named by used_event was pushed; without EVENT_IDX if the flag is clear."""
    ring = Ring(16, ALL if event_idx else ALL & ~VIRTIO_FEATURE.EVENT_IDX, start).enabled()
    ring.write(USED + 2, struct.pack("<H", start))
    ring.write(AVAIL, struct.pack("<H", flags))
    ring.write(AVAIL + 4 + 2 * 16, struct.pack("<H", (start + event) & 0xFFFF))
    for n in range(pushed):
        lib.pv_queue_push(ring.queue, n, n + 100)
    wanted = 0 <= event < pushed if event_idx else bool(pushed and not flags & RING_FLAG.AVAIL_NO_INTERRUPT)
    assert lib.pv_queue_wants_interrupt(ring.queue) == wanted
    assert not lib.pv_queue_wants_interrupt(ring.queue)  # asked once, told once
    assert ring.read(USED + 2, 2) == struct.pack("<H", (start + pushed) & 0xFFFF)
    for n in range(pushed):
        assert ring.read(USED + 4 + 8 * ((start + n) % 16), 8) == struct.pack("<II", n, n + 100)


@pytest.mark.parametrize("features", [ALL, ALL & ~VIRTIO_FEATURE.EVENT_IDX], ids=["event_idx", "flags"])
def test_arm(features: int) -> None:
    """Armed, the driver finds its next entry asked for; disarmed, one that is past (or the flag set)."""
    ring = Ring(8, features).enabled()
    ring.describe([data()])
    ring.offer(0)
    assert ring.pop() == 1

    def asks() -> int:
        return int(struct.unpack("<H", ring.read(USED + 4 + 8 * 8, 2) if features == ALL else ring.read(USED, 2))[0])

    assert not lib.pv_queue_arm(ring.queue)
    assert asks() == (1 if features == ALL else 0)
    ring.offer(0)
    assert lib.pv_queue_arm(ring.queue)  # came meanwhile
    lib.pv_queue_disarm(ring.queue)
    assert asks() == (0 if features == ALL else USED_FLAG.NO_NOTIFY)
