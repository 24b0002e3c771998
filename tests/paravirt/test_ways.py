"""The way of each request through queue, back end and interrupt, as the C core tells it to a trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hypercall_abi.devices.virtio_block import BLOCK_REQUEST, BLOCK_STATUS
from hypercall_abi.devices.virtio_net import NET_HEADER
from hypercall_abi.devices.virtio_pmem import PMEM_TYPE
from paravirt import Disk, Machine, MachineConfig
from paravirt._native import lib
from paravirt.attachments import FileAttachment
from paravirt.attachments.pmem import Pmem
from paravirt.boot.bundled import find_image
from paravirt.devices.base import VIRTIO_FEATURE
from paravirt.outcome import Statistics
from tests.support.block_driver import SECTOR, block_guest
from tests.support.fake_guest import PluggedDevice
from tests.support.net_driver import frame, net_guest
from tests.support.pmem_driver import pmem_guest
from tests.support.vsock_driver import OP, Packet, vsock_guest
from tests.support.waiting import wait_for
from tests.support.ways import STEPS, Event, Traced

WHOLE = ("seen", *STEPS)
TIMEOUT_S = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    return path


def in_order(event: Event) -> bool:
    """Whether each step was after the one before."""
    return list(event.times.values()) == sorted(event.times.values())


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Traced:
    """Follows every device that is plugged in."""
    traced = Traced()
    monkeypatch.setattr(PluggedDevice, "traced", traced)
    return traced


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize("engine", ["uring", "threads"])
def test_what_is_asked_and_answered(traced: Traced, path: Path, engine: Any, packed: bool) -> None:
    with block_guest(path, engine=engine, packed=packed) as disk:
        disk.read(3, SECTOR)
        disk.write(1 << 40, bytes(SECTOR))
        disk.flush()
        ways = traced.ways(3)
    assert [(e.id, e.status, e.value, e.bytes) for e in ways] == [
        (BLOCK_REQUEST.READ, BLOCK_STATUS.OK, 3, SECTOR),
        (BLOCK_REQUEST.WRITE, BLOCK_STATUS.IO_ERROR, 1 << 40, SECTOR),
        (BLOCK_REQUEST.FLUSH, BLOCK_STATUS.OK, 0, 0),
    ]
    assert [tuple(e.times) for e in ways] == [WHOLE, ("seen", "taken", "used", "told"), WHOLE]
    assert all(in_order(e) and e.chains == 1 for e in ways)


def test_those_that_wait_together_are_seen_together(traced: Traced, path: Path) -> None:
    with block_guest(path) as disk:
        # Each alone: far from the one before it.
        disk.send(*(disk.lay_out(BLOCK_REQUEST.READ, 1000 - 100 * n, room_bytes=SECTOR) for n in range(4)))
        disk.finish(4)
        ways = traced.ways(4)
    ways.sort(key=lambda e: -e.value)
    assert len({e.times["seen"] for e in ways}) == 1
    taken = [e.times["taken"] for e in ways]
    assert taken == sorted(set(taken))
    assert all(in_order(e) and tuple(e.times) == WHOLE for e in ways)


def test_one_operation_for_several_requests(traced: Traced, path: Path) -> None:
    """Merged requests go the same way, each with its own bytes."""
    with block_guest(path) as disk:
        disk.send(*(disk.lay_out(BLOCK_REQUEST.WRITE, n, data=bytes(SECTOR)) for n in range(4)))
        disk.finish(4)
        ways = traced.ways(4)
        assert disk.device.device.statistics()["merges"] == 3
    assert [(e.value, e.bytes) for e in ways] == [(n, SECTOR) for n in range(4)]
    assert all(in_order(e) and tuple(e.times) == WHOLE for e in ways)


@pytest.mark.parametrize("wanted", [True, False])
def test_whether_the_driver_was_interrupted(traced: Traced, path: Path, wanted: bool) -> None:
    with block_guest(path, without=VIRTIO_FEATURE.EVENT_IDX) as disk:
        if not wanted:
            disk.driver.mute()
        disk.send(disk.lay_out(BLOCK_REQUEST.READ, 0, room_bytes=SECTOR))
        disk.finish(interrupts=False)
        (way,) = traced.ways(1)
    assert way.interrupted == wanted
    assert in_order(way)


def test_what_finds_no_room_is_counted(traced: Traced, path: Path) -> None:
    traced.track.size = 4
    with block_guest(path, poll_ns=0) as disk:
        for sector in range(20):
            disk.read(sector, SECTOR)
    assert traced.track.head - traced.track.tail == 4
    assert traced.track.lost >= 16


def test_what_was_never_given_back(traced: Traced) -> None:
    """Room for a frame that does not come is in the trace when the driver takes it back."""
    with net_guest() as (driver, _):
        driver.offer([2048])
        wait_for(lambda: driver.device.native.queues[0].taken[0].places, "the room was not taken")
        assert traced.take() == []
        driver.device.set_status(0)
        (way,) = traced.take()
    assert tuple(way.times) == ("seen", "taken")


def test_frames_of_a_batch_go_together(traced: Traced) -> None:
    with net_guest() as (driver, link):
        for n in range(3):
            driver.transmit(frame(100, n))
        driver.sent(3)
        assert [len(link.recv(2048)) for _ in range(3)] == [100] * 3
        ways = [way for way in _until_chains(traced, 3) if way.chains]
    assert sum(way.chains for way in ways) == 3
    assert sum(way.bytes for way in ways) == 3 * (100 + NET_HEADER.size)
    assert all(in_order(way) and way.times.keys() >= {"taken", "used", "told"} for way in ways)


def _until_chains(traced: Traced, chains: int) -> list[Event]:
    found: list[Event] = []
    while sum(way.chains for way in found) < chains:
        found += traced.ways(1)
    return found


def test_flushes_that_one_sync_answers(traced: Traced, path: Path) -> None:
    path.write_bytes(bytes(2 << 20))
    with pmem_guest(path) as disk:
        disk.send(PMEM_TYPE.FLUSH, PMEM_TYPE.FLUSH)
        disk.finish(2)
        ways = traced.ways(2)
    assert len({way.times["submitted"] for way in ways}) <= 2
    assert all(tuple(way.times) == WHOLE and in_order(way) and way.id == PMEM_TYPE.FLUSH for way in ways)


def test_packets_are_named(traced: Traced, tmp_path: Path) -> None:
    with vsock_guest(tmp_path / "v") as driver:
        peer, host_port = driver.host_connects(1234)
        with peer:
            driver.send(Packet(OP.DATA, 1234, host_port, b"answer"))
            assert peer.recv(100) == b"answer"
        ways = traced.ways(3)
    assert [(way.id, way.value, way.bytes) for way in ways[:3]] == [
        (OP.REQUEST, host_port, 0),
        (OP.RESPONSE, host_port, 0),
        (OP.DATA, host_port, 6),
    ]


def events_of(tmp_path: Path, guest: str, words: str, **more: Any) -> tuple[list[dict[str, Any]], Statistics]:
    """The events of a guest that ended well, and the machine's statistics; none was lost."""
    trace = tmp_path / "trace.json"
    config = MachineConfig(
        find_image(guest), memory_bytes=32 << 20, command_line=words, trace=trace, timeout_s=TIMEOUT_S, **more
    )
    with Machine(config) as machine:
        outcome = machine.run()
    assert (outcome.reason, outcome.status) == ("POWEROFF", 0)
    written = json.loads(trace.read_text())
    assert written["otherData"]["lost"] == 0
    return written["traceEvents"], outcome.statistics


