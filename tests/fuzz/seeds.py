"""What the fuzzers begin with: good input of each kind, and the records of the test vectors."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from hypercall_abi import vectors
from hypercall_abi.boot import BOOT_HEADER, BOOT_INFO, BOOT_MAGIC, BOOT_RECORD
from hypercall_abi.callring import RING_SETUP
from hypercall_abi.conventions import ROAD
from hypercall_abi.devices.virtio_vsock import VSOCK_HEADER, VSOCK_OPERATION
from hypercall_abi.model.dispatch import CALLS, call_id
from hypercall_abi.model.virtqueue import Desc
from hypercall_abi.recording import (
    RECORDED,
    RECORDED_ACCESS,
    RECORDED_BUFFER,
    RECORDED_CALL,
    RECORDED_MACHINE,
    RECORDING,
)
from hypercall_abi.services.device import QUEUE_SETUP
from hypercall_abi.virtqueue import DESC_FLAG, VIRTIO_FEATURE
from paravirt._native import ffi, lib
from paravirt.recording import pcapng
from paravirt.vhost_user.messages import (
    FEATURE_PROTOCOL,
    INFLIGHT,
    MEMORY,
    NEED_REPLY,
    REGION,
    U64,
    VERSION,
    VRING_ADDRESSES,
    VRING_STATE,
    Request,
)
from tests.support import elf
from tests.support.built import GUESTS

from .build import OUT

VECTORS = [v for path in sorted(Path(vectors.__file__).parent.glob("*.txt")) for v in vectors.parse(path.read_text())]
FRONT_END_WRITE, FRONT_END_CUT, FRONT_END_KICK, FRONT_END_FILL = range(250, 254)  # of targets/front_end.py
LOW_GPA = 0x10_0000  # of targets/calls.c
CALL, WRITE, SUBMIT, VISIT, SERVE = 0, 3, 4, 5, 6
ENTER = b"\x08"  # switches: the features are accepted


def boot_info() -> Iterator[bytes]:
    """Boot information of every record that there is a vector of."""
    kinds = {f"boot_{value.name.lower()}": value.number for value in BOOT_RECORD}
    kinds["boot_memory"] = BOOT_RECORD.MEMORY_MAP
    payloads = [(kinds[v.record], v.data) for v in VECTORS if v.record in kinds]
    payloads += [(BOOT_RECORD.COMMAND_LINE, b"quiet\0"), (BOOT_RECORD.SEED, bytes(range(32))), (BOOT_RECORD.END, b"")]
    records = b"".join(
        BOOT_HEADER.build({"type": kind, "flags": 0, "size_bytes": len(data)}) + data + bytes(-len(data) % 8)
        for kind, data in payloads
    )
    size = BOOT_INFO.size + len(records)
    yield BOOT_INFO.build({"magic": BOOT_MAGIC.MAGIC, "size_bytes": size, "records": len(payloads)}) + records


def virtqueue() -> Iterator[bytes]:
    """Rings of eight descriptors: a chain, an indirect table, a loop; packed rings of the same."""
    base = 0x1_0000
    chain = [Desc(base + 0x600, 16, DESC_FLAG.NEXT, 1), Desc(base + 0x610, 32, DESC_FLAG.WRITE, 0)]
    indirect = [Desc(base + 0x500, 32, DESC_FLAG.INDIRECT, 0)]
    loop = [Desc(base + 0x600, 16, DESC_FLAG.NEXT, 0)]
    for table in (chain, indirect, loop):
        memory = bytearray(2048)
        packed = b"".join(d.pack() for d in table)
        memory[: len(packed)] = packed
        memory[0x302:0x304] = b"\1\0"  # the available index
        memory[0x500:0x520] = b"".join(d.pack() for d in chain)
        yield bytes([3, 3, 0, 0]) + bytes(memory) + struct.pack("<HH", 0x302, 2)
        memory[: len(packed)] = b"".join(_packed(d, 0, DESC_FLAG.PACKED_AVAIL) for d in table)
        memory[0x500:0x520] = b"".join(_packed(d, 0xFFFF, 0) for d in chain)
        for features in (4, 7, 15):  # the second chain is made available by the first word that is written
            yield bytes([3, features, 0, 0]) + bytes(memory) + struct.pack("<HH", 0x2E, DESC_FLAG.PACKED_AVAIL)


def _packed(d: Desc, name: int, mark: int) -> bytes:
    return struct.pack("<QIHH", d.gpa, d.size_bytes, name, d.flags | mark)


def _write(at: int, data: bytes) -> bytes:
    pieces = (data[i : i + 64] for i in range(0, len(data), 64))
    return b"".join(struct.pack("<BHB", WRITE, at + 64 * i, len(piece) - 1) + piece for i, piece in enumerate(pieces))


def _number(number: int) -> bytes:
    """An argument in the class that is shortest."""
    if number < 32:
        return bytes([8 * number])
    return b"\x07" + struct.pack("<Q", number)


def _call(number: int, *args: int) -> bytes:
    service, function = number >> 16, number & 0xFFFF
    return bytes([CALL, 0, service, function, 0, len(args)]) + b"".join(map(_number, args))


def calls() -> Iterator[bytes]:
    """Every call of the declaration, every record in memory, and a guest that starts its ring and its device."""
    for number, (_, call) in CALLS.items():
        yield ENTER + _call(number, *[LOW_GPA if "gpa" in name else 1 for name in call.registers])
    for vector in VECTORS:
        if len(vector.data) <= 512:
            yield ENTER + _write(0, vector.data) + _call(call_id("base.ring"), LOW_GPA, 1)
    yield ENTER + _ring() + _device()


def _ring() -> bytes:
    areas = {"submissions_gpa": LOW_GPA, "completions_gpa": LOW_GPA + 0x1000, "control_gpa": LOW_GPA + 0x2000}
    setup = RING_SETUP.build({"entries": 4, "channel": 20, "flags": 0, **areas})
    submission = bytes([SUBMIT, 0, 3, 0, 2]) + _number(1) + _number(20)
    begin = _write(0x3000, setup) + _call(call_id("base.ring"), LOW_GPA + 0x3000, 1)
    return begin + submission + _write(0x2000, b"\1\0\0\0") + bytes([VISIT, 0])


def _device() -> bytes:
    features = VIRTIO_FEATURE.VERSION_1 | VIRTIO_FEATURE.INDIRECT_DESC | VIRTIO_FEATURE.RING_RESET
    queue = {"queue": 0, "size": 8, "vcpu": 0, "channel": 21}
    areas = {"descriptors_gpa": LOW_GPA + 0x4000, "driver_gpa": LOW_GPA + 0x4100, "device_gpa": LOW_GPA + 0x4200}
    status = [_call(call_id("device.set_status"), 0, bits) for bits in (1, 3, 11, 15)]
    return b"".join(
        (
            *status[:2],
            _call(call_id("device.accept"), 0, 0, features),
            status[2],
            _write(0x3100, QUEUE_SETUP.build(queue | areas)),
            _call(call_id("device.queue_setup"), 0, LOW_GPA + 0x3100),
            status[3],
            _write(0x4000, Desc(LOW_GPA + 0x5000, 16, 0, 0).pack()),
            _write(0x4102, b"\1\0"),
            bytes([SERVE, 0, 0]),
        )
    )


def image() -> Iterator[bytes]:
    """Small images with every kind of note, and the smallest that is shipped."""
    notes = [elf.require({1: 0, 7: 1}), elf.manifest((2, 0, "disk")), elf.privilege(3), elf.cpu(2)]
    yield elf.Elf(notes=notes).build()
    yield elf.Elf(notes=[elf.pvh()]).build()
    yield min(GUESTS.glob("*.elf"), key=lambda path: path.stat().st_size).read_bytes()


def recording() -> Iterator[bytes]:
    """A machine, calls and a moment, as packets: one by one and together."""
    head = pcapng.head(["a comment"], "seeds")
    one = {v.record.removeprefix("recorded_"): v for v in VECTORS if v.record.startswith("recorded_")}
    machine, counts = bytearray(one["machine"].data), one["machine"].values
    at = RECORDED_MACHINE.offset("format")
    machine[at : at + 2] = struct.pack("<H", RECORDING.FORMAT)  # the vector has a number of its own in each field
    packets = [
        bytes(machine) + one["service"].data * counts["services"] + one["device"].data * counts["devices"],
        _recorded("console.write", [LOW_GPA, 5], (0, RECORDED_ACCESS.READ, b"hello")),
        _recorded("base.boot_info", [LOW_GPA, 64], (0, RECORDED_ACCESS.WRITE, bytes(64)), value=64),
        _recorded("event.send", [0, 20]),
        one["moment"].data,
    ]
    yield from (head + _packet(packet) for packet in packets)
    yield head + b"".join(map(_packet, packets))


def _recorded(name: str, args: list[int], *buffers: tuple[int, int, bytes], value: int = 0) -> bytes:
    fields = {"kind": RECORDED.CALL, "road": ROAD.TRAP, "vcpu": 0, "call": call_id(name), "buffers": len(buffers)}
    answer = {"status": 0, "value": value, "begin_ns": 1000, "end_ns": 2000}
    heads = [
        {"argument": argument, "access": access, "bytes": len(data), "length_bytes": len(data)}
        for argument, access, data in buffers
    ]
    call: bytes = RECORDED_CALL.build(fields | answer | {"args": (args + [0] * 6)[:6]})
    return call + b"".join(map(RECORDED_BUFFER.build, heads)) + b"".join(data for _, _, data in buffers)


def _packet(data: bytes) -> bytes:
    body = struct.pack("<IIIII", 0, 0, 0, len(data), len(data)) + data + bytes(-len(data) % 4)
    size = len(body) + 12
    return struct.pack("<II", pcapng.PACKET, size) + body + struct.pack("<I", size)


def extension() -> Iterator[bytes]:
    """Descriptions of a module with one call, and with as many as there can be."""
    for count in (1, lib.PV_MODULE_CALLS):
        description = ffi.new(
            "struct pv_module_description *",
            {"name": b"answer", "vendor": b"you", "version": b"1.0", "service": 0xC042, "call_count": count},
        )
        for number in range(count):
            description.names[number] = b"answer_ask%d" % number
            call = description.calls[number]
            call.roads, call.feature, call.count = 7, -1, 1
            call.arguments[0] = {"kind": lib.PV_ARGUMENT_WRITE, "align": 8, "unit": 8, "limit": 1, "fixed": 1}
        yield bytes(ffi.buffer(description))


def vsock() -> Iterator[bytes]:
    """A connection from each side with data, room, and every end; a packet that is none."""

    def packet(operation: int, host: bool, size_bytes: int = 0, flags: int = 0) -> bytes:
        # of port 1 of the guest's to port 1 of the host's, or of its port 3 to the first that the host takes
        ports = 0x80 | 3 << 1 if host else 1 << 1
        return struct.pack("<BBHBBHBB", 1, ports, size_bytes, operation, flags, 4096, 0, 20)

    op, room, accept, program = VSOCK_OPERATION, b"\xf2", b"\x03\x00", 3
    data, leave = bytes([program, 1 << 3 | 0x20]) + bytes(64), bytes([program, 3 << 3])
    guests = packet(op.REQUEST, False) + accept + room + packet(op.DATA, False, 900) + data + room
    yield guests + packet(op.SHUTDOWN, False, flags=3) + room
    yield guests + leave + room + packet(op.CREDIT_REQUEST, False) + packet(op.RESET, False)
    yield guests + packet(op.DATA, False, 60000) * 8 + room + bytes([program, 2 << 3]) * 8 + room
    hosts = accept + room + packet(op.RESPONSE, True) + room + data + room + packet(op.DATA, True, 100)
    yield hosts + bytes([program, 3 << 3 | 0x80]) + room + packet(op.SHUTDOWN, True, flags=3) + room
    yield (
        b"\x00\x2c\x10"
        + VSOCK_HEADER.build(dict.fromkeys((field.name for field in VSOCK_HEADER.subcons), 1) | {"source_cid_high": 0})
        + room
    )


def front_end() -> Iterator[bytes]:
    """A session of each kind of device and queue, up to a queue that works and back; pranks in it; each request."""
    at = 0x7000_0000
    flags = VERSION | NEED_REPLY

    def said(request: int, fds: int = 0, data: bytes = b"") -> bytes:
        return bytes([request, flags, fds, len(data)]) + data

    table = said(Request.SET_MEM_TABLE, 1, MEMORY.pack(1, 0) + REGION.pack(0, 1 << 20, at, 0))
    for kind, features in product((b"\x00", b"\x80"), (0, VIRTIO_FEATURE.RING_PACKED)):
        base = 0x8000_8000 if features else 0
        begin = [
            said(Request.GET_FEATURES),
            said(Request.GET_PROTOCOL_FEATURES),
            said(Request.SET_PROTOCOL_FEATURES, 0, U64.pack(1 << 3 | 1 << 12 | 1 << 16)),
            said(Request.SET_OWNER),
            said(Request.SET_FEATURES, 0, U64.pack(VIRTIO_FEATURE.VERSION_1 | FEATURE_PROTOCOL | features)),
            table,
            said(Request.GET_INFLIGHT_FD, 0, INFLIGHT.pack(0, 0, 1, 16)),
            said(Request.SET_INFLIGHT_FD, 1, INFLIGHT.pack(4096, 0x8000, 1, 16)),
            said(Request.SET_VRING_NUM, 0, VRING_STATE.pack(0, 16)),
            said(Request.SET_VRING_BASE, 0, VRING_STATE.pack(0, base)),
            said(Request.SET_VRING_ADDR, 0, VRING_ADDRESSES.pack(0, 0, at, at + 0x2000, at + 0x1000, 0)),
            said(Request.SET_VRING_KICK, 2, U64.pack(0)),
            said(Request.SET_VRING_CALL, 4, U64.pack(0)),
            said(Request.SET_VRING_ERR, 4, U64.pack(0)),
            said(Request.SET_VRING_ENABLE, 0, VRING_STATE.pack(0, 1)),
        ]
        chain = said(FRONT_END_WRITE, 0, bytes(4) + struct.pack("<QIHH", 0x3000, 64, DESC_FLAG.WRITE, 0))
        offered = said(FRONT_END_WRITE, 0, struct.pack("<IHHH", 0x1000, 0, 1, 0))
        works = [chain, offered, said(FRONT_END_KICK), said(Request.GET_STATUS)]
        end = said(Request.GET_VRING_BASE, 0, VRING_STATE.pack(0, 0))
        cut = said(FRONT_END_CUT, 0, bytes(4))
        lies = said(FRONT_END_WRITE, 0, struct.pack("<I", 0x8000) + bytes([1]) * 200)
        yield kind + b"".join([*begin, *works, end])
        yield kind + b"".join([*begin, *works, table, said(FRONT_END_FILL), *works, cut, said(Request.GET_STATUS)])
        yield kind + b"".join([*begin[:6], lies, *begin[6:], *works, end])
        yield kind + b"".join(bytes([request, flags, 0, 8]) + bytes(8) for request in Request)


SEEDS = {seed.__name__: seed for seed in (boot_info, calls, extension, front_end, image, recording, virtqueue, vsock)}


def plant(name: str) -> Path:
    """The directory of a target's corpus, its seeds in it; what earlier runs found interesting is kept."""
    place = OUT / "corpus" / name
    place.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(SEEDS[name]()):
        (place / f"seed-{number:03}").write_bytes(data)
    return place
