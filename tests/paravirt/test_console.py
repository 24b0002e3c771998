"""Service console without a machine that runs: all or nothing, the budget, input that waits."""

from __future__ import annotations

import pytest

from hypercall_abi import STATUS
from paravirt._native import ffi, lib
from tests.support.fake_machine import RAM_GPA, FakeMachine


@pytest.mark.parametrize("size_bytes", [0, 1, 4095, 4096])
def test_output_is_taken_whole(size_bytes: int) -> None:
    """CON-1."""
    machine = FakeMachine()
    text = bytes(n % 251 for n in range(size_bytes))
    machine.write(RAM_GPA, text)
    assert machine.call("console.write", RAM_GPA, size_bytes) == (STATUS.OK, size_bytes)
    assert machine.said == text
    assert machine.native.state.console_bytes == size_bytes


def test_output_beyond_the_budget_is_refused() -> None:
    """CON-1, CON-2: what fits goes on; the other console spends of the same."""
    machine = FakeMachine()
    machine.native.console_budget = 10
    machine.write(RAM_GPA, b"0123456789")
    assert machine.call("console.write", RAM_GPA, 8) == (STATUS.OK, 8)
    assert machine.call("console.write", RAM_GPA, 3) == (STATUS.QUOTA, 0)
    assert lib.pv_console_spend(machine.native, 1)
    assert machine.call("console.write", RAM_GPA, 2) == (STATUS.QUOTA, 0)
    assert not lib.pv_console_spend(machine.native, (1 << 64) - 1)
    assert machine.call("console.write", RAM_GPA, 1) == (STATUS.OK, 1)
    assert machine.said == b"012345670"
    assert machine.call("console.write", RAM_GPA, 0) == (STATUS.OK, 0)


def test_output_that_the_host_cannot_take_costs_nothing() -> None:
    """CALL-10."""
    machine = FakeMachine()
    refuse = ffi.callback("int64_t(struct pv_machine *, const uint8_t *, uint64_t)", lambda *_: STATUS.IO)
    machine.native.ops.console_write = refuse
    assert machine.call("console.write", RAM_GPA, 8) == (STATUS.IO, 0)
    assert machine.native.state.console_bytes == 0


def test_input_that_waits() -> None:
    """CON-3."""
    machine = FakeMachine()
    machine.input = b"hello"
    machine.write(RAM_GPA, b"........")
    assert machine.call("console.read", RAM_GPA, 0) == (STATUS.OK, 0)
    assert machine.call("console.read", RAM_GPA, 3) == (STATUS.OK, 3)
    assert machine.call("console.read", RAM_GPA + 3, 5) == (STATUS.OK, 2)
    assert machine.call("console.read", RAM_GPA, 5) == (STATUS.OK, 0)
    assert machine.read(RAM_GPA, 8) == b"hello..."


def test_a_machine_without_a_console() -> None:
    machine = FakeMachine()
    machine.native.ops.console_write = machine.native.ops.console_read = ffi.NULL
    assert machine.call("console.write", RAM_GPA, 4) == (STATUS.OK, 4)
    assert machine.call("console.read", RAM_GPA, 4) == (STATUS.OK, 0)
