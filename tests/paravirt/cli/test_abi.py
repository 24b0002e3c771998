"""``paravirt abi``: what is declared is shown, in text and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hypercall_abi import CONSTANTS, RECORDS, RULES, SERVICES
from hypercall_abi.conventions import answers
from hypercall_abi.virtio_musts import MUSTS
from paravirt.cli import main
from paravirt.errors import ConfigError

CALLS = [f"{s.name}.{c.name}" for s in SERVICES.values() for c in s.calls]


def _show(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["abi", *words]) == 0
    return capsys.readouterr().out


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(_show(capsys, *words, "--json"))


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    text = _show(capsys)
    assert text.startswith("The paravirt hypercall ABI, version 1.0.\n")
    for service in SERVICES.values():
        assert f"\n{service.number:<6}  {service.name} " in text
    assert "-4     BAD_ADDRESS" in text
    assert "CONSOLE_BYTES" in text


@pytest.mark.parametrize("name", SERVICES)
def test_service(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = _show(capsys, name)
    service = SERVICES[name]
    assert text.startswith(f"service {name} ({service.number})\n")
    for call in service.calls:
        assert f"{service.id(call):#010x}  {name}.{call.name} " in text


def test_service_has_its_records_constants_and_rules(capsys: pytest.CaptureFixture[str]) -> None:
    text = _show(capsys, "time")
    assert "\nrecord time_page, 48 bytes, aligned to 8\n" in text
    assert "\nconstants deadline\n" in text
    assert "\nTIME-2  " in text
    assert "TIME-1" not in _show(capsys, "event")


@pytest.mark.parametrize("name", CALLS)
def test_call(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = _show(capsys, name)
    service = SERVICES[name.partition(".")[0]]
    call = service[name.partition(".")[2]]
    assert f"{service.id(call):#010x} in EAX" in text
    shown = " ".join(text.split())
    assert f"statuses {', '.join(answers(call))} (RAX)" in shown
    for register, argument in zip(("RDI", "RSI", "RCX", "R8"), call.registers, strict=False):
        assert f"\n{register:<8}  {argument} " in text


def test_call_that_does_not_return(capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not return when it is carried out" in _show(capsys, "system.reset")


def test_call_has_its_limits_and_records(capsys: pytest.CaptureFixture[str]) -> None:
    text = _show(capsys, "base.batch")
    assert "BATCH_ENTRIES  256    entries" in text
    assert "\nrecord submission, 64 bytes" in text and "\nrecord completion, 32 bytes" in text
    assert "It takes no arguments." in _show(capsys, "base.version")


@pytest.mark.parametrize("name", RECORDS)
def test_record(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = _show(capsys, name)
    for field in RECORDS[name].fields:
        assert f"\n{field.offset:#x} " in text and f" {field.name} " in text


@pytest.mark.parametrize("name", sorted(set(CONSTANTS) - set(SERVICES)))
def test_constants(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = _show(capsys, name)
    for value in CONSTANTS[name]:
        assert f"  {value.name} " in text


def test_rule_in_any_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert _show(capsys, "vq-3") == _show(capsys, "VQ-3")
    assert " ".join(_show(capsys, "VQ-3").split()).startswith(f"VQ-3 {RULES['VQ-3'].text}")


def test_what_virtio_asks_of_devices(capsys: pytest.CaptureFixture[str]) -> None:
    text = _show(capsys, "virtio-2.4.1-1")
    assert text.startswith(f"VIRTIO-2.4.1-1  {MUSTS['VIRTIO-2.4.1-1'].text}\n")
    assert "(MUST of virtio 1.4, section 2.4.1: Basic Facilities of a Virtio Device / Device Reset)" in text
    assert text.splitlines()[-2:] == ["DEV-1", "DEV-15"]
    assert _show(capsys, "VIRTIO-5.2.6.2-8").splitlines()[-1] == "It has no case: it does not change."


@pytest.mark.parametrize("name", ["-4", "BAD_ADDRESS", "bad_address", "PV_STATUS_BAD_ADDRESS"])
def test_status(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = _show(capsys, name)
    assert text.startswith("status BAD_ADDRESS (-4)\n")
    assert "console.write" in text.partition("Answered by")[2]
    assert "system.shutdown" not in text


def test_other_spellings(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers as a debugger shows them, names as C source has them."""
    for name, plain in {
        "0x20000": "console.write",
        "131072": "console.write",
        "PV_CALL_CONSOLE_WRITE": "console.write",
        "pv_console_write": "console.write",
        "pv_vcpu_page": "vcpu_page",
        "PV_STATUS": "status",
        "0": "OK",
    }.items():
        assert _show(capsys, name) == _show(capsys, plain)


def test_lines_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("", *SERVICES, *CALLS, *RECORDS):
        for line in _show(capsys, *([name] if name else [])).splitlines():
            assert len(line) <= 120, line
            assert line == line.rstrip()


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    everything = _json(capsys)
    assert everything["version"] == [1, 0]
    assert [s["name"] for s in everything["services"]] == list(SERVICES)
    assert {r["id"] for r in everything["rules"]} == set(RULES)
    call = _json(capsys, "device.queue_setup")
    assert call["id"] == 0x00070009
    assert call["registers"][1] == {
        "x86-64": "RSI",
        "name": "setup_gpa",
        "doc": "A queue_setup record. Address: one `queue_setup` (40 bytes), aligned to 8, the host reads.",
    }
    assert _json(capsys, "queue_setup")["fields"][3] == {
        "name": "channel",
        "offset": 8,
        "bytes": 4,
        "c": "uint32_t",
        "count": None,
        "reserved": False,
        "gpa": False,
        "doc": "That channel, or all ones for none.",
    }
    assert _json(capsys, "TRC-1")["page"] == "trace"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("fun", f"the ABI has nothing called 'fun'; the services are {', '.join(SERVICES)}"),
        ("tme", f"the ABI has nothing called 'tme'; did you mean time? the services are {', '.join(SERVICES)}"),
        (
            "PV_STATUS_BAD_ADRESS",
            "the ABI has nothing called 'PV_STATUS_BAD_ADRESS'; did you mean BAD_ADDRESS? "
            f"the services are {', '.join(SERVICES)}",
        ),
        ("time.line", "the ABI has nothing called 'time.line'; time has the calls deadline"),
        ("CON-x", "the ABI has nothing called 'CON-x'; the rules are CON-1 to CON-4"),
    ],
)
def test_unknown_name(capsys: pytest.CaptureFixture[str], name: str, advice: str) -> None:
    assert main(["abi", name]) == ConfigError.exit_status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"paravirt: {advice}\n"
