"""Long buffers of extensions in a recording: the file stays within what its readers take."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from hypercall_abi import STATUS
from hypercall_abi.recording import RECORDED_BUFFER, RECORDED_CALL
from paravirt._native import ffi, lib
from tests.paravirt.test_extension import NUMBER, Extension
from tests.support.fake_machine import FakeMachine

NORESERVE = 0x4000  # which the module mmap does not name
HIGH_GPA, HIGH_BYTES = 1 << 33, 5 << 30
READER_MOST_BYTES = 1 << 18
HEAD_BYTES = 28  # of an Enhanced Packet Block


def packets(path: Path) -> list[bytes]:
    data, found = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[4:8], "little")
        assert data[size - 4 : size] == data[4:8], "a block is whole"
        found.append(data[HEAD_BYTES : size - 4])
        data = data[size:]
    return found


@pytest.mark.parametrize(
    ("length", "kept"),
    [(4096, 4096), (65536, 65536), (65537, 65536), (1 << 30, 65536), ((1 << 30) + 1, None), (HIGH_BYTES, None)],
)
def test_output(tmp_path: Path, length: int, kept: int | None) -> None:
    """The beginning of what is long; what no reader takes is left out."""
    machine, extension = FakeMachine(), Extension(answer=lambda _function, args: (STATUS.OK, args[1]))
    write = {"kind": lib.PV_ARGUMENT_WRITE, "align": 1, "unit": 1, "limit": HIGH_BYTES}
    extension.declare(1, arguments=[write])
    assert extension.add(machine) is None
    room = mmap.mmap(-1, HIGH_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
    view = ffi.from_buffer(room)
    assert lib.pv_memory_add(ffi.addressof(machine.native, "memory"), HIGH_GPA, HIGH_BYTES, view) == 0
    path = tmp_path / "packets"
    with path.open("wb") as file:
        recording, capture = ffi.new("struct pv_recording *"), ffi.new("struct pv_capture *")
        lib.pv_recording_init(recording, file.fileno(), 1 << 40)
        machine.native.recording, machine.vcpus[0].capture = recording, capture
        assert machine.raw(NUMBER << 16 | 1, HIGH_GPA, length) == (STATUS.OK, length)
        assert lib.pv_recording_deinit(recording) == 0
    ffi.release(view)
    room.close()
    (packet,) = packets(path)
    assert len(packet) <= READER_MOST_BYTES
    assert RECORDED_CALL.parse(packet).buffers == (kept is not None)
    if kept is not None:
        buffer = RECORDED_BUFFER.parse(packet[RECORDED_CALL.size :])
        assert (buffer.length_bytes, buffer.bytes) == (length, kept)
        assert packet[RECORDED_CALL.size + RECORDED_BUFFER.size :] == bytes(kept)
