"""A guest behind a peer that is nobody's here: DPDK's test program carries frames between two vhost-user sockets."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from paravirt import Machine, MachineConfig
from paravirt.attachments.net import Net
from paravirt.boot.bundled import find_image
from paravirt.devices.net_served import ServedNetDevice
from tests.support.fake_guest import FakeGuest
from tests.support.net_driver import HEADER, MAC, NetDriver
from tests.support.station import ECHO_PORT, END_PORT, ask_mac, datagram
from tests.support.waiting import wait_for

PROGRAM = "dpdk-testpmd"
PATIENCE_S = 60.0

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.skipif(not shutil.which(PROGRAM), reason=f"{PROGRAM} is not installed (Debian: dpdk-dev)"),
]


@contextmanager
def wire(place: Path) -> Iterator[None]:
    """Frames pass between the sockets a and b until it is killed."""
    vdevs = [f"--vdev=net_vhost{n},iface={place / name}" for n, name in enumerate("ab")]
    platform = ["--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--no-shconf"]
    forwarding = ["--forward-mode=io", "--auto-start", "--total-num-mbufs=4096", "--stats-period=1000"]
    for name in "ab":
        (place / name).unlink(missing_ok=True)
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, *platform, *vdevs, "--", *forwarding], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()


def ask(driver: NetDriver, frame: bytes, at: int, wanted: bytes) -> bytes:
    """The frame that comes back and has `wanted` at `at`; it is asked for again while the wire is not there."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        driver.send.collect()
        driver.transmit(frame)
        again = time.monotonic() + 2
        while time.monotonic() < again:
            for got in driver.arrived():
                if got[HEADER + at :].startswith(wanted):
                    return got[HEADER:]
            time.sleep(0.001)
    raise AssertionError("no answer")


def test_a_wire_that_is_cut(tmp_path: Path) -> None:
    """A guest at one end, a driver by hand at the other; then another wire is laid."""
    a, b = tmp_path / "a", tmp_path / "b"
    config = MachineConfig(find_image("net"), devices=(Net("lan", f"vhost:{a}"),), timeout_s=2 * PATIENCE_S)
    with FakeGuest() as guest, ExitStack() as first:
        first.enter_context(wire(tmp_path))
        wait_for(lambda: a.exists() and b.exists(), "it makes no sockets")
        far = Net("far", f"vhost:{b}", MAC)
        device = ServedNetDevice("far", far, guest.service, guest.regions, lambda error: None)
        plugged = guest.plug(device)
        with Machine(config) as machine:
            driver = NetDriver(plugged, *plugged.start(size=64)[:2])
            driver.offer(*[(HEADER + 1514,)] * 60)
            machine.start()
            for turn in range(2):
                mac = ask(driver, ask_mac(), 12, b"\x08\x06")[6:12]
                said = b"hello %d" % turn
                ask(driver, datagram(mac, ECHO_PORT, said), 42, said)
                if turn == 0:
                    first.close()
                    first.enter_context(wire(tmp_path))
            driver.transmit(datagram(mac, END_PORT, b""))
            assert machine.wait(PATIENCE_S).status == 0
            assert machine.devices.statistics()[0].more["reconnects"] == 1
        assert device.statistics()["reconnects"] == 1
