"""Reading recordings: what a good file holds, and one clear line for every bad one (REC-1)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercall_abi.recording import RECORDED, RECORDED_CALL, RECORDED_MACHINE
from paravirt.errors import RecordingError
from paravirt.recording import pcapng
from paravirt.recording.convert import convert
from paravirt.recording.reader import read

GOLDEN = Path(__file__).parent / "golden"
HELLO = (GOLDEN / "hello.pcapng").read_bytes()
HEAD = pcapng.head(["a comment"], "test")


def packet(data: bytes, captured: int | None = None, original: int | None = None, interface: int = 0) -> bytes:
    captured = len(data) if captured is None else captured
    body = struct.pack("<IIIII", interface, 0, 0, captured, captured if original is None else original)
    return block(6, body + data + bytes(-len(data) % 4))


def block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def machine(**values: object) -> bytes:
    fields: dict[str, object] = {
        "kind": RECORDED.MACHINE,
        "format": 1,
        "vcpus": 1,
        "major": 1,
        "minor": 0,
        "flags": 0,
        "services": 0,
    }
    fields |= {"devices": 0, "memory_bytes": 1 << 24, "digest": bytes(32), "image_sha256": bytes(32), "image": "x"}
    return bytes(RECORDED_MACHINE.build(fields | values))


def call(**values: object) -> bytes:
    fields = {"kind": RECORDED.CALL, "road": 1, "vcpu": 0, "call": 0x10000, "buffers": 0, "args": [0] * 6, "status": 0}
    return bytes(RECORDED_CALL.build(fields | {"value": 0, "begin_ns": 0, "end_ns": 0} | values))


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(RecordingError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    return text


def test_a_good_file(tmp_path: Path) -> None:
    """With a block of an unknown type, which is skipped (REC-6)."""
    path = tmp_path / "good.pcapng"
    path.write_bytes(HEAD + block(5, b"others count") + packet(machine()) + packet(call(status=-3)))
    (life,) = read(path)
    assert (life.vcpus, life.image, life.memory_bytes) == (1, "x", 1 << 24)
    assert [(c.number, c.name, c.status) for c in life.calls] == [(1, "base.version", -3)]


def test_lives_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "two.pcapng"
    path.write_bytes(HEAD + (packet(machine()) + packet(call())) * 2)
    assert [[c.number for c in life.calls] for life in read(path)] == [[1], [2]]


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "does not begin as a pcapng file"),
    "text": (b"hello from a guest\n", "does not begin as a pcapng file"),
    "old pcap": (struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 147), "does not begin as a pcapng file"),
    "big-endian": (HEAD[:8] + HEAD[8:12][::-1] + HEAD[12:], "big-endian"),
    "no byte order": (HEAD[:8] + b"abcd" + HEAD[12:], "byte order"),
    "version 2": (HEAD[:12] + b"\2\0" + HEAD[14:], "version of pcapng"),
    "huge block": (HEAD + struct.pack("<II", 6, 0xFFFFFFF0), "whose length of"),
    "odd block": (HEAD + struct.pack("<II", 6, 33) + bytes(40), "whose length of 33"),
    "short block": (HEAD + struct.pack("<II", 6, 8) + bytes(40), "whose length of 8"),
    "lengths differ": (HEAD + packet(machine())[:-4] + struct.pack("<I", 12), "two lengths differ"),
    "no packets": (HEAD, "holds no machine"),
    "two sections": (HEAD + HEAD, "more than one section"),
    "two interfaces": (HEAD + block(1, struct.pack("<HHI", 147, 0, 0)), "more than one interface"),
    "ethernet": (HEAD.replace(struct.pack("<HHI", 147, 0, 0), struct.pack("<HHI", 1, 0, 0)), "link type 1,"),
    "interface 1": (HEAD + packet(machine(), interface=1), "of interface 1"),
    "captured too much": (HEAD + packet(machine(), captured=500), "length of 500"),
    "cut by a capture": (HEAD + packet(machine(), original=1000), "length of 160"),
    "no packet head": (HEAD + block(6, bytes(8)), "without a whole head"),
    "call first": (HEAD + packet(call()), "before any machine"),
    "unknown kind": (HEAD + packet(machine()) + packet(b"\x63\0" + bytes(22)), "unknown kind 99"),
    "other format": (HEAD + packet(machine(format=2)), "format 2, and this version reads 1"),
    "no vCPUs": (HEAD + packet(machine(vcpus=0)), "a machine of 0 vCPUs"),
    "services missing": (HEAD + packet(machine(services=3)), "recorded_service needs 16 bytes and 0"),
    "bytes left": (HEAD + packet(machine() + bytes(8)), "8 bytes more than its records"),
    "image not text": (HEAD + packet(machine()[:96] + b"\xff" + bytes(63)), "cannot be read"),
    "padding": (HEAD + packet(machine()[:20] + b"\1" + machine()[21:]), "cannot be read"),
    "vCPU beyond": (HEAD + packet(machine()) + packet(call(vcpu=1)), "by vCPU 1"),
    "seven buffers": (HEAD + packet(machine()) + packet(call(buffers=7)), "7 buffers"),
    "buffer cut": (HEAD + packet(machine()) + packet(call(buffers=1)), "recorded_buffer needs 16 bytes"),
    "buffer lies": (
        HEAD + packet(machine()) + packet(call(buffers=1) + struct.pack("<HHIQ", 0, 1, 9, 8) + bytes(9)),
        "a buffer of 8 bytes with 9",
    ),
    "buffer too long": (
        HEAD + packet(machine()) + packet(call(buffers=1) + struct.pack("<HHIQ", 0, 2, 0, 1 << 40)),
        "a buffer of 1099511627776 bytes",
    ),
    "buffer elsewhere": (
        HEAD + packet(machine()) + packet(call(buffers=1) + struct.pack("<HHIQ", 6, 1, 0, 8)),
        "at argument 6",
    ),
    "bytes missing": (
        HEAD + packet(machine()) + packet(call(buffers=1) + struct.pack("<HHIQ", 0, 1, 8, 8)),
        "a buffer needs 8 bytes and 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path: Path, case: str) -> None:
    data, expected = BAD[case]
    assert expected in refused(tmp_path / "bad.pcapng", data)


@pytest.mark.parametrize("keep", range(12, len(HELLO), 31))
def test_files_cut_off(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.pcapng"
    path.write_bytes(HELLO[:keep])
    boundaries, at = [], 0
    while at < len(HELLO):
        at += int.from_bytes(HELLO[at + 4 : at + 8], "little")
        boundaries.append(at)
    if keep in boundaries and keep > len(HELLO) // 2:
        read(path)
    else:
        refused(path, HELLO[:keep])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot read the recording .*No such file"):
        read(tmp_path / "none")
    with pytest.raises(RecordingError, match="Is a directory"):
        read(tmp_path)


def _survives(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    try:
        for life in read(path):
            convert(life).build()
    except RecordingError as error:
        assert "\n" not in str(error)


@given(st.data())
def test_damaged_files_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any damage inside of packets: never another error than the one for it."""
    good = (GOLDEN / "demo.pcapng").read_bytes()
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(len(HEAD), len(good) - 1))] = data.draw(st.integers(0, 255))
    _survives(bytes(changed), tmp_path_factory.getbasetemp() / "damaged.pcapng")


@given(st.binary(max_size=200), st.sampled_from([RECORDED.MACHINE, RECORDED.CALL, RECORDED.EVENT]))
def test_any_packet(tmp_path_factory: pytest.TempPathFactory, data: bytes, kind: int) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pcapng"
    _survives(HEAD + packet(machine()) + packet(kind.to_bytes(2, "little") + data), path)
