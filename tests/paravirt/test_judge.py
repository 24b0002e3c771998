"""The judge can fail: hosts that break one rule each, and the guests of `test_model.py` find every one."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from hypercall_abi import SERVICES, STATUS
from hypercall_abi.model import Disagreement, GuestMemory
from hypercall_abi.services.event import VCPU_PAGE
from paravirt._native import ffi, lib
from tests.paravirt.test_model import Guests
from tests.support.fake_machine import PAGE, PAGES_GPA, RAM_GPA
from tests.support.served_machine import ServedMachine

FINDS = settings(
    max_examples=400,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
Answered = tuple[int, int]
RAW = ServedMachine.raw
COPY = ServedMachine.copy
PASS_TIME = ServedMachine.pass_time
ID = {f"{s.name}.{c.name}": s.id(c) for s in SERVICES.values() for c in s.calls}


def answers(change: Callable[[ServedMachine, int, tuple[int, ...], Answered], Answered]) -> dict[str, Any]:
    """A host that changes what it answers, or does a thing more, after each call."""

    def raw(self: ServedMachine, number: int, *args: int, vcpu: int = 0, road: int = 1) -> Answered:
        return change(self, number, args, RAW(self, number, *args, vcpu=vcpu, road=road))

    return {"raw": raw}


def instead(wrong: dict[str, str]) -> dict[str, Any]:
    """A host that answers another status."""
    numbers = {getattr(STATUS, a): getattr(STATUS, b) for a, b in wrong.items()}
    return answers(lambda _host, _number, _args, got: (numbers.get(got[0], got[0]), got[1]))


def beyond(host: ServedMachine, number: int, args: tuple[int, ...], got: Answered) -> Answered:
    if number == ID["base.boot_info"] and got[0] == STATUS.OK and got[1]:
        host.write(args[0] + args[1], b"\x5a")
    return got


def after_refusal(host: ServedMachine, _number: int, _args: tuple[int, ...], got: Answered) -> Answered:
    if got[0] == STATUS.INVALID:
        host.write(RAM_GPA + 0x7_0000, b"\x01")
    return got


def early(self: ServedMachine, now_ns: int) -> None:
    PASS_TIME(self, now_ns)
    PASS_TIME(self, now_ns + 10**9)
    self.native.time.base_ns = now_ns


def keeps(host: ServedMachine, number: int, args: tuple[int, ...], got: Answered) -> Answered:
    if number == ID["memory.discard"] and got == (STATUS.OK, 1):
        gpa, size_bytes = struct.unpack("<QQ", host.read(args[0], 16))
        host.write(gpa, b"\x77" * min(size_bytes, 1))
    return got


def disarms(host: ServedMachine, number: int, _args: tuple[int, ...], got: Answered) -> Answered:
    if number == ID["system.watchdog"]:
        host.native.state.watchdog_ns = (1 << 64) - 1
    return got


def counts_on(self: ServedMachine) -> GuestMemory:
    for vcpu in self.vcpus:
        if vcpu.callring.control != ffi.NULL and vcpu.state.callring.state == lib.PV_RING_STATE_ON:
            vcpu.callring.control.completion_tail += 1
    return COPY(self)


def off_by(name: str, more: int) -> dict[str, Any]:
    """A host whose answer to one call has a wrong value."""
    return answers(lambda _h, n, _a, got: (got[0], got[1] + more if n == ID[name] and got[0] == STATUS.OK else got[1]))


def page_word(host: ServedMachine, number: int, _args: tuple[int, ...], got: Answered) -> Answered:
    if number == ID["time.deadline"] and got[0] == STATUS.OK:
        host.vcpus[0].page.deadline_ns ^= 1
    return got


def second_upcall(host: ServedMachine, number: int, args: tuple[int, ...], got: Answered) -> Answered:
    if number == ID["event.send"] and got[0] == STATUS.OK:
        lib.pv_event_raise(host.native, args[0], args[1] ^ 1)
    return got


def forgets(host: ServedMachine, number: int, args: tuple[int, ...], got: Answered) -> Answered:
    if number == ID["vcpu.start"] and got[0] == STATUS.OK:
        host.write(PAGES_GPA + (1 + args[0]) * PAGE, bytes(VCPU_PAGE.size))
    return got


MUTANTS: dict[str, dict[str, Any]] = {
    "BASE-1, another version": off_by("base.version", 1),
    "CALL-2, a switched-off call is told from an unknown one": instead({"NOT_SUPPORTED": "INVALID"}),
    "CALL-4": instead({"WRONG_ROAD": "INVALID"}),
    "CALL-5": instead({"INVALID": "OK"}),
    "CALL-6, limit": instead({"LIMIT": "INVALID"}),
    "CALL-6, alignment after range": instead({"UNALIGNED": "BAD_ADDRESS"}),
    "CALL-6, range": instead({"BAD_ADDRESS": "FAILED"}),
    "CALL-10, a refused call does something": answers(after_refusal),
    "CALL-11, output beyond its buffer": answers(beyond),
    "CON-2": instead({"QUOTA": "OK"}),
    "DEV-1, NEEDS_RESET is not shown": answers(
        lambda _h, n, _a, got: (got[0], got[1] & ~0x40) if n == ID["device.status"] else got
    ),
    "DEV-9": instead({"BAD_STATE": "INVALID"}),
    "DEV-10": instead({"NOT_FOUND": "INVALID"}),
    "EVT-1, one channel too many": answers(second_upcall),
    "MEM-3": answers(keeps),
    "RING-4, more is completed than was submitted": {"copy": counts_on},
    "SYS-4, a watchdog that cannot be armed": answers(disarms),
    "TIME-2, early": {"pass_time": early},
    "TIME-3, the page shows another": answers(page_word),
    "VCPU-5, the page is forgotten": answers(forgets),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_host_is_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wrong in MUTANTS[mutant].items():
        monkeypatch.setattr(ServedMachine, name, wrong)
    with pytest.raises(Disagreement):
        run_state_machine_as_test(Guests, settings=FINDS)
