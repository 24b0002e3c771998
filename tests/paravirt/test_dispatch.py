"""Calls × argument classes on a machine without KVM: the error model is total and has one order (CALL-6)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi import LIMITS, SERVICES, STATUS, VERSION
from hypercall_abi.conventions import COMPLETION, ROAD, SUBMISSION, answers
from hypercall_abi.schema import Arg, Buffer, Call, Service
from hypercall_abi.services.base import SERVICE_INFO
from paravirt._native import ffi, lib
from tests.support.fake_machine import PAGES_GPA, RAM_BYTES, RAM_GPA, FakeMachine

CALLS = [(s, c) for s in SERVICES.values() for c in s.calls]
EXISTING = [(s, c) for s, c in CALLS if not c.feature]
ROADS = (ROAD.TRAP, ROAD.BATCH, ROAD.RING)
END = RAM_GPA + RAM_BYTES
U64 = (1 << 64) - 1
OFF_LIMITS = {"vcpu.block"}  # would wait for ever

addresses = st.one_of(
    st.sampled_from(
        [0, 1, RAM_GPA, RAM_GPA + 1, RAM_GPA + 8, RAM_GPA + 64, END - 64, END - 1, END, U64, U64 - 63, 1 << 63]
    ),
    st.integers(RAM_GPA, END - 8192).map(lambda a: a & ~63),
    st.integers(0, U64),
)
numbers = st.one_of(st.sampled_from([0, 1, 2, 7, 15, 16, 255, 256, 257, 4096, 4097, 1 << 32, U64]), st.integers(0, U64))


def identify(pair: tuple[Service, Call]) -> str:
    return f"{pair[0].name}.{pair[1].name}"


def in_ram(gpa: int, size_bytes: int) -> bool:
    return RAM_GPA <= gpa and gpa + size_bytes <= END


def expected(call: Call, road: int, args: list[int]) -> int | None:
    """The status that CALL-6 gives, None where it is the call's own affair."""
    if not call.roads & road:
        return STATUS.WRONG_ROAD
    if any(args[len(call.registers) :]):
        return STATUS.INVALID
    at = 0
    for arg in call.args:
        if isinstance(arg, Arg):
            at += 1
            continue
        gpa, length = args[at], 1 if arg.fixed else args[at + 1]
        at += 1 if arg.fixed else 2
        if length > (1 if arg.fixed else arg.limit.number if arg.limit else U64):
            return STATUS.LIMIT
        if gpa % arg.align:
            return STATUS.UNALIGNED
        if length and not in_ram(gpa, length * arg.entry_bytes):
            return STATUS.BAD_ADDRESS
    return None


@st.composite
def calls(draw: st.DrawFn) -> tuple[Service, Call, int, list[int]]:
    service, call = draw(st.sampled_from([p for p in EXISTING if identify(p) not in OFF_LIMITS]))
    args: list[int] = []
    for arg in call.args:
        args.append(draw(addresses if isinstance(arg, Buffer) else numbers))
        if isinstance(arg, Buffer) and not arg.fixed:
            args.append(draw(st.one_of(st.integers(0, 8), numbers)))
    extra = draw(st.sampled_from([0, 0, 0, 1, U64]))
    rest = [0] * (6 - len(args))
    if rest:
        rest[draw(st.integers(0, len(rest) - 1))] = extra
    return service, call, draw(st.sampled_from(ROADS)), args + rest


@given(calls(), st.booleans())
def test_declared_checks_come_first_and_in_order(made: tuple[Service, Call, int, list[int]], poison: bool) -> None:
    """CALL-4, CALL-5, CALL-6, CALL-12."""
    service, call, road, args = made
    machine = FakeMachine(poison=poison)
    before = machine.read(RAM_GPA, RAM_BYTES)
    status, _ = machine.raw(service.id(call), *args, road=road)
    wanted = expected(call, road, args)
    if wanted is not None:
        assert status == wanted
        assert not machine.passed_on
        after = machine.read(RAM_GPA, RAM_BYTES)
        calls_word = struct.calcsize("<IIQQQQQQQQQQ")  # vcpu_page.calls
        page = 0x10_0000 - 63 * 4096
        assert after[:page] == before[:page], "a refused call touched memory"
        assert after[page + calls_word + 8 :] == before[page + calls_word + 8 :]
    else:
        assert STATUS.name_of(status) in (*answers(call), "OK"), "a status that its table does not list"


@pytest.mark.parametrize("pair", [pair for pair in CALLS if pair[0].optional], ids=identify)
def test_a_masked_call_answers_as_one_that_does_not_exist(pair: tuple[Service, Call]) -> None:
    """CALL-1, CALL-2, CALL-3: compared bit for bit, also with bad arguments."""
    service, call = pair
    denied = FakeMachine(deny=1 << service.number)
    for args in ([0] * 6, [U64] * 6, [1] * 6):
        nothing = denied.raw(0x3FFF0000, *args)
        assert denied.raw(service.id(call), *args) == nothing == (STATUS.NOT_SUPPORTED, 0)
    by_mask = FakeMachine()
    by_mask.native.denied[service.number] = 1 << call.number
    assert by_mask.raw(service.id(call)) == (STATUS.NOT_SUPPORTED, 0)