@pytest.mark.kvm
@pytest.mark.parametrize("wait", ["poll", "event"])
def test_the_trace_of_a_guest_has_each_request(tmp_path: Path, path: Path, wait: str) -> None:
    """Count, order of the steps, and arrows from the first to the interrupt, on the track of the queue."""
    words = f"requests=60 depth=4 queues=2 op=write wait={wait}"
    events, statistics = events_of(tmp_path, "bench_block", words, vcpus=2, disks=(Disk("disk", path),))
    (disk,) = statistics.devices
    tracks = {e["args"]["name"]: e["tid"] for e in events if e.get("name") == "thread_name"}
    queues = [tracks[f"disk queue {n}"] for n in range(2)]
    bars = [e for e in events if e.get("cat") == "request" and e["name"] == "write"]
    assert len(bars) == 2 * disk.more["requests"] > 120
    for begin, end in zip(bars[::2], bars[1::2], strict=True):
        assert (begin["ph"], end["ph"], begin["id"]) == ("b", "e", end["id"])
        assert begin["tid"] == queues[begin["args"]["queue"]]
        mine = [e for e in events if e.get("id") == begin["id"] and e["tid"] == begin["tid"]]
        arrows = [e for e in mine if e["cat"] == "way"]
        assert "".join(e["ph"] for e in arrows) == "sttttf"
        times = [e["ts"] for e in arrows]
        assert times == sorted(times)
        assert (begin["ts"], end["ts"]) == (times[0], times[-1])
        parts = {e["name"]: e["ts"] for e in mine if e["cat"] == "request" and e["ph"] == "b"}
        assert list(parts) == ["write", "queue", "back end", "engine", "interrupt"]
        assert list(parts.values()) == [times[0], times[0], times[1], times[2], times[4]]
    for name, count in (("interrupt", disk.interrupts), ("used", disk.more["requests"])):
        assert sum(e["ph"] == "X" and e["name"] == name and e["tid"] in queues for e in events) == count


