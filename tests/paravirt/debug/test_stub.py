"""The protocol's commands by a scripted client, on a guest that is held before its first instruction."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paravirt.boot.bundled import GUESTS
from paravirt.config import KVM_DEVICE, MachineConfig
from paravirt.debug.address import GdbConfig
from paravirt.debug.registers import registers
from paravirt.debug.rsp import PACKET_MOST_BYTES
from paravirt.debug.stub import Left, Stub
from paravirt.debug.ways import explore
from paravirt.errors import HostCallFailed, WatchdogExpired
from paravirt.machine import Machine
from tests.support.elf import CODE_GPA, SPIN
from tests.support.gdb import RIP, Client, debugged, place, symbols
from tests.support.guests import WATCHDOG, call, shutdown, write_guest
from tests.support.waiting import wait_for

pytestmark = pytest.mark.kvm
HELLO, SPINNING = GUESTS / "hello.elf", GUESTS / "spin.elf"
CODE = symbols(HELLO)


@pytest.fixture
def client() -> Iterator[Client]:
    with debugged(MachineConfig(HELLO, vcpus=2)) as (_, client):
        yield client


def test_it_waits_at_the_entry(client: Client) -> None:
    assert b"swbreak+" in client.ask(b"qSupported:swbreak+")
    assert client.ask(b"?") == b"T05thread:1;"
    assert client.register(RIP) == CODE["pv_entry"]
    assert client.ask(b"qfThreadInfo") == b"m1"
    assert client.ask(b"qsThreadInfo") == b"l"
    assert client.ask(b"qC") == b"QC1"
    assert bytes.fromhex(client.ask(b"qThreadExtraInfo,1").decode()) == b"vCPU 0, running"
    assert b'name="vCPU 0"' in client.ask(b"qXfer:threads:read::0,1000")


def test_a_breakpoint_stops_where_it_is(client: Client) -> None:
    client.ask(b"qSupported:swbreak+")
    assert client.ask(b"Z0,%x,1" % CODE["pv_main"]) == b"OK"
    assert client.ask(b"vCont;c") == b"T05thread:1;swbreak:;"
    assert client.register(RIP) == CODE["pv_main"]
    code = client.ask(b"m%x,1" % CODE["pv_main"])
    assert code != b"cc", "memory is as the guest has it"
    assert client.ask(b"z0,%x,1" % CODE["pv_main"]) == b"OK"
    assert client.ask(b"vCont;s:1;c") == b"T05thread:1;"
    assert CODE["pv_main"] < client.register(RIP) < CODE["pv_main"] + 16
    client.send(b"c")
    assert client.receive() == b"W00"


def test_memory_and_registers(client: Client) -> None:
    assert client.ask(b"M300000,4:01020304") == b"OK"
    assert client.ask(b"X300004,3:ab}\x03") == b"OK", "escaped"
    assert client.ask(b"m300000,7") == b"0102030461" + b"6223"
    assert client.ask(b"m0,4") == b"E14", "page zero is not mapped"
    assert client.ask(b"mfffffffffffffff8,8") == b"E14"
    assert client.ask(b"M0,1:00") == b"E14"
    assert client.ask(b"P0=8877665544332211") == b"OK"
    assert client.ask(b"p0") == b"8877665544332211"
    everything = client.ask(b"g")
    assert everything[:16] == b"8877665544332211"
    assert len(everything) == sum(r.bits for r in registers()) // 4
    assert client.ask(b"G" + b"01" * 8 + everything[16:]) == b"OK"
    assert client.ask(b"p0") == b"01" * 8


WRONG = """
    p pzz pffff P0=00 P0 G00 Gxx m mx,y m1 M300000,2:00 M300000,1:x X300000,2:a Z9,0,1 Z0,1 Z2,300000,99 z0 Hgff Hc-2 T3
    vCont;x vCont; vCont;s:ff qThreadExtraInfo,zz qXfer:features:read:target.xml:x,y qRcmd,x Z0,0,1 c12xyz
