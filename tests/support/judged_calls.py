"""Calls to be judged: any call of the declaration, with arguments that are often good and sometimes not."""

from __future__ import annotations

from hypothesis import strategies as st

from hypercall_abi.model.dispatch import CALLS, call_id
from hypercall_abi.schema import Arg, Buffer

from .fake_machine import RAM_GPA
from .served_machine import HIGH_BYTES, HIGH_GPA

U64 = (1 << 64) - 1
END = HIGH_GPA + HIGH_BYTES
DATA_GPA = RAM_GPA + 0x4_0000
"""Where the guest's data lies; device 0's queues are from 0x1_0000 to 0x3_0000, nothing else is near."""
DATA_BYTES = 0x4000
Made = tuple[int, tuple[int, ...]]
"""Id and arguments."""

RARE = {"vcpu.block", "vcpu.stop", "system.shutdown", "system.reset", "system.crash"}  # they have rules of their own
NAMES = {number: f"{service.name}.{call.name}" for number, (service, call) in CALLS.items()}

good_gpas = st.integers(DATA_GPA, DATA_GPA + DATA_BYTES - 4096).map(lambda gpa: gpa & ~63)
bad_gpas = st.sampled_from(
    [0, 1, RAM_GPA - 1, DATA_GPA + 1, DATA_GPA + 4, HIGH_GPA - 1, HIGH_GPA - 8, END - 8, END - 64, END, U64, U64 - 63]
)
gpas = st.one_of(good_gpas, good_gpas, good_gpas, bad_gpas)
lengths = st.one_of(
    st.integers(0, 8), st.sampled_from([24, 64, 199, 200, 256, 257, 1024, 4096, 4097, U64]), st.integers(0, U64)
)
anything = st.one_of(
    st.sampled_from([0, 1, 2, 7, 8, 15, 16, 255, 256, 1 << 16, 1 << 32, U64 - 1, U64]), st.integers(0, U64)
)
vcpus = st.sampled_from([0, 1, 1, 2, 2, 3, 64, U64])
BY_NAME: dict[str, st.SearchStrategy[int]] = {
    "vcpu": vcpus,
    "channel": st.sampled_from([0, 1, 16, 17, 63, 64, 100, 255, 256, 0xFFFF_FFFF, U64]),
    "vector": st.sampled_from([0, 1, 2, 3, 31, 32, 200, 255, 256, U64]),
    "device": st.sampled_from([0, 0, 0, 0, 1, 2, U64]),
    "queue": st.sampled_from([0, 0, 0, 1, 1, 2, 3, 8, 0xFFFF, U64]),
    "block": st.sampled_from([0, 0, 0, 1, 2, U64]),
    "service": st.sampled_from([1, 6, 7, 7, 7, 8, 12, 16, 99, 0x8000, U64]),
    "features": st.sampled_from([0, 1, 1, 2, 3, 1 << 32, 0x1_3000_0020, 0x101_3000_0020, U64]),
    "status": st.sampled_from([0, 1, 3, 11, 15, 15, 0x40, 0x4F, 0x80, 0x81, 0x100, U64]),
    "limit": st.integers(0, 20),
    "offset": st.sampled_from([0, 8, 16, 20, 23, 24, 25, 250, U64]),
    "entry_gpa": st.sampled_from([DATA_GPA, HIGH_GPA, RAM_GPA, 0, RAM_GPA - 1, END, U64]),
    "stack_gpa": st.sampled_from([RAM_GPA + 16, HIGH_GPA, HIGH_GPA + 16, END, DATA_GPA + 8, RAM_GPA, 0, U64 - 15]),
    "deadline_ns": st.one_of(st.integers(0, 200).map(lambda n: (1000 + n) * 10**9), anything),
}
cookies = st.integers(0, U64)


@st.composite
def calls(draw: st.DrawFn, *, rare: bool = False) -> Made:
    """A call of the declaration."""
    number = draw(st.sampled_from([n for n, name in NAMES.items() if rare or name not in RARE]))
    args: list[int] = []
    for arg in CALLS[number][1].args:
        if isinstance(arg, Arg):
            args.append(draw(BY_NAME.get(arg.name, anything)))
        else:
            args += draw(buffers(arg))
    if len(args) < 6 and draw(st.integers(0, 15)) == 0:
        args = args + [0] * (5 - len(args)) + [draw(st.sampled_from([1, U64]))]
    return number, tuple(args)


def buffers(buffer: Buffer) -> st.SearchStrategy[list[int]]:
    """Address and length."""
    if buffer.fixed:
        return gpas.map(lambda gpa: [gpa])
    most = st.just(buffer.limit.number if buffer.limit else 0)
    return st.tuples(gpas, st.one_of(lengths, most, st.integers(0, 4))).map(list)


unknown = st.one_of(st.integers(0, (1 << 32) - 1), st.sampled_from([0, 0x1_0008, 0x8000_0000, 0xFFFF_FFFF]))
unknown_calls: st.SearchStrategy[Made] = st.tuples(unknown, st.tuples(anything, anything))
PLAIN = [
    ("event.send", (1, 20)),
    ("event.send", (0, 70)),
    ("event.upcall", (32,)),
    ("system.watchdog", (10**10,)),
    ("system.watchdog", (0,)),
    ("base.version", ()),
    ("base.limit", (8,)),
    ("vcpu.state", (1,)),
    ("vcpu.fault_address", ()),
    ("entropy.fill", (DATA_GPA, 64)),
]
plain_calls: st.SearchStrategy[Made] = st.sampled_from([(call_id(name), args) for name, args in PLAIN])
any_calls = st.one_of(calls(), calls(), plain_calls, unknown_calls).filter(lambda made: NAMES.get(made[0]) not in RARE)
