"""Binary modules without a guest: what they declare, answer and save; the faulty ones, and what becomes of the host."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hypercall_abi import STATUS
from paravirt._native import ffi, lib
from paravirt.config import ExtensionConfig, MachineConfig
from paravirt.errors import ExtensionError
from paravirt.extensions import Extensions, open_extension
from paravirt.extensions.base import Extension
from paravirt.machine import Machine
from paravirt.memory import GuestMemory
from tests.paravirt.extensions.conftest import Compile
from tests.support.fake_machine import RAM_GPA, FakeMachine

U64 = (1 << 64) - 1
COUNTER, FAULTY = 0x8001 << 16, 0xC00F << 16
CRASH, HANG, GARBAGE, LEAVE, BEYOND, EVENTS, OVERRUN, SLOW, RAISE = (FAULTY | n for n in range(9))
MIB = 1 << 20


class Bench:
    """A machine that never runs, over real guest memory, with one extension attached."""

    def __init__(self, path: Path, options: str, trusted: bool, timeout_ns: int, denied: int) -> None:
        self.fake = FakeMachine()
        self.fake.native.memory.count = 0
        self.memory = GuestMemory(4 * MIB, ffi.addressof(self.fake.native, "memory"))
        self.machine = cast(Machine, SimpleNamespace(native=self.fake.native, memory=self.memory))
        self.kept = ExitStack()
        self.kept.callback(lambda: self.memory.close())
        try:
            self.extension = open_extension(ExtensionConfig(str(path), options, trusted, timeout_ns))
            self.kept.callback(self.extension.close)
            self.extension.attach(self.machine, denied)
        except BaseException:
            self.close()
            raise

    def call(self, number: int, *args: int) -> tuple[int, int]:
        return self.fake.raw(number, *args)

    def close(self) -> None:
        self.kept.close()


@contextmanager
def bench(
    path: Path, options: str = "", *, trusted: bool = False, timeout_ns: int = 300_000_000, denied: int = 0
) -> Iterator[Bench]:
    made = Bench(path, options, trusted, timeout_ns, denied)
    try:
        yield made
    finally:
        made.close()


# AddressSanitizer takes the signal and ends the process by itself.
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
CRASHED = "its process ended with status 1" if SANITIZED else "its process ended by SIGSEGV"

both = pytest.mark.parametrize("trusted", [False, True], ids=["isolated", "trusted"])


@both
def test_calls_memory_and_events(counter: Path, trusted: bool) -> None:
    with bench(counter, "40", trusted=trusted) as b:
        assert b.call(COUNTER, 2, 0, 20) == (STATUS.OK, 42)
        assert b.fake.vcpus[0].page.pending[0] == 1 << 20
        assert b.call(COUNTER, U64, 5, 20) == (STATUS.OK, 41)  # no such vCPU: no event
        assert b.call(COUNTER | 1, RAM_GPA, 64) == (STATUS.OK, 2)
        assert [int.from_bytes(b.memory.read(RAM_GPA + 8 * i, 8), "little") for i in range(2)] == [42, 41]


@both
def test_the_standards_checks_come_first(counter: Path, trusted: bool) -> None:
    """CALL-5, CALL-6, CALL-2: as for any call."""
    with bench(counter, trusted=trusted, denied=0b1) as b:
        assert b.call(COUNTER, 1, 0, 0) == (STATUS.NOT_SUPPORTED, 0)
        assert b.call(COUNTER | 2) == (STATUS.NOT_SUPPORTED, 0)
        assert b.call(COUNTER | 1, RAM_GPA + 1, 65) == (STATUS.LIMIT, 0)
        assert b.call(COUNTER | 1, RAM_GPA + 1, 1) == (STATUS.UNALIGNED, 0)
        assert b.call(COUNTER | 1, 4 * MIB, 1) == (STATUS.BAD_ADDRESS, 0)
        assert b.call(COUNTER | 1, RAM_GPA, 1, 1) == (STATUS.INVALID, 0)


@both
def test_state_moves_to_another_instance(counter: Path, trusted: bool) -> None:
    with bench(counter, trusted=trusted) as one, bench(counter, trusted=not trusted) as other:
        one.call(COUNTER, 7, 9, 0)
        other.extension.load(one.extension.state_version, one.extension.save())
        assert other.call(COUNTER, 1, 9, 0) == (STATUS.OK, 8)
        with pytest.raises(ExtensionError, match="refuses its state of version 2; use the module that saved it"):
            other.extension.load(2, b"")


@both
def test_a_reset_gives_it_the_new_memory(counter: Path, trusted: bool) -> None:
    with bench(counter, "5", trusted=trusted) as b:
        b.call(COUNTER, 1, 9, 0)
        old, fake = b.memory, FakeMachine()
        fake.native.memory.count = 0
        b.fake, b.memory = fake, GuestMemory(4 * MIB, ffi.addressof(fake.native, "memory"))
        b.extension.attach(cast(Machine, SimpleNamespace(native=fake.native, memory=b.memory)), 0)
        old.close()
        assert b.call(COUNTER, 3, 9, 0) == (STATUS.OK, 3)
        assert b.call(COUNTER | 1, RAM_GPA, 8) == (STATUS.OK, 1)
        assert b.memory.read(RAM_GPA, 1) == b"\3"


@pytest.mark.parametrize("late_us", [400_000, 2_000_000])
def test_a_call_that_the_machines_end_cut_short_is_no_failure(faulty: Path, late_us: int) -> None:
    """VND-2 is for modules that failed: after a reset it goes on, unless it does not come back from that call."""
    with bench(faulty, timeout_ns=1_000_000_000) as b:
        b.fake.native.ending = 1
        assert b.call(SLOW, late_us) == (STATUS.FAILED, 0)
        assert b.extension.fault() is None
        b.fake.native.ending, b.fake.native.extension_count = 0, 0
        b.extension.attach(b.machine, 0)
        if late_us < 1_000_000:
            assert b.call(GARBAGE, 1) == (STATUS.CONTINUE, 1)
            assert b.extension.fault() is None
        else:
            assert b.call(GARBAGE, 1) == (STATUS.FAILED, 0)
            assert "it did not answer in time" in (b.extension.fault() or "")


def test_a_process_that_answers_and_does_not_listen() -> None:
    """It cannot hold a vCPU for longer than its time, whatever the socket does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        remote = ffi.new("struct pv_module_remote *")
        lib.pv_module_remote_init(remote, ours.fileno(), 100_000_000)
        vcpu = FakeMachine().vcpus[0]
        args, value = ffi.new("uint64_t[6]"), ffi.new("uint64_t *")
        answer = bytes(ffi.sizeof("struct pv_module_message"))
        for _ in range(10_000):
            theirs.send(answer)
            if lib.pv_module_remote_handler(vcpu, remote, 0, args, value) != STATUS.OK:
                break
        assert remote.failed == lib.PV_MODULE_FAILED_ANSWER
        lib.pv_module_remote_deinit(remote)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (CRASH, CRASHED),
        (OVERRUN, CRASHED),
        (LEAVE, "its process ended with status 0"),
        (HANG, "it did not answer in time"),
        (RAISE, "its process ended by signal 40"),
    ],
)
def test_a_module_that_fails_is_withdrawn(faulty: Path, call: int, why: str) -> None:
    """VND-2: FAILED from then on, whatever is called; the host goes on and can say why."""
    with bench(faulty, timeout_ns=300_000_000 if call == HANG else 30_000_000_000) as b:
        assert b.call(GARBAGE, 0) == (STATUS.OK, 1)
        assert b.extension.fault() is None
        assert b.call(call) == (STATUS.FAILED, 0)
        assert b.call(GARBAGE, 0) == (STATUS.FAILED, 0)
        assert b.call(FAULTY | 31) == (STATUS.NOT_SUPPORTED, 0)
        fault = b.extension.fault()
        assert fault and fault.startswith("the extension 'faulty' failed and was withdrawn: ") and why in fault