"""


def test_what_is_wrong_is_refused(client: Client) -> None:
    answers = {packet: client.ask(packet) for packet in WRONG.encode().split()}
    assert not [packet for packet, answer in answers.items() if answer[:1] != b"E"]
    assert client.ask(b"?")[:3] == b"T05"


def test_it_goes_on_where_it_is_told_and_a_fault_is_seen(client: Client) -> None:
    assert client.ask(b"c12345") == b"T0bthread:1;"
    assert client.register(RIP) == 0x12345
    client.send(b"c")
    assert client.receive() == b"X06"


def test_what_is_not_known_gets_nothing(client: Client) -> None:
    for packet in [b"vMustReplyEmpty", b"x", b"!", b"qOffsets", b"\xff", b"R00", b"bs"]:
        assert client.ask(packet) == b"", packet


def test_the_description_comes_in_pieces(client: Client) -> None:
    document, at = b"", 0
    while True:
        part = client.ask(b"qXfer:features:read:target.xml:%x,100" % at)
        document, at = document + part[1:], at + len(part) - 1
        if part[:1] == b"l":
            break
    assert document.startswith(b"<?xml")
    assert document.endswith(b"</target>")


def test_monitor(client: Client) -> None:
    def monitor(text: str) -> str:
        return bytes.fromhex(client.ask(b"qRcmd," + text.encode().hex().encode()).decode()).decode()

    assert monitor("translate 0x201000").startswith("0x201000 lies at 0x201000 (pv_entry")
    assert monitor("translate 0") == "0x0 lies nowhere\n"
    assert "is no address" in monitor("translate here")
    assert monitor("vcpus") == "vCPU 0: running\nvCPU 1: stopped\n"
    assert '"accelerator"' in monitor("statistics")
    assert "break" in monitor("ways")
    assert "it writes no files" in monitor("dump /no/such/place")
    assert "translate ADDRESS" in monitor("whatever")


def test_an_interrupt_stops_it_and_a_step_is_one() -> None:
    with debugged(MachineConfig(SPINNING)) as (_, client):
        for _ in range(3):
            client.send(b"vCont;c")
            time.sleep(0.05)
            client.socket.sendall(b"\x03")
            assert client.receive() == b"T02thread:1;"
            before = client.register(RIP)
            assert client.ask(b"vCont;s:1") == b"T05thread:1;"
            assert client.register(RIP) != before or before == symbols(SPINNING)["pv_main"]


@pytest.mark.parametrize("how", ["D", "gone"])
def test_one_that_leaves_leaves_nothing(how: str) -> None:
    written: list[bytes] = []
    with debugged(MachineConfig(HELLO, console=written.append)) as (machine, client):
        client.ask(b"Z0,%x,1" % CODE["pv_main"])
        if how == "D":
            assert client.ask(b"D") == b"OK"
        client.socket.close()
        assert machine.wait(60).kind == "shutdown"
    assert written == [b"hello from a paravirt guest\n"]


def test_nobody_is_there_who_came_after_the_end() -> None:
    with Machine(MachineConfig(HELLO, gdb=GdbConfig(wait=False), console=lambda _: None)) as machine:
        machine.run()
        assert machine.debugger
        with Client(place(machine)) as client, pytest.raises((OSError, EOFError)):
            client.ask(b"?")
        wait_for(lambda: machine.debugger and not machine.debugger.attached, "somebody is still there")


def test_another_may_come_after_it(tmp_path: Path) -> None:
    config = GdbConfig(path=tmp_path / "gdb", wait=False)
    with debugged(MachineConfig(SPINNING), config) as (machine, client):
        assert (tmp_path / "gdb").stat().st_mode & 0o777 == 0o600
        assert client.ask(b"?")[:1] == b"T"
        client.socket.close()
        with Client(place(machine)) as second:
            assert second.ask(b"?")[:1] == b"T"
            assert second.ask(b"vKill;1") == b"OK"
        assert machine.wait(60)[:2] == ("stopped", "DEBUGGER")
    assert not list(tmp_path.iterdir())


def test_a_second_one_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first one is served on; when it goes, and another comes at the same moment, that one is served."""
    with debugged(MachineConfig(SPINNING), GdbConfig(path=tmp_path / "gdb")) as (machine, client):
        with Client(place(machine)) as second, pytest.raises((OSError, EOFError)):
            second.ask(b"?")
        assert "a second debugger was refused" in capsys.readouterr().err
        for _ in range(20):
            assert client.ask(b"?")[:1] == b"T"
            client.socket.close()
            client = Client(place(machine))
        assert client.ask(b"vKill;1") == b"OK"
        client.socket.close()


def test_a_place_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostCallFailed, match=f"cannot listen for a debugger at 127.0.0.1:{port}: .*--gdb"):
            Machine(MachineConfig(HELLO, gdb=GdbConfig(port=port))).prepare()