@pytest.mark.parametrize("pair", [p for p in CALLS if p[1].feature], ids=identify)
def test_a_call_without_its_feature_does_not_exist(pair: tuple[Service, Call]) -> None:
    """CALL-3."""
    service, call = pair
    machine = FakeMachine()
    assert machine.raw(service.id(call))[0] == STATUS.NOT_SUPPORTED
    feature = getattr(service.features, str(call.feature))
    machine.native.offered[service.number] = feature
    assert machine.call("base.accept", service.number, feature) == (STATUS.OK, feature)
    assert machine.raw(service.id(call))[0] != STATUS.NOT_SUPPORTED


@given(st.integers(0, (1 << 32) - 1))
def test_unknown_ids_are_not_supported(number: int) -> None:
    """CALL-1."""
    known = {s.id(c) for s, c in EXISTING}
    if number not in known:
        assert FakeMachine().raw(number) == (STATUS.NOT_SUPPORTED, 0)


def test_the_table_in_c_is_the_declaration() -> None:
    number, roads, registers = (ffi.new("uint32_t *") for _ in range(3))
    listed = {}
    n = 0
    while lib.pv_call_declared(n, number, roads, registers):
        listed[number[0]] = (roads[0], registers[0])
        n += 1
    assert listed == {s.id(c): (c.roads, len(c.registers)) for s, c in CALLS}


def test_version() -> None:
    """BASE-1."""
    assert FakeMachine().call("base.version") == (STATUS.OK, VERSION[0] << 32 | VERSION[1])


def test_services_lists_whole_records() -> None:
    """BASE-4."""
    machine = FakeMachine(deny=1 << SERVICES["time"].number)
    status, written = machine.call("base.services", RAM_GPA, 4096)
    assert (status, written % SERVICE_INFO.size) == (STATUS.OK, 0)
    records = [
        SERVICE_INFO.parse(machine.read(RAM_GPA + at, SERVICE_INFO.size)) for at in range(0, written, SERVICE_INFO.size)
    ]
    assert [r.service for r in records] == [s.number for s in SERVICES.values() if s.name != "time"]
    for r in records:
        service = next(s for s in SERVICES.values() if s.number == r.service)
        assert r.calls == sum(1 << c.number for c in service.calls if not c.feature)
    assert machine.call("base.services", RAM_GPA, SERVICE_INFO.size * 2 - 1) == (STATUS.OK, SERVICE_INFO.size)
    assert machine.call("base.services", RAM_GPA, 0) == (STATUS.OK, 0)


def test_a_service_that_is_not_offered_is_nowhere() -> None:
    """BASE-5, CALL-2: neither listed nor to be agreed on, as one that was never declared."""
    time, undeclared = SERVICES["time"].number, max(s.number for s in SERVICES.values()) + 1
    machine = FakeMachine(deny=1 << time)
    _, written = machine.call("base.services", RAM_GPA, 4096)
    listed = machine.read(RAM_GPA, written)
    numbers = {SERVICE_INFO.parse(listed[at:]).service for at in range(0, written, SERVICE_INFO.size)}
    assert time not in numbers
    for features in (0, 1, U64):
        for number in (time, undeclared, time | 1 << 16, time | 1 << 32, U64):
            assert machine.call("base.accept", number, features) == (STATUS.NOT_FOUND, 0)


def test_features_are_offered_accepted_confirmed() -> None:
    """BASE-2, BASE-3."""
    machine = FakeMachine()
    number = SERVICES["memory"].number
    machine.native.offered[number] = 3
    assert machine.call("base.accept", number, 4)[0] == STATUS.INVALID
    assert machine.call("base.accept", number, 1) == (STATUS.OK, 1)
    assert machine.call("base.accept", number, 1) == (STATUS.OK, 1)
    assert machine.call("base.accept", number, 3)[0] == STATUS.BAD_STATE
    assert machine.call("base.accept", 99, 0)[0] == STATUS.NOT_FOUND
    assert machine.call("memory.target")[0] == STATUS.OK


def test_renegotiation_begins_anew() -> None:
    """BASE-8."""
    machine = FakeMachine()
    number = SERVICES["memory"].number
    machine.native.offered[number] = 3
    assert machine.call("base.accept", number, 1) == (STATUS.OK, 1)
    assert machine.call("base.renegotiate") == (STATUS.OK, 0)
    assert machine.call("memory.target")[0] == STATUS.NOT_SUPPORTED
    assert machine.call("base.accept", number, 2) == (STATUS.OK, 2)
    assert machine.call("memory.target")[0] == STATUS.NOT_SUPPORTED
    assert machine.call("memory.report", 0, 0)[0] == STATUS.OK