@both
@pytest.mark.parametrize("status", [2, 1000, -13, -(1 << 63), (1 << 63) - 1])
def test_a_status_that_is_none_becomes_failed(faulty: Path, trusted: bool, status: int) -> None:
    with bench(faulty, trusted=trusted) as b:
        assert b.call(GARBAGE, status & U64) == (STATUS.FAILED, 0)
        assert b.call(GARBAGE, 0) == (STATUS.OK, 1)


@both
def test_memory_that_is_not_the_guests_is_not_reached(faulty: Path, trusted: bool) -> None:
    with bench(faulty, trusted=trusted) as b:
        assert b.call(BEYOND, RAM_GPA) == (STATUS.OK, 0)


@both
def test_events_are_bounded_and_wrong_ones_ignored(faulty: Path, trusted: bool) -> None:
    with bench(faulty, trusted=trusted) as b:
        assert b.call(EVENTS) == (STATUS.OK, lib.PV_MODULE_EVENTS)
        assert b.fake.vcpus[0].page.pending[0] == 1 << 20


@both
def test_a_module_that_does_not_begin(faulty: Path, trusted: bool) -> None:
    with (
        pytest.raises(ExtensionError, match=r"faulty\.so: it does not begin: its init answers 7"),
        bench(faulty, "7", trusted=trusted),
    ):
        pass


