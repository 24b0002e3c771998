"""The model by itself: it stands alone, covers every call, and leaves open what the standard leaves open."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hypercall_abi import LIMITS, SERVICES, STATUS
from hypercall_abi.conventions import COMPLETION, SUBMISSION, answers
from hypercall_abi.model import Answer, Disagreement, GuestMemory, Machine
from hypercall_abi.model.answers import matching
from hypercall_abi.model.dispatch import CALLS, call_id
from hypercall_abi.model.machine import NEVER
from hypercall_abi.model.services import HANDLERS
from hypercall_abi.services.memory import MEMORY_RANGE

RAM = 0x10_0000
PAGES = RAM + 0x8000


def machine(**more: object) -> Machine:
    offered = {s.number: (1 << 64) - 1 for s in SERVICES.values()}
    return Machine({RAM: 0x1_0000}, pages_gpa=PAGES, vcpus=2, **{"services": offered, **more})  # type: ignore[arg-type]


def test_it_needs_construct_alone() -> None:
    code = "import sys, hypercall_abi.model; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:  # -S hides construct too, where it is installed as a user's package
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {name for name in done.stdout.split() if name in ("paravirt", "cffi", "elftools", "tests", "hypothesis")}
    assert not foreign


def test_every_call_has_its_handler() -> None:
    assert {(s.name, c.name) for s, c in CALLS.values()} == set(HANDLERS)


@pytest.mark.parametrize("number", CALLS, ids=[f"{s.name}.{c.name}" for s, c in CALLS.values()])
def test_answers_are_those_of_the_table(number: int) -> None:
    """What the model answers to plain arguments is in the call's own table of statuses."""
    service, call = CALLS[number]
    m = machine()
    m.accepted = dict(m.services)
    allowed = m.call(number, *[0] * len(call.registers))
    assert STATUS.name_of(allowed.status) in (*answers(call), "OK"), service.name


def test_limits_of_a_host_keep_the_promise() -> None:
    """BASE-6."""
    entries, time = LIMITS["BATCH_ENTRIES"], LIMITS["BATCH_NS"]
    assert machine(limits={entries.id: 512}).call_by_name("base.limit", entries.id) == Answer(STATUS.OK, 512)
    for wrong in ({entries.id: 255}, {time.id: time.number + 1}):
        with pytest.raises(ValueError, match="BASE-6"):
            machine(limits=wrong)


def test_a_batch_may_stop() -> None:
    """BATCH-5: whatever the host says it did was done, and no more."""
    for host, done in (((STATUS.OK, 3), 3), ((STATUS.CONTINUE, 1), 1), ((STATUS.CONTINUE, 2), 2)):
        m = machine()
        for i in range(3):
            fields = {"call": call_id("event.send"), "flags": 0, "args": [1, 20 + i, 0, 0, 0, 0], "cookie": i}
            m.memory.write(RAM + i * SUBMISSION.size, SUBMISSION.build(fields))
        m.call_by_name("base.batch", RAM, 3, RAM + 0x1000, 3, choose=matching(*host))
        assert m.page(1).pending[0] == sum(1 << 20 + i for i in range(done))
        assert m.page(0).get("calls") == done + 1
    for wrong in ((STATUS.CONTINUE, 0), (STATUS.CONTINUE, 3), (STATUS.OK, 2), (STATUS.INVALID, 0)):
        with pytest.raises(Disagreement):
            machine().call_by_name("base.batch", RAM, 3, RAM + 0x1000, 3, choose=matching(*wrong))


def test_undefined_bytes_are_the_hosts() -> None:
    """CALL-10, CALL-11: taken over once, and compared from then on."""
    m = machine(boot_info=b"boot")
    m.call_by_name("base.boot_info", RAM, 16)
    real = GuestMemory({gpa: bytearray(data) for gpa, data in m.memory.ranges.items()})
    real.write(RAM + 4, b"noise")
    assert m.memory.difference(real)
    m.memory.adopt(real)
    assert not m.memory.difference(real)
    real.write(RAM + 8, b"\0")
    assert m.memory.difference(real) == f"memory at {RAM + 8:#x} is 0x00 and should be 0x65"


def test_a_refused_entry_has_an_undefined_value() -> None:
    m = machine()
    m.memory.write(RAM, SUBMISSION.build({"call": 1, "flags": 0, "args": [0] * 6, "cookie": 7}))
    m.call_by_name("base.batch", RAM, 1, RAM + 0x1000, 1)
    assert m.memory.undefined == [(RAM + 0x1000 + COMPLETION.offset("value"), 8)]


def test_memory_calls_stop_between_ranges() -> None:
    """MEM-3, MEM-6."""
    m = machine()
    ranges = [{"gpa": RAM + 0x1000 * n, "size_bytes": 4096} for n in (1, 2)]
    m.memory.write(RAM, b"".join(map(MEMORY_RANGE.build, ranges)))
    for n in (1, 2):
        m.memory.write(RAM + 0x1000 * n, b"x")
    m.call_by_name("memory.discard", RAM, 2, choose=matching(STATUS.CONTINUE, 1))
    assert [m.memory.read(RAM + 0x1000 * n, 1) for n in (1, 2)] == [b"\0", b"x"]


def test_waiting_and_waking() -> None:
    """VCPU-3, EVT-2, VCPU-7: a block's deadline raises nothing."""
    m = machine()
    assert m.call_by_name("vcpu.block", 100) == Answer(STATUS.OK, 0)
    assert m.page(0).get("state") == 2
    m.pass_time(99)
    assert m.page(0).get("state") == 2
    m.pass_time(100)
    assert (m.page(0).get("state"), m.page(0).pending) == (1, [0] * 4)
    m.call_by_name("vcpu.block", NEVER)
    m.raise_channel(0, 200)
    assert m.page(0).get("state") == 1
    assert m.page(0).get("calls") == 2


def test_ends() -> None:
    """SYS-1, SYS-5, and the last vCPU to stop."""
    m = machine()
    assert m.call_by_name("system.shutdown", 9, 0).status == STATUS.INVALID
    assert m.end is None
    m.call_by_name("vcpu.stop")
    assert m.end == ("shutdown", 0, 0)
    m.call_by_name("system.reset")
    assert m.end == ("shutdown", 0, 0)


def test_bits_above_the_id() -> None:
    """CALL-8."""
    number = call_id("base.version")
    assert machine().call(number).status == STATUS.OK
    assert machine().call(number | 1 << 32).status == STATUS.NOT_SUPPORTED
