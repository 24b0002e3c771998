"""Services of vendors: declared, checked, negotiated and masked as the standard's own are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi import SERVICES, STATUS
from hypercall_abi.conventions import ROAD, SERVICE_RANGE, SUBMISSION
from hypercall_abi.services.base import SERVICE_INFO
from paravirt._native import ffi, lib
from tests.support.fake_machine import RAM_BYTES, RAM_GPA, FakeMachine

U64 = (1 << 64) - 1
NUMBER = 0x8123
ADD, FILL, RARE, BLOCK = (NUMBER << 16 | function for function in (0, 1, 2, 4))
ALL_ROADS = int(ROAD.TRAP | ROAD.BATCH | ROAD.RING)
WRITE = {"kind": lib.PV_ARGUMENT_WRITE, "align": 8, "unit": 16, "limit": 32}
Answer = Callable[[int, list[int]], tuple[int, int]]


class Extension:
    """A service with a call of two numbers, one with a buffer, one that needs feature 3, none, one by trap alone."""

    def __init__(self, number: int = NUMBER, answer: Answer = lambda _function, args: (STATUS.OK, sum(args) & U64)):
        self.made: list[tuple[int, tuple[int, ...]]] = []
        self.names = [ffi.new("char[]", text) for text in (b"vendor_add", b"vendor_fill", b"vendor_rare", b"v_block")]
        self.calls = ffi.new("struct pv_declaration[5]")
        self.declare(0, arguments=[{}, {}])
        self.declare(1, arguments=[{}, WRITE])
        self.declare(2, feature=3)
        self.declare(4, roads=ROAD.TRAP)

        def call(_vcpu: Any, _opaque: Any, function: int, args: Any, value: Any) -> int:
            self.made.append((function, tuple(args[i] for i in range(6))))
            status, value[0] = answer(function, [args[i] for i in range(6)])
            return status

        self._call = ffi.callback("int64_t(struct pv_vcpu *, void *, uint32_t, const uint64_t *, uint64_t *)", call)
        self.native = ffi.new("struct pv_extension *", {"service": number, "call_count": 5, "offered": 0b1001})
        self.native.calls, self.native.call = self.calls, self._call

    def declare(
        self, function: int, *, roads: int = ALL_ROADS, feature: int = -1, arguments: list[dict[str, int]] | None = None
    ) -> None:
        """Gives `function` a name and what it declares."""
        d = self.calls[function]
        d.name = self.names[min(function, 3)]
        d.roads, d.feature, d.count = roads, feature, len(arguments or [])
        for at, argument in enumerate(arguments or []):
            d.arguments[at] = argument

    def add(self, machine: FakeMachine) -> str | None:
        """What the library finds wrong with it."""
        wrong = lib.pv_extension_add(machine.native, self.native)
        return None if wrong == ffi.NULL else ffi.string(wrong).decode()


def offered(**how: Any) -> tuple[FakeMachine, Extension]:
    machine, extension = FakeMachine(poison=how.pop("poison", False)), Extension(**how)
    assert extension.add(machine) is None
    return machine, extension


def listed(machine: FakeMachine) -> dict[int, Any]:
    status, written = machine.call("base.services", RAM_GPA, 4096)
    assert status == STATUS.OK
    found = [SERVICE_INFO.parse(machine.read(RAM_GPA + at, 24)) for at in range(0, written, SERVICE_INFO.size)]
    assert [r.service for r in found] == sorted(r.service for r in found)  # BASE-4
    return {r.service: r for r in found}


@pytest.mark.parametrize("road", [ROAD.TRAP, ROAD.RING])
def test_a_call_reaches_its_handler(road: int) -> None:
    machine, extension = offered()
    assert machine.raw(ADD, 40, 2, road=road) == (STATUS.OK, 42)
    assert extension.made == [(0, (40, 2, 0, 0, 0, 0))]


def test_a_call_in_a_batch() -> None:
    machine, extension = offered()
    entry = {"call": ADD, "flags": 0, "args": [1, 2, 0, 0, 0, 0], "cookie": 7}
    machine.write(RAM_GPA, SUBMISSION.build(entry))
    assert machine.call("base.batch", RAM_GPA, 1, RAM_GPA + 4096, 1) == (STATUS.OK, 1)
    assert extension.made == [(0, (1, 2, 0, 0, 0, 0))]


@pytest.mark.parametrize(
    ("call", "args", "road", "status"),
    [
        (ADD, [1, 2, 3], ROAD.TRAP, STATUS.INVALID),  # CALL-5
        (BLOCK, [], ROAD.BATCH, STATUS.WRONG_ROAD),  # CALL-4
        (FILL, [0, RAM_GPA + 1, 33], ROAD.TRAP, STATUS.LIMIT),  # CALL-6
        (FILL, [0, RAM_GPA + 1, 1], ROAD.TRAP, STATUS.UNALIGNED),
        (FILL, [0, RAM_GPA + RAM_BYTES - 8, 1], ROAD.TRAP, STATUS.BAD_ADDRESS),
        (FILL, [0, U64 - 7, 1], ROAD.TRAP, STATUS.BAD_ADDRESS),
        (RARE, [], ROAD.TRAP, STATUS.NOT_SUPPORTED),  # CALL-3
    ],
)
def test_declared_checks_come_first(call: int, args: list[int], road: int, status: int) -> None:
    machine, extension = offered()
    assert machine.raw(call, *args, road=road) == (status, 0)
    assert not extension.made


def test_a_buffer_of_length_zero_is_valid() -> None:
    """CALL-7."""
    machine, extension = offered()
    assert machine.raw(FILL, 0, 8, 0)[0] == STATUS.OK
    assert extension.made


@given(st.integers(0, (1 << 32) - 1), st.lists(st.integers(0, U64), max_size=6))
def test_what_is_switched_off_is_as_what_is_not_there(number: int, args: list[int]) -> None:
    """CALL-1, CALL-2: bit for bit, for a machine without the service and one that denies each function."""
    nothing, (denied, extension) = FakeMachine(), offered()
    extension.native.denied = 0xFFFF_FFFF
    for call in (ADD, FILL, RARE, NUMBER << 16 | 3, NUMBER << 16 | 31, NUMBER << 16 | 32, number | 0x8000_0000):
        assert denied.raw(call, *args) == nothing.raw(call, *args) == (STATUS.NOT_SUPPORTED, 0)
    assert not extension.made


def test_it_is_listed_after_the_standards_in_order_of_numbers() -> None:
    machine = FakeMachine()
    kept = [Extension(number) for number in (0xFFFF, NUMBER, 0xC000, SERVICE_RANGE.VENDOR)]
    assert [extension.add(machine) for extension in kept] == [None] * 4
    found = listed(machine)
    assert set(found) == {s.number for s in SERVICES.values()} | {0x8000, NUMBER, 0xC000, 0xFFFF}
    assert (found[NUMBER].calls, found[NUMBER].offered, found[NUMBER].accepted) == (0b10011, 0b1001, 0)
    assert machine.raw(0xC000_0000, 1, 1) == (STATUS.OK, 2)
    assert [len(extension.made) for extension in kept] == [0, 0, 1, 0]


def test_its_features_are_negotiated_and_forgotten() -> None:
    """BASE-2, BASE-3, BASE-8, CALL-3; two services do not see each other's."""
    machine, _extension = offered()
    other = Extension(0x8124)
    assert other.add(machine) is None
    assert machine.call("base.accept", NUMBER, 0b10)[0] == STATUS.INVALID
    assert machine.call("base.accept", NUMBER, 0b1000) == (STATUS.OK, 0b1000)
    assert machine.call("base.accept", NUMBER, 0b1001)[0] == STATUS.BAD_STATE
    assert (listed(machine)[NUMBER].calls, listed(machine)[0x8124].calls) == (0b10111, 0b10011)
    assert machine.raw(RARE)[0] == STATUS.OK
    assert machine.raw(0x8124_0002)[0] == STATUS.NOT_SUPPORTED
    assert machine.call("base.renegotiate")[0] == STATUS.OK
    assert machine.raw(RARE)[0] == STATUS.NOT_SUPPORTED
    for absent in (0x8122, NUMBER | 1 << 16, NUMBER | 1 << 32):
        assert machine.call("base.accept", absent, 0)[0] == STATUS.NOT_FOUND  # BASE-5