def test_a_machine_nobody_comes_to_is_stopped() -> None:
    with Machine(MachineConfig(HELLO, gdb=GdbConfig())) as machine:
        machine.start()
        machine.stop()
        assert machine.wait(60).kind == "stopped"


def test_the_watchdog_does_not_bite_who_is_stopped(tmp_path: Path) -> None:
    image = write_guest(tmp_path / "dog", call(WATCHDOG, 200_000_000) + b"\x90" + SPIN)
    with debugged(MachineConfig(image)) as (machine, client):
        assert client.ask(b"Z0,%x,1" % (CODE_GPA + len(call(WATCHDOG, 0)))) == b"OK"
        client.send(b"c")
        time.sleep(0.1)
        client.socket.sendall(b"\x03")
        assert client.receive()[:1] == b"T"
        time.sleep(0.4)
        assert client.ask(b"?")[:1] == b"T"
        client.ask(b"z0,%x,1" % (CODE_GPA + len(call(WATCHDOG, 0))))
        client.send(b"c")
        with pytest.raises(WatchdogExpired):
            machine.wait(60)
        assert client.receive() == b"X06"


def test_a_guest_that_ends_says_how(tmp_path: Path) -> None:
    with debugged(MachineConfig(write_guest(tmp_path / "end", shutdown(1, 77)))) as (_, client):
        assert client.ask(b"c") == b"W4d"


@pytest.mark.only_kvm("tries what KVM does")
def test_debug_registers_where_kvm_has_them() -> None:
    ways = explore(KVM_DEVICE)[0]
    with debugged(MachineConfig(HELLO, privilege="supervisor")) as (_, client):
        client.ask(b"qSupported:hwbreak+;swbreak+")
        answer = client.ask(b"Z1,%x,1" % CODE["pv_main"])
        assert answer == (b"OK" if ways.addresses else b"E01")
        watched = client.ask(b"Z2,%x,8" % CODE["pv_guest"])
        assert watched == (b"OK" if ways.watches else b"E01")
        assert client.ask(b"Z2,%x,8" % (CODE["pv_guest"] + 1)) == b"E01", "not aligned"
        assert client.ask(b"Z3,%x,8" % CODE["pv_guest"]) == b"E01", "loads alone are not watched"
        if not ways.addresses:
            return
        client.send(b"c")
        stops = [client.receive()]
        while not stops[-1].startswith((b"W", b"T05thread:1;hwbreak")) and len(stops) < 9:
            stops.append(client.ask(b"c"))
        assert b"T05thread:1;hwbreak:;" in stops
        assert client.register(RIP) == CODE["pv_main"]
        assert not ways.watches or b"T05thread:1;watch:%x;" % CODE["pv_guest"] in stops


# ---- hostile debuggers ----

WORDS = st.sampled_from(
    b"? g G p P m M X Z z H T vCont; vKill qXfer: qRcmd, qSupported ; : , = # $ } -1 0 1 ff".split()
)


@given(st.lists(st.lists(WORDS | st.binary(max_size=12), max_size=8).map(b"".join), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_for_has_an_answer(held: Stub, packets: list[bytes]) -> None:
    for packet in packets:
        if packet[:1] in b"cCsS" or packet[:6] == b"vCont;":  # those are heard, but the guest is not to end
            continue
        try:
            answer = held.carry_out(packet)
        except Left:
            continue
        assert answer is not None
        assert len(answer) <= 2 * PACKET_MOST_BYTES
        assert not answer.startswith(b"E.internal"), answer


@pytest.fixture(scope="module")
def held() -> Iterator[Stub]:
    with debugged(MachineConfig(HELLO, vcpus=2)) as (machine, client):
        client.ask(b"?")
        assert machine.debugger
        yield Stub(machine.debugger)


@pytest.mark.parametrize(
    "noise", [b"\0" * 5000, b"$" * 5000, b"#" * 99, b"$#00$#zz", b"$" + b"x" * 70000, b"\x03" * 50]
)
def test_noise_hurts_nobody(noise: bytes) -> None:
    written: list[bytes] = []
    with debugged(MachineConfig(HELLO, console=written.append)) as (machine, client):
        client.socket.sendall(noise)
        client.socket.close()
        assert machine.wait(60).kind == "shutdown"
    assert written == [b"hello from a paravirt guest\n"]
