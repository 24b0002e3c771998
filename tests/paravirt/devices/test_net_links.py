"""Links of networks: how they are written, what is refused in one line, and what is left behind (nothing)."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from paravirt.attachments.net import Net, parse_capture, parse_net
from paravirt.devices.net import NetDevice
from paravirt.devices.passt import Passt
from paravirt.errors import ConfigError, HostLimit, LinkRefused
from tests.support.fake_guest import FakeGuest
from tests.support.net_driver import HEADER, MAC, NetDriver, frame
from tests.support.tap import needed_tap


def test_written_on_the_command_line() -> None:
    assert parse_net("lan").link == "user"
    assert parse_net("lan=tap:tap0,pairs=2,mtu=9000").replace(mac=MAC) == Net("lan", "tap:tap0", MAC, mtu=9000, pairs=2)
    assert parse_net("lan=fd:3+4").fds == (3, 4)
    served = parse_net("lan=vhost:/run/a:b,pairs=2,patience=30")
    assert (served.socket, served.pairs, served.patience_s) == (Path("/run/a:b"), 2, 30.0)
    net = parse_net("lan=user,mac=02:00:00:00:00:01,pps=10,bps=1M,tcp=8080:80,udp=53:53,tcp=0.0.0.0/1:2")
    assert (net.mac, net.frames_per_second, net.bytes_per_second) == (MAC, 10, 1 << 20)
    assert net.forward == ("tcp:8080:80", "udp:53:53", "tcp:0.0.0.0/1:2")
    assert parse_net("lan").mac != parse_net("lan").mac
    assert not parse_net("lan").mac[0] & 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lan=", "is not a network; write NAME=LINK, where LINK is user, tap:INTERFACE"),
        ("=user", "must be printable text"),
        ("lan=bridge:br0", "is no link; write user, tap:INTERFACE"),
        ("lan=tap:", "is no link; write tap:INTERFACE"),
        ("lan=tap:a/b", "is no link"),
        ("lan=tap:an-interface-with-a-long-name", "is no link"),
        ("lan=fd:x", "is no link; write fd:NUMBER"),
        ("lan=fd:3+4,pairs=1", "has 2 pair"),
        ("lan=user,pairs=2", "has 1 pair"),
        ("lan=tap:a,pairs=4", "from 1 to 3"),
        ("lan=tap:a,mtu=67", "from 68 to 65535"),
        ("lan=tap:a,mtu=x", "mtu=x: it takes a number"),
        ("lan=tap:a,pps=-1", "it takes a number"),
        ("lan=tap:a,bps=much", "is not a size"),
        ("lan=tap:a,mac=02:00", "is not an option of a network"),
        ("lan=tap:a,mac=ff:ff:ff:ff:ff:ff", "not the address of one station"),
        ("lan=tap:a,vhost=on", "'vhost=on' is not an option"),
        ("lan=tap:a,tcp=1:2", "forwarded by the link user"),
        ("lan=user,tcp=1", "is no forwarding"),
        ("lan=user,udp=0:7", "is no forwarding"),
        ("lan=user,udp=7:65536", "is no forwarding"),
        ("lan=user,tcp=::1/8:7", "is no forwarding; write tcp:.ADDRESS"),
        ("lan=vhost:", "is no link"),
        ("lan=vhost:a.sock,pairs=4", "from 1 to 3"),
        ("lan=vhost:a.sock,pps=9", "neither limited nor captured; have the program"),
        ("lan=vhost:a.sock,patience=long", "patience=long: it takes a number"),
        ("lan=user,patience=9", "patience is for the link vhost:SOCKET, not for user"),
    ],
)
def test_wrong_on_the_command_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_net(text)


def test_captures_on_the_command_line() -> None:
    nets = (parse_net("a=loop"), parse_net("b=loop"))
    captured = parse_capture("b=x=y", nets)
    assert [net.capture for net in captured] == [None, Path("x=y")]
    with pytest.raises(ConfigError, match="neither limited nor captured"):
        parse_capture("a=f", (parse_net("a=vhost:b"),))
    for text, said in (("b", "is not a capture"), ("b=", "is not a capture"), ("c=f", "there is a, b")):
        with pytest.raises(ConfigError, match=said):
            parse_capture(text, nets)


def refused(net: Net, said: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LinkRefused, match=said), FakeGuest() as guest:
        guest.plug(NetDevice("lan", net))
    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_that_are_no_links() -> None:
    refused(Net("lan", "fd:999999"), "the descriptor 999999 is not open")
    with open("/dev/null") as file:
        refused(Net("lan", f"fd:{file.fileno()}"), "neither a socket nor a TAP device")
    ours, its = socket.socketpair()
    with ours, its, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        net = Net("lan", f"fd:{its.fileno()}+{other.fileno()}", pairs=2)
        refused(net, "of another kind than the first one")
        assert its.fileno() >= 0  # the caller's


def test_passt_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(Net("lan"), "cannot start passt .*; install the package passt")


CHATTER = f"""#!{sys.executable} -S
import os, sys
while os.write(int(sys.argv[sys.argv.index("--fd") + 1]), bytes(4096)):
    pass
