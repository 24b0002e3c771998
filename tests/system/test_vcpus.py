"""vCPUs that guests start, stop and wake in every order, on KVM."""

from __future__ import annotations

import os
import struct
import threading
import time
from pathlib import Path

import pytest

from paravirt import Machine, MachineConfig
from paravirt._native import lib
from paravirt.errors import GuestTimeout, HostLimit, SoftwareMissing
from tests.support.elf import CODE_GPA, SPIN
from tests.support.guests import CONSOLE_WRITE, DATA_GPA, FAILURE, call, shutdown, write_guest

pytestmark = [pytest.mark.kvm]

START, STOP, _, _, STATE = (5 << 16 | function for function in range(5))
UPCALL = 3 << 16 | 1
UPCALL_OFF, UPCALL_NMI = 0, 2
STACK_GPA = 0x500000


def jump(code: bytes, back_to: int, opcode: bytes) -> bytes:
    """`code`, then a jump back to its byte `back_to`."""
    code += opcode
    return code + struct.pack("<i", back_to - len(code) - 4)


JNZ = b"\x0f\x85"


def test_a_vcpu_is_started_as_soon_as_it_says_that_it_stopped(tmp_path: Path) -> None:
    """It does not come back from vcpu.stop, and no start is lost: a vCPU is started where it just stopped."""
    rounds = 5_000
    second = call(STOP) + shutdown(FAILURE, 1) + SPIN
    code = b"\xe9" + struct.pack("<i", len(second)) + second
    code += b"\xbb" + struct.pack("<I", rounds)  # mov ebx
    begin = len(code)
    code += call(START, 1, CODE_GPA + 5, STACK_GPA)
    poll = len(code)
    code += call(STATE, 1) + b"\x48\x85\xd2"  # test rdx, rdx
    code = jump(code, poll, JNZ) + b"\xff\xcb"  # dec ebx
    code = jump(code, begin, JNZ) + shutdown()
    with Machine(MachineConfig(write_guest(tmp_path / "again", code), vcpus=2, timeout_s=60)) as machine:
        outcome = machine.run()
    assert (outcome.reason, outcome.status) == ("POWEROFF", 0)
    assert outcome.statistics.vcpus[1].calls == rounds


def test_an_upcall_on_its_way_ends_where_the_guest_wants_none(tmp_path: Path) -> None:
    """The guest chose OFF, and has no gate for the NMI that it had before."""
    code = call(UPCALL, UPCALL_NMI) + call(UPCALL, UPCALL_OFF) + call(CONSOLE_WRITE, DATA_GPA, 1) + SPIN
    ready = threading.Event()
    image = write_guest(tmp_path / "off", code, b".")
    with Machine(MachineConfig(image, console=lambda _: ready.set())) as machine:
        machine.start()
        assert ready.wait(10)
        for _ in range(3):
            machine.native.ops.upcall(machine.vcpus[0].native)
        with pytest.raises(GuestTimeout):
            machine.wait(0.2)


def test_a_vcpu_that_stopped_in_its_nmi_handler_hears_the_next_one(tmp_path: Path) -> None:
    """Until IRET a CPU holds NMIs back; a start is a new beginning (VCPU-5 keeps the vector)."""
    handler = call(STOP)
    second_at = len(handler)
    second = call(UPCALL, UPCALL_NMI) + SPIN
    code = b"\xe9" + struct.pack("<i", len(handler + second)) + handler + second
    begin = len(code)
    code = jump(code + call(START, 1, CODE_GPA + 5 + second_at, STACK_GPA), begin, b"\xe9")
    gate = struct.pack("<HHBBHII", (CODE_GPA + 5) & 0xFFFF, 0x23, 0, 0x8F, CODE_GPA >> 16, 0, 0)
    with Machine(MachineConfig(write_guest(tmp_path / "nmi", code), vcpus=2)) as machine:
        machine.memory.write(machine.layout.idt_gpa + 2 * len(gate), gate)
        machine.start()
        vcpu = machine.vcpus[1].native
        for life in range(1, 5):
            until = time.monotonic() + 5
            while vcpu.starts <= life:
                assert time.monotonic() < until, f"no upcall in life {life}"
                vcpu.page.upcall_pending = 0
                lib.pv_event_raise(machine.native, 1, 16)
                time.sleep(0.005)


@pytest.mark.only_kvm("the engine's threads are another process's")
def test_vcpus_stay_on_the_cpus_that_they_were_given(tmp_path: Path) -> None:
    """And the thread that starts them may go where it might before."""
    before = os.sched_getaffinity(0)
    pin = (max(before), min(before))
    with Machine(MachineConfig(write_guest(tmp_path / "spin", SPIN), vcpus=2, pin=pin)) as machine:
        machine.start()
        threads = [vcpu.thread_id or 0 for vcpu in machine.vcpus]
        assert [os.sched_getaffinity(thread) for thread in threads] == [{cpu} for cpu in pin]
        others = [t.native_id for t in threading.enumerate() if t.native_id and t.native_id not in threads]
        assert {frozenset(os.sched_getaffinity(thread)) for thread in others} == {frozenset(before)}


def test_the_software_vcpu_refuses_to_be_pinned(tmp_path: Path) -> None:
    config = MachineConfig(write_guest(tmp_path / "spin", SPIN), accel="software", pin=(0,))
    with pytest.raises((HostLimit, SoftwareMissing)), Machine(config):
        pytest.fail("it was made")