@both
def test_a_state_that_cannot_be(faulty: Path, trusted: bool) -> None:
    with bench(faulty, trusted=trusted) as b, pytest.raises(ExtensionError, match="its maker has to mend it"):
        b.extension.save()


WRONG = {
    1: "a function's name is not",
    2: "more than 6 arguments",
    3: "declares no road, or one that does not exist",
    4: "feature is not one that the module offers",
    5: "another interface than this host's",
    6: "another interface than this host's",
    7: "another version of the ABI",
    8: "another version of the ABI",
    9: "service number is not from 0x8000",
    10: "its name is not",
    11: "no functions, or more than 32",
    12: "no functions, or more than 32",
    13: "lacks init, call or deinit",
    14: "only one of save and load",
    15: "pv_module",
    17: "another interface than this host's",
}


@both
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_module_is_refused(compiled: Compile, faulty: Path, trusted: bool, wrong: int) -> None:
    path = compiled(Path(__file__).with_name("faulty.c"), wrong)
    with pytest.raises(ExtensionError, match=WRONG[wrong]) as refused, bench(path, trusted=trusted):
        pass
    assert str(path) in str(refused.value)


def test_a_module_that_crashes_while_it_is_loaded(compiled: Compile) -> None:
    path = compiled(Path(__file__).with_name("faulty.c"), 16)
    with pytest.raises(ExtensionError, match="its process ended while it was loaded by SIGABRT"), bench(path):
        pass


@both
def test_no_shared_object(tmp_path: Path, trusted: bool) -> None:
    (tmp_path / "text.so").write_text("not ELF")
    for name in ("text.so", "missing.so"):
        with pytest.raises(ExtensionError, match=name), bench(tmp_path / name, trusted=trusted):
            pass


def test_two_of_the_same_number(counter: Path) -> None:
    with bench(counter) as b:
        other: Extension = open_extension(ExtensionConfig(str(counter), trusted=True))
        try:
            with pytest.raises(ExtensionError, match="its service number is taken; see docs/abi/vendors"):
                other.attach(b.machine, 0)
        finally:
            other.close()


def test_two_of_the_same_name(compiled: Compile, faulty: Path) -> None:
    """A module that calls itself console is not what `--deny console` is about."""
    console = compiled(Path(__file__).with_name("faulty.c"), 18)
    for paths in ((console,), (faulty, faulty)):
        with pytest.raises(ExtensionError, match=r"there is another service '(console|faulty)'"):
            Extensions([ExtensionConfig(str(path), trusted=True) for path in paths])


def test_extensions_are_part_of_the_configuration() -> None:
    config = MachineConfig(Path("x"), extensions=[ExtensionConfig("a")], deny=frozenset({"a.call"}))  # type: ignore[arg-type]
    assert config.extensions == (ExtensionConfig("a"),)
