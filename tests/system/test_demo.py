"""The main job on KVM: verified digests in every mode that a user can choose."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi import SERVICES
from paravirt import MachineConfig
from paravirt.cli import main
from paravirt.demo import Verified, compare, parse_list, run_demo
from paravirt.errors import DemoFailed
from tests.support.built import GUESTS, without_notes

pytestmark = [pytest.mark.kvm]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files with awkward sizes and names."""
    rng = random.Random(7)
    root = tmp_path / "tree"
    sizes = {"empty": 0, "one": 1, "sector": 512, "sector+1": 513, "blocks": 55 + 64, "page": 4096, "big": 300_001}
    for name, size in sizes.items():
        (root / "a").mkdir(parents=True, exist_ok=True)
        (root / "a" / name).write_bytes(rng.randbytes(size))
    (root / "a" / ("long" * 40)).write_bytes(b"a name that no ustar header holds")
    (root / "a" / "grüße ☃").write_bytes(b"not ASCII")
    return root


def demo(tree: Path, work: Path, **options: Any) -> Verified:
    work.mkdir(exist_ok=True)
    image = options.pop("image", GUESTS / "demo.elf")
    return run_demo(MachineConfig(image, timeout_s=100, **options), [tree], work, lambda _: None)


@pytest.mark.parametrize("poison", [False, True], ids=["plain", "poison"])
@pytest.mark.parametrize("transport", ["calls", "mmio"])
@pytest.mark.parametrize("vcpus", [1, 2, 4])
def test_demo(tree: Path, tmp_path: Path, vcpus: int, transport: str, poison: bool) -> None:
    done = demo(tree, tmp_path / "work", vcpus=vcpus, transport=transport, poison=poison)
    assert done.files == 9
    assert done.outcome.kind == "shutdown"
    assert all(v.calls for v in done.outcome.statistics.vcpus), "a vCPU did nothing"


@pytest.mark.parametrize("engine", ["uring", "threads"])
def test_demo_with_either_engine(tree: Path, tmp_path: Path, engine: str) -> None:
    demo(tree, tmp_path / "work", io_engine=engine)


@pytest.mark.nested
def test_demo_at_cpl_0(tmp_path: Path) -> None:
    """Slow where KVM emulates CPL 0, so the tree is small."""
    small = tmp_path / "small"
    small.mkdir()
    (small / "file").write_bytes(bytes(range(256)) * 8)
    demo(small, tmp_path / "work", privilege="supervisor", vcpus=2, poison=True)


@pytest.mark.nested
def test_demo_at_cpl_3(tree: Path, tmp_path: Path) -> None:
    demo(tree, tmp_path / "work", vcpus=2)


@pytest.mark.parametrize("vcpus", [1, 3])
def test_demo_entered_by_pvh(tree: Path, tmp_path: Path, vcpus: int) -> None:
    """The same image without our notes: a plain guest that finds the host by CPUID (CPUID-1, NOTE-4)."""
    image = without_notes(GUESTS / "demo.elf", tmp_path)
    demo(tree, tmp_path / "work", vcpus=vcpus, image=image)


def test_demo_with_much_memory(tree: Path, tmp_path: Path) -> None:
    """RAM on both sides of the hole for devices."""
    demo(tree, tmp_path / "work", memory_bytes=5 << 30)


def test_demo_command(tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.json"
    assert main(["demo", "--tree", str(tree), "--json", "--trace", str(trace), "--repeat", "2", "--vcpus", "2"]) == 0
    out, err = capfd.readouterr()
    answer = json.loads(out)
    assert answer["verified"]["files"] == 9
    assert answer["outcome"]["kind"] == "shutdown"
    assert "verified: 9 files" in err


def test_the_trace_has_a_track_per_vcpu_and_disk(tree: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    done = demo(tree, tmp_path / "work", vcpus=2, trace=trace)
    written = json.loads(trace.read_text())
    events = written["traceEvents"]
    assert [e["args"]["name"] for e in events if e.get("name") == "process_name"] == ["paravirt"]
    tracks = {e["tid"]: e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    assert sorted(tracks.values()) == [
        *(f"disk {name} queue {n}" for name in ("input", "report") for n in range(2)),
        *("vCPU 0", "vCPU 1"),
    ]
    calls = [e for e in events if e.get("cat") == "call"]
    assert len(calls) == sum(v.calls for v in done.outcome.statistics.vcpus)
    assert {"console.write", "device.list", "vcpu.start", "system.shutdown"} <= {e["name"] for e in calls}
    assert all(e["args"]["status"] in ("OK", "CONTINUE") for e in calls)
    exits = [e for e in events if e.get("cat") == "exit"]
    assert len(exits) == sum(v.exits for v in done.outcome.statistics.vcpus)
    requests = [e for e in events if e.get("cat") == "request" and "args" in e]
    assert {e["args"]["device"] for e in requests} == {"disk input", "disk report"}
    assert sum(e["ph"] == "B" for e in events) == sum(e["ph"] == "E" for e in events) > 0
    assert all(e.get("dur", 0) >= 0 for e in events)
    assert all(0 <= e["ts"] < 100e6 for e in events if e["ph"] != "M"), "not since the start"
    assert written["otherData"]["lost"] == 0


def test_the_trace_names_arguments_and_pairs_requests(tree: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    demo(tree, tmp_path / "work", trace=trace)
    events = json.loads(trace.read_text())["traceEvents"]
    for call in (e for e in events if e.get("cat") == "call"):
        service, _, name = call["name"].partition(".")
        assert tuple(call["args"]["given"]) == SERVICES[service][name].registers
    requests = [e for e in events if e.get("cat") == "request" and "args" in e]
    pairs = list(zip(requests[::2], requests[1::2], strict=True))
    assert len({begin["id"] for begin, _ in pairs}) == len(pairs) > 0
    for begin, end in pairs:
        assert (begin["ph"], end["ph"]) == ("b", "e")
        assert begin["ts"] <= end["ts"]
        assert [begin[k] for k in ("id", "name", "tid", "args")] == [end[k] for k in ("id", "name", "tid", "args")]


def test_a_wrong_digest_is_found(tree: Path) -> None:
    listing = {"a/one": (1, "0" * 64), "a/two": (2, "1" * 64)}
    text = b"".join(f"{digest}  {size}  {name}\n".encode() for name, (size, digest) in listing.items())
    assert parse_list(b"noise\n" + text) == listing
    for wrong in ({"a/one": (1, "0" * 64)}, listing | {"a/two": (3, "1" * 64)}, listing | {"x": (0, "2" * 64)}):
        with pytest.raises(DemoFailed):
            compare("it", wrong, listing)
