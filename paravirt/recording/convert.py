"""Turns a recorded life of a machine into what a guest can replay: entries with arguments, bytes and expectations.

A replaying guest has other addresses: every buffer gets a place in an *arena*, at the same offset within its page,
and addresses inside of records are moved likewise.  What of an answer is compared is the declaration's to say
(``Call.varies``, ``Arg.until``, ``CIRCUMSTANCES``).  An address that the recorded host refused is given as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypercall_abi import SERVICES
from hypercall_abi.conventions import CIRCUMSTANCES, COMPLETION, ROAD, STATUS, SUBMISSION
from hypercall_abi.recording import (
    RECORDED_ACCESS,
    RECORDING,
    REPLAY_CHUNK,
    REPLAY_CHUNK_KIND,
    REPLAY_COMPARE,
    REPLAY_ENTRY,
    REPLAY_HEAD,
)
from hypercall_abi.schema import Arg, Call, Record

from ..abi import call_name
from ..errors import RecordingError
from . import reader
from .arena import Arena

BATCH = SERVICES["base"].id("batch")
RING = SERVICES["base"].id("ring")
ACKNOWLEDGE = SERVICES["continuity"].id("acknowledge")
START = SERVICES["vcpu"].id("start")
STOP = SERVICES["vcpu"].id("stop")
DECLARED = {service.id(call): call for service in SERVICES.values() for call in service.calls}
CIRCUMSTANTIAL = frozenset(getattr(STATUS, name) for name in CIRCUMSTANCES)
_WORD = 8


class Output(NamedTuple):
    """Bytes expected at `offset` of the arena; `what` they are, and how far into that they begin."""

    offset: int
    data: bytes
    what: str
    begins: int = 0


@dataclass
class Entry:
    """One call to be made."""

    call: reader.Call
    """The recorded one; of several made together, the one that makes them."""
    id: int
    args: list[int]
    relocate: int = 0
    """A bit per argument that is an offset into the arena."""
    steps: list[int] = field(default_factory=lambda: [0] * 6)
    inputs: list[tuple[int, bytes]] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    """Offsets into the arena of words that hold offsets into it."""
    outputs: list[Output] = field(default_factory=list)
    compare: int = 0
    status: int = 0
    value: int = 0

    def build(self) -> bytes:
        """The entry and its chunks."""
        chunks = [(REPLAY_CHUNK_KIND.INPUT, offset, data) for offset, data in self.inputs]
        chunks += [(REPLAY_CHUNK_KIND.RELOCATE, offset, b"") for offset in self.words]
        chunks += [(REPLAY_CHUNK_KIND.OUTPUT, o.offset, o.data) for o in self.outputs if o.data]
        head = REPLAY_ENTRY.build(
            {
                "number": self.call.number,
                "vcpu": self.call.vcpu,
                "call": self.id,
                "compare": self.compare,
                "args": self.args,
                "steps": self.steps,
                "relocate": self.relocate,
                "chunks": len(chunks),
                "status": self.status,
                "value": self.value,
            }
        )
        return b"".join((bytes(head), *(_chunk(*chunk) for chunk in chunks)))


def _chunk(kind: int, offset: int, data: bytes) -> bytes:
    head: bytes = REPLAY_CHUNK.build({"kind": kind, "bytes": len(data), "offset": offset})
    return head + data + bytes(-len(data) % _WORD)


@dataclass
class Program:
    """What a guest is given to replay a life."""

    life: reader.Life
    entries: list[Entry] = field(default_factory=list)
    left_out: list[tuple[reader.Call, str]] = field(default_factory=list)
    """Calls that are not made, and why."""
    arena_bytes: int = 0

    def build(self) -> bytes:
        """A replay_head and the entries."""
        body = b"".join(entry.build() for entry in self.entries)
        head: bytes = REPLAY_HEAD.build(
            {
                "magic": RECORDING.MAGIC,
                "size_bytes": REPLAY_HEAD.size + len(body),
                "arena_bytes": self.arena_bytes,
                "entries": len(self.entries),
                "vcpus": max((entry.call.vcpu for entry in self.entries), default=0) + 1,
            }
        )
        return head + body


def in_order(calls: Sequence[reader.Call]) -> list[reader.Call]:
    """`calls` as they took effect: mostly as they were answered.

    But a vCPU may run, and even stop, before who started it has the answer; and it may be started again before its
    vcpu.stop is in the recording.  Starts and stops of a vCPU take turns.
    """
    moments = {call.number: call.end_ns for call in calls}
    free_ns: dict[int, Iterator[int]] = {}  # of a vCPU: the moments from which on it can be started
    for vcpu in {call.vcpu for call in calls}:
        stops = [c.begin_ns for c in calls if c.vcpu == vcpu and c.id == STOP and c.status >= 0]
        moments.update({c.number: c.begin_ns for c in calls if c.vcpu == vcpu and c.id == STOP and c.status >= 0})
        free_ns[vcpu] = iter(stops if vcpu == 0 else [0, *stops])  # vCPU 0 runs from the start
    for call in calls:
        if call.id == START and call.status >= 0:
            moments[call.number] = max(call.begin_ns, next(free_ns.get(call.args[0], iter(())), 0) + 1)
    return sorted(calls, key=lambda call: moments[call.number])


class _LeftOut(Exception):
    """A call that cannot be made again; the text says why."""


def convert(life: reader.Life) -> Program:
    """The program that makes the calls of `life`, up to the end of the machine.  Raises RecordingError."""
    arena = Arena()
    _Converter(Program(life), arena).convert()  # where the kept part of the arena ends is known afterwards
    program = Program(life)
    arena.begin_again()
    _Converter(program, arena).convert()
    program.arena_bytes = arena.size_bytes
    if not program.entries:
        raise RecordingError("the recording has no call that can be made again")
    return program


class _Converter:
    def __init__(self, program: Program, arena: Arena) -> None:
        self._program = program
        self._arena = arena
        self._inner: dict[int, list[reader.Call]] = {}  # of a vCPU, since its last batch
        self._started = {0}

    def convert(self) -> None:
        for call in in_order(self._program.life.calls):
            declared = DECLARED.get(call.id)
            if call.road == ROAD.BATCH:
                self._inner.setdefault(call.vcpu, []).append(call)
            elif declared and declared.no_return and call.status >= 0 and call.id != STOP:
                return  # the machine's end; the replaying guest has its own
            else:
                self._add(call)

    def _add(self, call: reader.Call) -> None:
        inner = self._inner.pop(call.vcpu, []) if call.id == BATCH else []
        try:
            if call.vcpu not in self._started:
                raise _LeftOut(f"vCPU {call.vcpu} was not started by any call that is made")
            if call.id == BATCH and call.status >= 0:
                self._program.entries += self._batch(call, inner)
            elif call.road == ROAD.RING:
                self._program.entries.append(self._together(call, [call], [_submission(call)]))
            else:
                self._program.entries.append(self._alone(call))
        except _LeftOut as why:
            self._program.left_out.append((call, str(why)))

    def _alone(self, call: reader.Call) -> Entry:
        self._arena.next_entry()
        entry = self._entry(call)
        if call.id == START and call.status >= 0:
            self._started.add(call.args[0])
        return entry

    def _entry(self, call: reader.Call) -> Entry:
        """The call by itself; its buffers get new places."""
        declared = DECLARED.get(call.id)
        _check(call)
        entry = Entry(call, call.id, list(call.args))
        records = _records(declared) if declared else {}
        for buffer in call.buffers:
            offset = self._arena.take(buffer.length_bytes, call.args[buffer.argument])
            entry.args[buffer.argument] = offset
            entry.relocate |= 1 << buffer.argument
            if buffer.access == RECORDED_ACCESS.READ:
                data = self._moved(entry, call, offset, buffer, records.get(buffer.argument))
                entry.inputs.append((offset, data))
            elif not declared or "output" not in declared.varies:
                name = declared.registers[buffer.argument].removesuffix("_gpa") if declared else "output"
                entry.outputs.append(Output(offset, buffer.data, name))
        if declared:
            self._adapt(entry, declared)
        self._expect(entry, declared)
        return entry

    def _moved(
        self, entry: Entry, call: reader.Call, offset: int, buffer: reader.Buffer, record: Record | None
    ) -> bytes:
        """Input with the addresses inside of its records moved; those of a call that failed stay."""
        data = bytearray(buffer.data)
        if record is None or call.status < 0:
            return bytes(data)
        for at in range(0, len(data) - record.size + 1, record.size):
            values = {f.name: int.from_bytes(data[at + f.offset :][: f.size], "little") for f in record.fields}
            for word in (f for f in record.fields if f.gpa and values[f.name]):
                gpa, size = values[word.name], values.get("size_bytes")
                place = self._arena.keep(gpa) if size is None else self._arena.range(size, gpa)
                data[at + word.offset : at + word.offset + _WORD] = place.to_bytes(_WORD, "little")
                entry.words.append(offset + at + word.offset)
        return bytes(data)

    def _adapt(self, entry: Entry, declared: Call) -> None:
        """Times that would be waited for; calls that stop on their way."""
        registers = declared.registers
        for arg in declared.args:
            if isinstance(arg, Arg) and arg.until:
                entry.args[registers.index(arg.name)] = 0
        if "CONTINUE" not in declared.statuses:
            return
        for at, name in enumerate(registers):
            if name.endswith("_count"):
                entry.steps[at] = (1 << 64) - 1
                if entry.call.status == STATUS.CONTINUE:
                    entry.args[at] = entry.call.value  # the part that was done; the guest asked for the rest again
        for arg, at in _buffers(declared):
            entry.steps[at] = arg.entry_bytes

    def _expect(self, entry: Entry, declared: Call | None) -> None:
        call = entry.call
        entry.status = STATUS.OK if call.status == STATUS.CONTINUE else call.status
        entry.value = call.value
        if call.status in CIRCUMSTANTIAL:
            entry.outputs = []
            return
        entry.compare = REPLAY_COMPARE.STATUS
        if call.status >= 0 and not (declared and "value" in declared.varies):
            entry.compare |= REPLAY_COMPARE.VALUE

    # ---- calls made together ----

    def _batch(self, call: reader.Call, inner: list[reader.Call]) -> list[Entry]:
        """A batch, or what it was made of if that cannot be made together."""
        source = next((b.data for b in call.buffers if b.access == RECORDED_ACCESS.READ), b"")
        if len(source) < call.value * SUBMISSION.size:
            raise _LeftOut("its submissions were not kept")
        submissions = [
            SUBMISSION.parse(source[i * SUBMISSION.size : (i + 1) * SUBMISSION.size]) for i in range(call.value)
        ]
        if sum(not s.flags for s in submissions) != len(inner):
            raise _LeftOut(f"{len(inner)} of the calls made by it are in the recording, and not those it completed")
        if any(one.id == START and one.status >= 0 for one in inner):
            return [self._alone(one) for one in inner if one.status != STATUS.WRONG_ROAD]
        return [self._together(call, inner, submissions)]

    def _together(self, call: reader.Call, inner: Iterable[reader.Call], submissions: list[Any]) -> Entry:
        """`inner`, one for each submission without flags, as one base.batch."""
        self._arena.next_entry()
        count = len(submissions)
        from_at = self._arena.take(count * SUBMISSION.size, 0)
        to_at = self._arena.take(count * COMPLETION.size, 0)
        entry = Entry(call, BATCH, [from_at, count, to_at, count, 0, 0], relocate=0b101 if count else 0)
        entry.steps[:4] = [SUBMISSION.size, (1 << 64) - 1, COMPLETION.size, (1 << 64) - 1]
        calls = iter(inner)
        for i, submission in enumerate(submissions):
            one = self._entry(next(calls)) if not submission.flags else None
            self._submit(entry, from_at + i * SUBMISSION.size, submission, one)
            entry.outputs += _completion(to_at + i * COMPLETION.size, submission, one)
        entry.compare = REPLAY_COMPARE.STATUS | REPLAY_COMPARE.VALUE
        entry.status, entry.value = STATUS.OK, count
        return entry

    @staticmethod
    def _submit(entry: Entry, at: int, submission: Any, one: Entry | None) -> None:
        args = one.args if one else list(submission.args)
        built = SUBMISSION.build(
            {"call": submission.call, "flags": submission.flags, "args": args, "cookie": submission.cookie}
        )
        if one:  # its own input comes first, so that a submission is never covered by it
            entry.inputs += one.inputs
            entry.words += one.words
            entry.outputs += one.outputs
            first = at + SUBMISSION.offset("args")
            entry.words += [first + i * _WORD for i in range(6) if one.relocate >> i & 1]
        entry.inputs.append((at, built))


def _submission(call: reader.Call) -> Any:
    """A call of a ring as it is put into a batch of one: the roads are equal."""
    record = {"call": call.id, "flags": 0, "args": list(call.args), "cookie": call.number}
    return SUBMISSION.parse(SUBMISSION.build(record))


def _completion(at: int, submission: Any, one: Entry | None) -> Iterator[Output]:
    """What is expected of a completion; a call that may stop on its way need not do so at the same place."""
    what = f"completion of {call_name(submission.call)}"
    yield Output(at, submission.cookie.to_bytes(_WORD, "little"), what)
    declared = DECLARED.get(submission.call)
    if one is None:
        yield Output(at + 8, STATUS.INVALID.to_bytes(_WORD, "little", signed=True), what, 8)
    elif not (declared and "CONTINUE" in declared.statuses and one.status >= 0):
        if one.compare & REPLAY_COMPARE.STATUS:
            yield Output(at + 8, one.status.to_bytes(_WORD, "little", signed=True), what, 8)
        if one.compare & REPLAY_COMPARE.VALUE:
            yield Output(at + 16, one.value.to_bytes(_WORD, "little"), what, 16)
    yield Output(at + 24, bytes(8), what, 24)


def _check(call: reader.Call) -> None:
    if any(b.access == RECORDED_ACCESS.READ and len(b.data) < b.length_bytes for b in call.buffers):
        raise _LeftOut("its input was too long to keep")
    declared = DECLARED.get(call.id)
    if declared and not {b.argument for b in call.buffers} <= {at for _, at in _buffers(declared)}:
        raise RecordingError(
            f"call {call.number}, {call.name}, has a buffer where it has no such argument; the file is damaged"
        )
    if call.road == ROAD.RING and call.status == STATUS.WRONG_ROAD and declared and declared.roads & ROAD.BATCH:
        raise _LeftOut("a ring refused it as a ring, and no other road is refused so")
    if call.id == RING and call.status in (STATUS.OK, STATUS.BAD_STATE):
        raise _LeftOut("calls of a ring are made as batches, without one")
    if call.id == ACKNOWLEDGE:
        raise _LeftOut("the machine is not paused again")
    if call.id == START and call.status in CIRCUMSTANTIAL:
        raise _LeftOut("the start failed by the host's circumstances, and might succeed now")


def _buffers(declared: Call) -> Iterator[tuple[Any, int]]:
    """The buffers of a call, each with the index of the argument that holds its address."""
    for arg in declared.args:
        if not isinstance(arg, Arg):
            yield arg, declared.registers.index(f"{arg.name}_gpa")


def _records(declared: Call) -> dict[int, Record]:
    return {at: buffer.entry for buffer, at in _buffers(declared) if buffer.entry}
