"""A machine without KVM: the C core's records over a piece of memory, calls made by hand."""

from __future__ import annotations

from typing import Any

from hypercall_abi import SERVICES, STATUS
from hypercall_abi.conventions import COMPLETION, ROAD, SUBMISSION
from paravirt._native import ffi, lib

RAM_GPA = 0x10_0000
RAM_BYTES = 0x10_0000
PAGE = 4096
PAGES_GPA = RAM_GPA + RAM_BYTES - 64 * PAGE  # shared pages, at the end


class FakeMachine:
    """`vcpus` vCPUs that never run; what C asks of its surroundings is kept.

    ``passed_on`` lists calls that it has no handler for, ``said`` is its output and `input` what waits
    for it, ``ends`` lists how it ended: kind, reason, status, report.  `more_ram` are sizes of further
    ranges of memory, each beside the one before.
    """

    def __init__(self, vcpus: int = 2, *, poison: bool = False, deny: int = 0, more_ram: tuple[int, ...] = ()) -> None:
        self.native = ffi.new("struct pv_machine *")
        lib.pv_machine_init(self.native)
        sizes = (RAM_BYTES, *more_ram)
        self._ram = ffi.new("uint8_t[]", sum(sizes) + PAGE)
        self.ram = self._ram + -int(ffi.cast("uintptr_t", self._ram)) % PAGE
        gpa = RAM_GPA
        for size in sizes:
            assert lib.pv_memory_add(ffi.addressof(self.native, "memory"), gpa, size, self.at(gpa)) == 0
            gpa += size
        self.native.services = sum(1 << s.number for s in SERVICES.values()) & ~deny
        self.native.poison = poison
        self.native.trace_mark_budget = 1000
        self.passed_on: list[tuple[int, tuple[int, ...]]] = []
        self.upcalls: list[int] = []
        self.said = bytearray()
        self.input = b""
        self.ends: list[tuple[int, int, int, bytes]] = []
        self._ops()
        self.native.time_page = ffi.cast("struct pv_time_page *", self.at(PAGES_GPA))
        self.boot_info = ffi.new("uint8_t[]", bytes(range(200)))
        self.native.boot_info, self.native.boot_info_bytes = self.boot_info, 200
        self.vcpus = []
        for index in range(vcpus):
            vcpu = ffi.new("struct pv_vcpu *", {"index": index, "machine": self.native})
            vcpu.page = ffi.cast("struct pv_vcpu_page *", self.at(PAGES_GPA + (1 + index) * PAGE))
            vcpu.state.deadline_ns = (1 << 64) - 1
            self.vcpus.append(vcpu)
            self.native.vcpus[index] = vcpu
        self.native.vcpu_count = vcpus

    def _ops(self) -> None:
        def call(_vcpu: Any, number: int, args: Any, _value: Any) -> int:
            self.passed_on.append((number, tuple(args[i] for i in range(6))))
            return STATUS.OK

        def write(_machine: Any, text: Any, size_bytes: int) -> int:
            self.said += ffi.buffer(text, size_bytes)
            return STATUS.OK

        def read(_machine: Any, text: Any, size_bytes: int) -> int:
            taken, self.input = self.input[:size_bytes], self.input[size_bytes:]
            ffi.memmove(text, taken, len(taken))
            return len(taken)

        def end(_machine: Any, how: Any) -> None:
            report = b"" if how.report == ffi.NULL else bytes(ffi.buffer(how.report))
            self.ends.append((how.kind, how.reason, how.status, report))

        self._callbacks = [
            ffi.callback("int64_t(struct pv_vcpu *, uint32_t, const uint64_t *, uint64_t *)", call),
            ffi.callback("void(struct pv_vcpu *)", lambda vcpu: self.upcalls.append(vcpu.index)),
            ffi.callback("int64_t(struct pv_vcpu *, uint32_t)", lambda _vcpu, _vector: STATUS.OK),
            ffi.callback("uint64_t(struct pv_vcpu *)", lambda _vcpu: 0xDEAD),
            ffi.callback("void(struct pv_vcpu *)", lambda _vcpu: None),
            ffi.callback("int64_t(struct pv_vcpu *, struct pv_vcpu *)", lambda _caller, _target: STATUS.OK),
            ffi.callback("int64_t(struct pv_machine *, const uint8_t *, uint64_t)", write),
            ffi.callback("uint64_t(struct pv_machine *, uint8_t *, uint64_t)", read),
            ffi.callback("void(struct pv_machine *, const struct pv_end *)", end),
        ]
        ops = self.native.ops
        ops.call, ops.upcall, ops.upcall_vector, ops.fault_address, ops.kick, ops.start = self._callbacks[:6]
        ops.console_write, ops.console_read, ops.end = self._callbacks[6:]

    def at(self, gpa: int) -> Any:
        """Host address of `gpa`."""
        return self.ram + (gpa - RAM_GPA)

    def read(self, gpa: int, size_bytes: int) -> bytes:
        return bytes(ffi.buffer(self.at(gpa), size_bytes))

    def write(self, gpa: int, data: bytes) -> None:
        ffi.memmove(self.at(gpa), data, len(data))

    def raw(self, number: int, *args: int, vcpu: int = 0, road: int = ROAD.TRAP) -> tuple[int, int]:
        """Status and value of a call given by its number."""
        call = ffi.new("struct pv_call *", {"id": number, "road": road, "args": list((*args, *[0] * 6)[:6])})
        result = ffi.new("struct pv_result *")
        lib.pv_dispatch(self.vcpus[vcpu], call, result)
        return result.status, result.value

    def batch(self, count: int, submissions_gpa: int, completions_gpa: int) -> tuple[int, int]:
        """base.batch to its end: a busy host stops in between (BATCH-5).  Status, and how many were done."""
        status, done = int(STATUS.CONTINUE), 0
        while status == STATUS.CONTINUE:
            places = submissions_gpa + done * SUBMISSION.size, completions_gpa + done * COMPLETION.size
            status, more = self.call("base.batch", places[0], count - done, places[1], count - done)
            done += more
        return status, done

    def call(self, name: str, *args: int, vcpu: int = 0, road: int = ROAD.TRAP) -> tuple[int, int]:
        """The same by name, such as ``event.send``."""
        service, _, function = name.partition(".")
        return self.raw(SERVICES[service].id(function), *args, vcpu=vcpu, road=road)