"""


def test_a_passt_that_says_everything_but_the_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Frames of length 0, as fast as they are read."""
    (tmp_path / "passt").write_text(CHATTER)
    (tmp_path / "passt").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("paravirt.devices.passt.PATIENCE_S", 0.3)
    refused(Net("lan"), "passt does not serve it: timed out; .* another link")


HOMELESS = f"""#!{sys.executable} -S
import sys
sys.exit("No external routable interface for IPv6\\nExternal interface not usable")
"""


def test_a_passt_on_a_host_without_a_route(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "passt").write_text(HOMELESS)
    (tmp_path / "passt").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    refused(Net("lan"), "External interface not usable; give this host a default route")


def test_passt_that_fails() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        net = Net("lan", forward=(f"udp:{taken.getsockname()[1]}:7",))
        refused(net, "passt does not serve it: Failed to bind")


def test_a_tap_device_that_is_not_there() -> None:
    refused(Net("lan", "tap:pvnone"), "'pvnone' does not exist; make it, .*: ip tuntap add pvnone mode tap user")


def test_tap_devices() -> None:
    with needed_tap("pv0"):
        refused(Net("lan", "tap:lo"), "'lo' cannot be used: .*; it is no TAP device")
        refused(Net("lan", "tap:pv0", pairs=2), "ip tuntap add NAME mode tap multi_queue")
        with FakeGuest() as guest:
            guest.plug(NetDevice("lan", Net("lan", "tap:pv0")))
            refused(Net("other", "tap:pv0"), "another machine has it")


@pytest.mark.parametrize("link", ["tap:pv0", "loop", "user"])
def test_too_many_open_files(link: str) -> None:
    with ExitStack() as stack:
        stack.enter_context(needed_tap("pv0"))
        guest = stack.enter_context(FakeGuest())
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        device = NetDevice("lan", Net("lan", link))
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, before[1]))  # what the fake guest opens itself
        with pytest.raises(HostLimit, match="'lan': its link cannot be opened: .*; raise the limit with ulimit -n"):
            guest.plug(device)


def test_a_passt_that_does_not_end_is_ended() -> None:
    passt = Passt(Net("lan", mac=MAC))
    pid = passt._process.pid
    os.kill(pid, signal.SIGSTOP)  # it does not see that it is to end
    passt.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_loop_gives_frames_back() -> None:
    with FakeGuest() as guest:
        plugged = guest.plug(NetDevice("lan", Net("lan", "loop"), 20_000))
        driver = NetDriver(plugged, *plugged.start())
        driver.offer([1600])
        driver.transmit(frame(100))
        assert driver.take()[0][HEADER:] == frame(100)


def test_passt_ends_however_we_end() -> None:
    passt = Passt(Net("lan"))
    passt._socket.close()  # as the kernel does when this process is killed
    assert passt._process.wait(60) is not None
    passt.close()