def test_limits_are_the_declared_ones() -> None:
    """BASE-6, to the number."""
    machine = FakeMachine()
    given_by_host = [machine.call("base.limit", n) for n in range(len(LIMITS))]
    assert given_by_host == [(STATUS.OK, limit.number) for limit in LIMITS.values()]
    assert machine.call("base.limit", len(LIMITS))[0] == STATUS.NOT_FOUND


def test_boot_info_is_cut_to_the_room_there_is() -> None:
    machine = FakeMachine()
    assert machine.call("base.boot_info", RAM_GPA, 4096) == (STATUS.OK, 200)
    assert machine.read(RAM_GPA, 201) == bytes(range(200)) + b"\0"
    assert machine.call("base.boot_info", RAM_GPA + 4096, 8) == (STATUS.OK, 8)
    assert machine.read(RAM_GPA + 4096, 9) == bytes(range(8)) + b"\0"


def batch(machine: FakeMachine, *entries: tuple[int, list[int], int]) -> tuple[int, int, list[tuple[int, int, int]]]:
    """Makes a batch of (call, args, flags); status, calls done, completions as (cookie, status, value)."""
    for i, (call, args, flags) in enumerate(entries):
        data = SUBMISSION.build({"call": call, "flags": flags, "args": args, "cookie": 100 + i})
        machine.write(RAM_GPA + i * SUBMISSION.size, data)
    to = RAM_GPA + 0x8000
    status, count = machine.batch(len(entries), RAM_GPA, to)
    done = [COMPLETION.parse(machine.read(to + i * COMPLETION.size, COMPLETION.size)) for i in range(count)]
    return status, count, [(c.cookie, c.status, c.value) for c in done]


def test_a_batch_is_carried_out_in_order() -> None:
    """BATCH-2, BATCH-3, and no batch within a batch (CALL-4)."""
    machine = FakeMachine()
    version = SERVICES["base"].id("version")
    status, value, done = batch(
        machine,
        (version, [0] * 6, 0),
        (version, [0] * 6, 1),
        (0xFFFF0001, [0] * 6, 0),
        (SERVICES["base"].id("batch"), [0] * 6, 0),
        (SERVICES["event"].id("send"), [0, 20, 0, 0, 0, 0], 0),
    )
    assert (status, value) == (STATUS.OK, 5)
    assert [d[0] for d in done] == [100, 101, 102, 103, 104]
    assert [d[1] for d in done] == [STATUS.OK, STATUS.INVALID, STATUS.NOT_SUPPORTED, STATUS.WRONG_ROAD, STATUS.OK]
    assert done[0][2] == VERSION[0] << 32 | VERSION[1]
    assert machine.vcpus[0].page.pending[0] == 1 << 20


def test_counts_of_a_batch_are_equal() -> None:
    """BATCH-1."""
    assert FakeMachine().call("base.batch", RAM_GPA, 2, RAM_GPA + 4096, 1)[0] == STATUS.INVALID


@given(calls().filter(lambda made: made[1].roads & ROAD.BATCH and made[0].name != "entropy"))
def test_trap_and_batch_give_the_same(made: tuple[Service, Call, int, list[int]]) -> None:
    """Equal status, value and memory, from equal memory, over either road; entropy is random by nature."""
    service, call, _, args = made
    by_trap, by_batch = FakeMachine(), FakeMachine()
    number = service.id(call)
    by_trap.write(RAM_GPA, SUBMISSION.build({"call": number, "flags": 0, "args": args, "cookie": 100}))
    one = by_trap.raw(number, *args)
    _, _, done = batch(by_batch, (number, args, 0))
    assert done == [(100, *one)]
    completion = slice(0x8000, 0x8000 + COMPLETION.size)
    images = [bytearray(m.read(RAM_GPA, PAGES_GPA - RAM_GPA)) for m in (by_trap, by_batch)]
    for image in images:
        image[completion] = bytes(COMPLETION.size)
    assert images[0] == images[1]
    assert by_trap.passed_on == by_batch.passed_on


def test_poison_scrambles_what_is_undefined_and_nothing_else() -> None:
    """CALL-10, CALL-11."""
    machine = FakeMachine(poison=True)
    machine.write(RAM_GPA, bytes(1024))
    assert machine.call("base.boot_info", RAM_GPA, 512) == (STATUS.OK, 200)
    assert machine.read(RAM_GPA, 200) == bytes(range(200))
    tail = machine.read(RAM_GPA + 200, 312)
    assert len(set(tail)) > 64, "the rest of the buffer should be noise"
    assert machine.read(RAM_GPA + 512, 512) == bytes(512)
    values = {machine.call("base.limit", 10_000)[1] for _ in range(4)}
    assert len(values) == 4, "the value of a failed call should be noise"


def test_statistics_count_calls() -> None:
    machine = FakeMachine()
    for _ in range(3):
        machine.call("base.version")
    machine.raw(0xFFFF0000)
    assert machine.vcpus[0].page.calls == machine.vcpus[0].calls == 4
