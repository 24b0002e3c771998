"""Batches against guests that change what was read, and against the clock (BATCH-4, BATCH-5)."""

from __future__ import annotations

import time
from typing import Any

from hypercall_abi import SERVICES, STATUS, VERSION
from hypercall_abi.conventions import COMPLETION, SUBMISSION
from paravirt._native import ffi
from tests.support.fake_machine import RAM_GPA, FakeMachine

VERSION_ID = SERVICES["base"].id("version")
SEND_ID = SERVICES["event"].id("send")
WRITE_ID = SERVICES["console"].id("write")
COMPLETIONS_GPA = RAM_GPA + 0x8000


def put(machine: FakeMachine, *entries: tuple[int, list[int], int]) -> int:
    """Submissions of (call, arguments, cookie) at RAM_GPA; how many."""
    for i, (call, args, cookie) in enumerate(entries):
        record = {"call": call, "flags": 0, "args": (args + [0] * 6)[:6], "cookie": cookie}
        machine.write(RAM_GPA + i * SUBMISSION.size, SUBMISSION.build(record))
    return len(entries)


def completions(machine: FakeMachine, gpa: int, count: int) -> list[tuple[int, int, int]]:
    done = [COMPLETION.parse(machine.read(gpa + i * COMPLETION.size, COMPLETION.size)) for i in range(count)]
    return [(c.cookie, c.status, c.value) for c in done]


def test_a_submission_is_read_when_its_turn_comes_and_not_again() -> None:
    """BATCH-4: completions fall upon the second submission, the first before it is read, the second after."""
    machine = FakeMachine()
    # cookie, status 0, value 0 of the first: what was a call that nobody knows is base.version when it is read
    count = put(machine, (SEND_ID, [0, 20], VERSION_ID), (0xFFFF_0001, [], 77))
    onto = RAM_GPA + SUBMISSION.size
    assert machine.batch(count, RAM_GPA, onto) == (STATUS.OK, 2)
    version = VERSION[0] << 32 | VERSION[1]
    assert completions(machine, onto, 2) == [(VERSION_ID, STATUS.OK, 0), (77, STATUS.OK, version)]


def test_a_batch_that_takes_long_goes_on_later() -> None:
    """BATCH-5: at least one entry, no further one once BATCH_NS have passed, and the rest on the next call."""
    machine = FakeMachine()

    def slow(_machine: Any, _text: Any, _size_bytes: int) -> int:
        time.sleep(0.002)
        return STATUS.OK

    callback = ffi.callback("int64_t(struct pv_machine *, const uint8_t *, uint64_t)", slow)
    machine.native.ops.console_write = callback
    count = put(machine, *((WRITE_ID, [RAM_GPA, 1], n) for n in range(3)))
    for at in range(count):
        answer = machine.call(
            "base.batch",
            RAM_GPA + at * SUBMISSION.size,
            count - at,
            COMPLETIONS_GPA + at * COMPLETION.size,
            count - at,
        )
        assert answer == (STATUS.CONTINUE if at < count - 1 else STATUS.OK, 1)
    assert completions(machine, COMPLETIONS_GPA, count) == [(n, STATUS.OK, 1) for n in range(3)]


def test_a_batch_lets_go_of_a_vcpu_that_is_wanted() -> None:
    """BATCH-5: so that no batch delays the end of a machine; what is not done has no completion."""
    machine = FakeMachine()
    machine.vcpus[0].stop = 1
    count = put(machine, *((VERSION_ID, [], n) for n in range(3)))
    assert machine.call("base.batch", RAM_GPA, count, COMPLETIONS_GPA, count) == (STATUS.CONTINUE, 1)
    assert machine.read(COMPLETIONS_GPA + COMPLETION.size, COMPLETION.size) == bytes(COMPLETION.size)
    assert machine.call("base.batch", RAM_GPA, 1, COMPLETIONS_GPA, 1) == (STATUS.OK, 1)