@given(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-20, 20))
def test_a_status_that_is_none_becomes_failed(status: int) -> None:
    machine, _extension = offered(answer=lambda _function, _args: (status, 5))
    wanted = status if STATUS.NO_MEMORY <= status <= STATUS.CONTINUE else STATUS.FAILED
    assert machine.raw(ADD) == (wanted, 5 if wanted >= 0 else 0)


def test_the_list_of_statuses_has_no_gap() -> None:
    """What the dispatcher takes for granted where it closes the list."""
    assert sorted(v.number for v in STATUS) == list(range(STATUS.NO_MEMORY, STATUS.CONTINUE + 1))


def test_poison_scrambles_output_beyond_the_value() -> None:
    """CALL-10, CALL-11."""
    machine, _extension = offered(poison=True, answer=lambda _function, _args: (STATUS.OK, 3))
    machine.write(RAM_GPA, bytes(1024))
    assert machine.raw(FILL, 0, RAM_GPA, 32) == (STATUS.OK, 3)
    assert machine.read(RAM_GPA, 48) == bytes(48)
    assert len(set(machine.read(RAM_GPA + 48, 464))) > 64
    assert machine.read(RAM_GPA + 512, 512) == bytes(512)


def test_a_call_is_traced() -> None:
    machine, _extension = offered()
    track = ffi.new("struct pv_trace *")
    events = ffi.new("struct pv_trace_event[4]")
    track.events, track.size = events, 4
    machine.vcpus[0].trace = track
    machine.raw(ADD, 1, 2)
    taken = ffi.new("struct pv_trace_event[4]")
    assert lib.pv_trace_take(track, taken, 4) == 1
    assert (taken[0].id, taken[0].status, taken[0].value) == (ADD, STATUS.OK, 3)


