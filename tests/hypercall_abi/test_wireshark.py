"""The dissector, by tshark: what it shows of a recording is what the recording's reader finds in it."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path

import pytest

from hypercall_abi import RECORDS, SERVICES, STATUS
from hypercall_abi.emit import wireshark
from hypercall_abi.recording import RECORDED, RECORDED_ACCESS
from paravirt.recording.reader import Call, Life, read
from tests.support.tree import ROOT

DISSECTOR = ROOT / "hypercall_abi" / "wireshark" / "paravirt.lua"
GOLDEN = sorted((ROOT / "tests" / "paravirt" / "recording" / "golden").glob("*.pcapng"))
each_golden = pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)


def tshark(path: Path, *options: str) -> str:
    done = subprocess.run(
        ["tshark", "-X", f"lua_script:{DISSECTOR}", "-r", str(path), *options],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and "Lua" not in done.stderr, done.stderr
    return done.stdout


def names() -> list[str]:
    """The fields of calls and moments, and one of each other kind."""
    own = "kind call name vcpu status status_name value begin end input output channel short".split()
    declared = [f"{s.name}.{c.name}.{register}" for s in SERVICES.values() for c in s.calls for register in c.registers]
    return [*own, *declared, "recorded_machine.image", "recorded_machine.vcpus", "queue_setup.size"]


@cache
def packets(path: Path) -> list[dict[str, str]]:
    """What the dissector shows of each packet; a field that is not there is empty."""
    options = [word for name in names() for word in ("-e", f"paravirt.{name}")]
    text = tshark(path, "-T", "fields", "-E", "occurrence=a", *options, "-e", "_ws.malformed", "-e", "_ws.lua.error")
    columns = [*names(), "malformed", "lua"]
    return [dict(zip(columns, line.split("\t"), strict=True)) for line in text.splitlines()]


def calls_shown(path: Path) -> list[dict[str, str]]:
    return [packet for packet in packets(path) if packet["call"]]


def one_life(path: Path) -> Life:
    (life,) = read(path)
    return life


def test_there_are_recordings() -> None:
    assert GOLDEN


@each_golden
def test_calls(path: Path) -> None:
    shown = [
        tuple(p[name] for name in ("call", "name", "vcpu", "status", "status_name", "value", "begin", "end"))
        for p in calls_shown(path)
    ]
    expected = [
        (
            f"0x{call.id:08x}",
            call.name,
            str(call.vcpu),
            str(call.status),
            STATUS.name_of(call.status),
            str(call.value),
            str(call.begin_ns),
            str(call.end_ns),
        )
        for call in one_life(path).calls
    ]
    assert shown == expected


@each_golden
def test_arguments_by_their_names(path: Path) -> None:
    declared = {f"{s.name}.{c.name}": c.registers for s in SERVICES.values() for c in s.calls}
    for shown, call in zip(calls_shown(path), one_life(path).calls, strict=True):
        registers = declared.get(call.name, ())
        given = {name: shown[f"{call.name}.{name}"] for name in registers}
        assert given == {name: str(value) for name, value in zip(registers, call.args, strict=False)}


@each_golden
def test_bytes_of_buffers(path: Path) -> None:
    def joined(call: Call, access: int) -> str:
        return ",".join(b.data.hex() for b in call.buffers if b.access == access and b.data)

    shown = [(p["input"], p["output"]) for p in calls_shown(path)]
    assert shown == [(joined(c, RECORDED_ACCESS.READ), joined(c, RECORDED_ACCESS.WRITE)) for c in one_life(path).calls]


@each_golden
def test_nothing_is_malformed_nor_fails(path: Path) -> None:
    life = one_life(path)
    assert len(packets(path)) == 1 + len(life.calls) + len(life.moments)
    for packet in packets(path):
        assert packet["kind"] and not (packet["short"] or packet["malformed"] or packet["lua"]), packet


def test_records_inside_of_buffers() -> None:
    path = next(path for path in GOLDEN if path.stem == "devices")
    setups = [c for c in one_life(path).calls if c.name == "device.queue_setup" and c.buffers]
    shown = [p["queue_setup.size"] for p in calls_shown(path) if p["name"] == "device.queue_setup" and p["input"]]
    at = RECORDS["queue_setup"].offset("size")
    assert shown and shown == [str(int.from_bytes(c.buffers[0].data[at : at + 2], "little")) for c in setups]


def test_machine_and_moments() -> None:
    path = next(path for path in GOLDEN if path.stem == "demo")
    life = one_life(path)
    machine = packets(path)[0]
    assert (machine["recorded_machine.image"], machine["recorded_machine.vcpus"]) == (life.image, str(life.vcpus))
    raised = [(p["vcpu"], p["channel"]) for p in packets(path) if p["channel"]]
    assert raised and raised == [(str(m.vcpu), str(m.number)) for m in life.moments if m.kind == RECORDED.EVENT]


def test_a_cut_packet_is_marked(tmp_path: Path) -> None:
    """A packet whose own lengths lie, inside of a good file."""
    from paravirt.recording import pcapng

    packet = bytes([RECORDED.CALL, 0]) + bytes(20)
    body = bytes(12) + len(packet).to_bytes(4, "little") * 2 + packet + bytes(-len(packet) % 4)
    size = (len(body) + 12).to_bytes(4, "little")
    (tmp_path / "cut.pcapng").write_bytes(pcapng.head([], "test") + (6).to_bytes(4, "little") + size + body + size)
    shown = json.loads(tshark(tmp_path / "cut.pcapng", "-T", "json"))
    assert "paravirt.short" in json.dumps(shown)


def test_every_name_of_the_declaration_is_in_it() -> None:
    text = wireshark.emit()
    for service in SERVICES.values():
        for call in service.calls:
            assert f'name = "{service.name}.{call.name}"' in text
    for record in RECORDS:
        assert record.startswith("replay_") or f"\t{record} = {{" in text
