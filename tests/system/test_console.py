"""Console input that a guest is told of (CON-4)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from paravirt import Machine, MachineConfig
from tests.support.built import GUESTS
from tests.support.told import Told

pytestmark = [pytest.mark.kvm]

IMAGE = GUESTS / "input.elf"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """To be read, and to be written."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_each_input_is_told(pipe: tuple[int, int]) -> None:
    """What came before the guest listened, what comes while it waits, and what is more than it has room for."""
    told = Told()
    os.write(pipe[1], b"early;")
    with Machine(MachineConfig(IMAGE, console=told, console_input=pipe[0], timeout_s=60)) as machine:
        machine.start()
        told.wait(b"early;")
        for word in (
            b"first;",
            b"second;",
            b"a third that is longer than the guest's room;",
            b"16 bytes exactly",
            b".",
        ):
            os.write(pipe[1], word)
            told.wait(word)
        assert machine.wait().status == 0


def test_the_end_of_the_input_is_told_once(pipe: tuple[int, int]) -> None:
    """The guest finds nothing and waits for good; the machine ends all the same, and another life can listen."""
    told = Told()
    reading, writing = os.dup(pipe[0]), os.dup(pipe[1])
    try:
        with Machine(MachineConfig(IMAGE, console=told, console_input=reading)) as machine:
            machine.start()
            told.wait(b"listens")
            os.write(writing, b"word")
            told.wait(b"word")
    finally:
        os.close(reading)
        os.close(writing)


def test_a_guest_that_is_given_all_at_once() -> None:
    told = Told()
    with Machine(MachineConfig(IMAGE, console=told, console_input=b"all that there is.", timeout_s=60)) as machine:
        assert machine.run().status == 0
    assert b"all that there is." in told.text
