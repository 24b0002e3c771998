"""The 16550A: registers as its data sheet has them, an interrupt for each cause, text and input of the console."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from paravirt._native import ffi, lib
from tests.support.fake_machine import FakeMachine

DATA, INTERRUPTS, IDENTIFICATION, LINE_CONTROL, MODEM_CONTROL, LINE_STATUS, MODEM_STATUS, SCRATCH = range(8)
OUT2, LOOP = 0x08, 0x10
NONE, SENT, RECEIVED = 1, 2, 4


class Port:
    """A serial port of a machine without KVM."""

    def __init__(self) -> None:
        self.machine = FakeMachine(1)
        self.machine.native.console_budget = 1000
        self.native = ffi.new("struct pv_serial *")
        assert lib.pv_serial_init(self.native, self.machine.native) == 0

    def read(self, register: int) -> int:
        return int(lib.pv_serial_read(self.native, register))

    def write(self, register: int, value: int) -> None:
        lib.pv_serial_write(self.native, register, value)

    def interrupted(self) -> bool:
        """Whether the line was raised since this was last asked."""
        return self._signalled(self.native.interrupt_fd)

    def wanting(self) -> bool:
        """The same of the wish for input."""
        return self._signalled(self.native.wanted_fd)

    def _signalled(self, fd: int) -> bool:
        try:
            return os.eventfd_read(fd) > 0
        except BlockingIOError:
            return False


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    yield made
    lib.pv_serial_deinit(made.native)


def test_lines_go_to_the_console_whole(port: Port) -> None:
    for byte in b"one\ntw":
        port.write(DATA, byte)
        assert port.read(LINE_STATUS) == 0x60, "what is sent is sent at once"
    assert port.machine.said == b"one\n"
    assert select.select([port.native.flush_fd], [], [], 10)[0], "a line that does not end is due, too"
    lib.pv_serial_flush(port.native)
    assert port.machine.said == b"one\ntw"


def test_a_long_line_does_not_wait_for_its_end(port: Port) -> None:
    for _ in range(300):
        port.write(DATA, ord("x"))
    assert len(port.machine.said) == lib.PV_SERIAL_LINE_BYTES


def test_output_beyond_the_budget_is_lost(port: Port) -> None:
    """CON-2."""
    for _ in range(40):
        for byte in b"thirty bytes and a line feed \n":
            port.write(DATA, byte)
    assert len(port.machine.said) == 990


def test_the_divisor_hides_data_and_interrupts(port: Port) -> None:
    port.write(LINE_CONTROL, 0x83)
    port.write(DATA, 0x34)
    port.write(INTERRUPTS, 0x12)
    assert (port.read(DATA), port.read(INTERRUPTS)) == (0x34, 0x12)
    port.write(LINE_CONTROL, 0x03)
    assert (port.read(INTERRUPTS), port.read(LINE_CONTROL)) == (0, 3)
    assert port.machine.said == b""


def test_the_transmitter_tells_once_that_it_is_empty(port: Port) -> None:
    port.write(MODEM_CONTROL, OUT2)
    port.write(INTERRUPTS, 2)
    assert port.interrupted()
    assert port.read(IDENTIFICATION) == SENT
    assert port.read(IDENTIFICATION) == NONE, "who was told knows"
    assert not port.interrupted()
    port.write(DATA, ord("x"))
    assert port.interrupted()
    assert port.read(IDENTIFICATION) == SENT


def test_no_interrupt_leaves_the_chip_without_out2(port: Port) -> None:
    port.write(INTERRUPTS, 2)
    assert port.read(IDENTIFICATION) == SENT
    assert not port.interrupted()


def test_input_is_asked_for_and_comes_with_an_interrupt(port: Port) -> None:
    port.write(MODEM_CONTROL, OUT2)
    port.write(IDENTIFICATION, 0x01)  # the FIFO
    port.write(INTERRUPTS, 1)
    assert port.wanting()
    port.read(LINE_STATUS)
    assert not port.wanting(), "once is enough"
    port.machine.input = bytes(range(20))
    assert lib.pv_serial_receive(port.native)
    assert port.interrupted()
    assert port.read(IDENTIFICATION) == RECEIVED | 0xC0
    assert port.read(LINE_STATUS) & 1
    assert [port.read(DATA) for _ in range(16)] == list(range(16))
    assert port.wanting(), "there is room again"
    assert not port.read(LINE_STATUS) & 1
    assert lib.pv_serial_receive(port.native)
    assert lib.pv_serial_receive(port.native), "it wants no more before it has read that"
    assert [port.read(DATA) for _ in range(5)] == [16, 17, 18, 19, 0]
    assert not lib.pv_serial_receive(port.native), "that was all"


@pytest.mark.parametrize(("register", "value"), [(INTERRUPTS, 0), (MODEM_CONTROL, LOOP)])
def test_input_that_is_not_wanted_any_more_is_left_to_others(port: Port, register: int, value: int) -> None:
    port.write(INTERRUPTS, 1)
    assert port.wanting()
    port.write(register, value)
    port.machine.input = b"for others"
    assert lib.pv_serial_receive(port.native)
    assert port.machine.input == b"for others"
    assert not port.wanting()
    port.write(MODEM_CONTROL, OUT2)
    port.write(INTERRUPTS, 1)
    assert port.wanting()
    assert lib.pv_serial_receive(port.native)
    assert port.read(DATA) == ord("f")


def test_input_is_not_waited_for_while_there_is_no_room(port: Port) -> None:
    """A guest that fills the FIFO itself while it waits does not keep the host looking."""
    port.write(MODEM_CONTROL, OUT2)
    port.write(INTERRUPTS, 1)
    assert port.wanting()
    port.write(MODEM_CONTROL, LOOP)
    port.write(DATA, ord("x"))
    port.write(MODEM_CONTROL, OUT2)
    port.machine.input = b"y"
    assert lib.pv_serial_receive(port.native), "nothing fits"
    assert port.read(DATA) == ord("x")
    assert port.wanting()
    assert lib.pv_serial_receive(port.native)
    assert port.read(DATA) == ord("y")


def test_who_polls_gets_input_by_asking(port: Port) -> None:
    port.machine.input = b"ab"
    assert port.read(LINE_STATUS) & 1
    assert port.read(DATA) == ord("a"), "without the FIFO it is one at a time"


def test_in_a_loop_all_comes_back(port: Port) -> None:
    """How drivers find out what they have."""
    port.write(MODEM_CONTROL, LOOP | 0x0A)
    assert port.read(MODEM_STATUS) & 0xF0 == 0x90
    port.write(DATA, 0x5A)
    assert port.read(DATA) == 0x5A
    lib.pv_serial_flush(port.native)
    assert port.machine.said == b""
    port.write(MODEM_CONTROL, 0)
    assert port.read(MODEM_STATUS) == 0xB0


def test_clearing_the_fifo_forgets_what_came(port: Port) -> None:
    port.write(IDENTIFICATION, 1)
    port.write(INTERRUPTS, 1)
    port.machine.input = b"abc"
    lib.pv_serial_receive(port.native)
    port.write(IDENTIFICATION, 3)
    assert port.read(DATA) == 0
    port.write(SCRATCH, 0xA5)
    assert port.read(SCRATCH) == 0xA5