@pytest.mark.kvm
def test_every_arrow_ends_where_it_was_decided(tmp_path: Path, path: Path) -> None:
    """What begins next on the track, at that time, is the interrupt or that there is none."""
    events, _ = events_of(tmp_path, "bench_block", "requests=40 depth=2 wait=event", disks=(Disk("disk", path),))
    ends = [e for e in events if e["ph"] == "f" and e["cat"] == "way"]
    assert len(ends) > 40
    decisions = [e for e in events if e["ph"] == "X" and e["name"] in ("interrupt", "no interrupt")]
    decided = {(e["tid"], e["ts"]): e["name"] for e in decisions}
    answers = {e["id"]: e["args"] for e in events if e["ph"] == "b" and "args" in e}
    for end in ends:
        assert decided[end["tid"], end["ts"]] == answers[end["id"]]["end"]
    assert all(e["args"]["vcpu"] == 0 for e in decisions if e["name"] == "interrupt")


def test_interrupts_at_one_time_are_two(traced: Traced) -> None:
    """Queues that wait for one limit decide at one tick of the clock, for the same channel of a vCPU each."""
    with net_guest() as (driver, _):
        device = driver.device.native
        for queue in range(2):
            device.queues[queue].way.decided_ns = 1
            lib.pv_device_interrupt(device, queue)
        one, other = traced.take(lib.PV_TRACE_INTERRUPT)
    assert (one.times, one.value) == (other.times, other.value) == ({"seen": 1}, lib.PV_NO_CHANNEL)
    assert one.number != other.number


@pytest.mark.kvm
def test_an_interrupt_goes_to_its_vcpu(tmp_path: Path, path: Path) -> None:
    """An arrow leads there, later than the decision."""
    words = "requests=20 depth=1 queues=2 wait=event"
    disks = (Disk("disk", path, operations_per_second=20),)  # longer than a driver looks
    events, statistics = events_of(tmp_path, "bench_block", words, vcpus=2, disks=disks)
    tracks = {e["args"]["name"]: e["tid"] for e in events if e.get("name") == "thread_name"}
    joined: dict[str, list[dict[str, Any]]] = {}
    for e in events:
        if e.get("cat") == "interrupt" and e["name"] == "interrupt":
            joined.setdefault(e["id"], []).append(e)
    queues = [tracks[f"disk queue {n}"] for n in range(2)]
    raised = [e for e in events if e["ph"] == "X" and e["name"] == "interrupt" and e["tid"] in queues]
    assert len(raised) == statistics.devices[0].interrupts
    # The last may come when its driver, which found the answer by looking, has given its channel back: nobody is told.
    assert len(joined) == sum("args" in e for e in raised) > 0
    for pair in joined.values():
        begin, end = sorted(pair, key=lambda e: e["ph"] == "f")
        assert (begin["ph"], end["ph"]) == ("s", "f")
        assert begin["ts"] <= end["ts"]
        queue = next(n for n in range(2) if tracks[f"disk queue {n}"] == begin["tid"])
        assert end["tid"] == tracks[f"vCPU {queue}"]


@pytest.mark.kvm
@pytest.mark.parametrize(
    "guest, attached, wanted",
    [
        ("devices", Disk("scratch", Path()), {("disk scratch", "read"), ("console terminal", "chain")}),
        ("mapped", Pmem("data", Path()), {("mapped disk data", "flush")}),
    ],
)
def test_requests_have_their_devices_names(
    tmp_path: Path, guest: str, attached: FileAttachment, wanted: set[tuple[str, str]]
) -> None:
    (tmp_path / "file").write_bytes(bytes(4 << 20))
    events, _ = events_of(tmp_path, guest, "", devices=(attached.replace(path=tmp_path / "file"),))
    named = {(e["args"]["device"], e["name"]) for e in events if e["ph"] == "b" and "args" in e}
    assert wanted <= named