BAD: list[tuple[Callable[[Extension], object], str]] = [
    (lambda e: setattr(e.native, "service", 0x7FFF), "service number is not"),
    (lambda e: setattr(e.native, "service", 0x10000), "service number is not"),
    (lambda e: setattr(e.native, "call_count", 33), "more than 32"),
    (lambda e: setattr(e.native, "calls", ffi.NULL), "no calls"),
    (lambda e: setattr(e.native, "call", ffi.NULL), "no handler"),
    (lambda e: e.declare(0, roads=0), "no road"),
    (lambda e: e.declare(0, roads=8), "no road"),
    (lambda e: e.declare(0, feature=64), "feature"),
    (lambda e: setattr(e.calls[0], "count", 7), "more than 6 arguments"),
    (lambda e: e.declare(0, arguments=[WRITE] * 4), "more than 6 registers"),
    (lambda e: e.declare(0, arguments=[{"kind": 3}]), "kind"),
    (lambda e: e.declare(0, arguments=[WRITE | {"align": 24}]), "power of two"),
    (lambda e: e.declare(0, arguments=[WRITE | {"align": 0}]), "power of two"),
    (lambda e: e.declare(0, arguments=[WRITE | {"unit": 0}]), "no unit"),
    (lambda e: e.declare(0, arguments=[WRITE | {"limit": U64}]), "2^64"),
    (lambda e: e.declare(0, arguments=[WRITE | {"fixed": 1}]), "is a record"),
]


@pytest.mark.parametrize(("spoil", "word"), BAD, ids=[f"{word}-{n}" for n, (_, word) in enumerate(BAD)])
def test_a_bad_declaration_is_refused(spoil: Callable[[Extension], object], word: str) -> None:
    machine, extension = FakeMachine(), Extension()
    spoil(extension)
    assert word in (extension.add(machine) or "")
    assert machine.raw(ADD)[0] == STATUS.NOT_SUPPORTED


def test_a_number_is_given_once_and_there_is_an_end() -> None:
    machine = FakeMachine()
    kept = [Extension(0x8000 + n) for n in range(lib.PV_MAX_EXTENSIONS)]
    assert [e.add(machine) for e in kept] == [None] * len(kept)
    assert Extension(0x8003).add(machine) == "its service number is taken"
    assert Extension(0x9000).add(machine) == "there are 16 others already"
    assert len(listed(machine)) == len(SERVICES) + len(kept)
