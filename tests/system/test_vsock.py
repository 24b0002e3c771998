"""Streams between programs of the host and a guest that runs: the guest `vsock`."""

from __future__ import annotations

import hashlib
import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from paravirt import Machine, MachineConfig
from paravirt.attachments.vsock import Vsock
from paravirt.errors import SocketError
from tests.support.built import GUESTS
from tests.support.tree import ROOT
from tests.support.vsock_driver import line

pytestmark = [pytest.mark.kvm]

ECHO, END, SINK = 7, 8, 9  # ports of the guest
BENCH = 5000  # port of the host that bench_vsock connects to
PATIENCE_S = 60


class Served:
    """A machine whose guest serves, and what it said."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self.machine, self.path = machine, path
        self.said = bytearray()

    def connect(self, port: int) -> socket.socket:
        peer = self.program(port)
        assert re.fullmatch(rb"OK \d+\n", line(peer))
        return peer

    def program(self, port: int) -> socket.socket:
        """One that has written its line."""
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(PATIENCE_S)
        peer.connect(str(self.path))
        peer.sendall(b"CONNECT %d\n" % port)
        return peer

    def end(self) -> list[str]:
        """Ends the guest, which must have found all as it should be; what it said."""
        with self.program(END):  # its OK may be lost when the guest resets its device
            outcome = self.machine.wait()
        said = self.said.decode().splitlines()
        assert outcome.status == 0, said
        return said

    def counts(self) -> dict[str, int]:
        return self.machine.statistics().devices[0].more


@contextmanager
def serving(tmp_path: Path, **options: Any) -> Iterator[Served]:
    path = tmp_path / "v"
    said = bytearray()
    config = MachineConfig(
        GUESTS / "vsock.elf",
        memory_bytes=16 << 20,
        devices=(Vsock("socks", path, 7),),
        console=said.extend,
        timeout_s=PATIENCE_S,
        **options,
    )
    with Machine(config) as machine:
        machine.start()
        served = Served(machine, path)
        served.said = said
        yield served
    assert not path.exists()


def receive_all(peer: socket.socket) -> bytes:
    text = bytearray()
    while data := peer.recv(1 << 16):
        text += data
    return bytes(text)


@contextmanager
def in_thread(act: Callable[[], Any]) -> Iterator[None]:
    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def send_and_end(peer: socket.socket, data: bytes) -> None:
    peer.sendall(data)
    peer.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(("transport", "words"), [("calls", ""), ("calls", "virtio.wait=poll"), ("mmio", "")])
def test_echo(tmp_path: Path, transport: str, words: str) -> None:
    """Both directions at once, half-closed by the host, and back to the last byte."""
    data = random.Random(1).randbytes(3 << 20)
    with serving(tmp_path, transport=transport, command_line=words) as served:
        with served.connect(ECHO) as peer, in_thread(lambda: send_and_end(peer, data)):
            assert hashlib.sha256(receive_all(peer)).digest() == hashlib.sha256(data).digest()
        said = served.end()
        assert "# cid 7" in said
        counts = served.counts()
        assert counts["to_guest_bytes"] == counts["from_guest_bytes"] == len(data)
        assert counts["resets_credit"] == counts["resets_protocol"] == 0


def test_the_guest_connects(tmp_path: Path) -> None:
    """It sends and takes back a stream, and checks every byte."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "v_5000"))
        listener.listen()
        listener.settimeout(PATIENCE_S)
        with serving(tmp_path, command_line="connect 5000 1000000") as served:
            peer, _ = listener.accept()
            with peer:
                while data := peer.recv(1 << 16):
                    peer.sendall(data)
            assert any(text.endswith("- and then it ends") for text in served.end())


def test_many_connections(tmp_path: Path) -> None:
    data = {n: random.Random(n).randbytes(20_000) for n in range(40)}
    with serving(tmp_path) as served, ExitStack() as stack:
        peers = {n: stack.enter_context(served.connect(ECHO)) for n in data}
        for n, peer in peers.items():
            send_and_end(peer, data[n])
        for n, peer in peers.items():
            assert receive_all(peer) == data[n]
        served.end()
        assert served.counts()["connections"] >= 40


def test_a_slow_reader_loses_nothing(tmp_path: Path) -> None:
    """What nobody reads waits in bounded places: the program that sends is stopped, then all comes."""
    data = random.Random(5).randbytes(2 << 20)
    with serving(tmp_path) as served:
        with served.connect(ECHO) as peer:
            peer.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while sent < len(data):
                    sent += peer.send(data[sent : sent + 4096])
            assert sent < len(data)
            peer.setblocking(True)
            with in_thread(lambda: send_and_end(peer, data[sent:])):
                assert receive_all(peer) == data
        served.end()


def test_programs_that_leave(tmp_path: Path) -> None:
    """In the middle of a stream, again and again: the guest serves on."""
    with serving(tmp_path) as served:
        for n in range(50):
            with served.connect(ECHO) as peer:
                peer.sendall(bytes(1000 * n))
        with served.connect(SINK) as peer:
            send_and_end(peer, bytes(300_000))
            assert receive_all(peer) == b""
        assert "# port 9 took 300000 bytes" in served.end()


def test_nobody_listens(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        with served.program(99) as peer:
            assert line(peer) == b"ERROR nobody in the guest listens at port 99\n"
        served.end()


def test_stop_with_connections(tmp_path: Path) -> None:
    """Programs see the end of their streams."""
    with serving(tmp_path) as served:
        peers = [served.connect(ECHO) for _ in range(5)]
        peers[0].sendall(b"something")
        served.machine.stop()
        for peer in peers:
            with peer, suppress(ConnectionResetError):
                assert receive_all(peer) in (b"", b"something")


def test_a_path_that_is_taken(tmp_path: Path) -> None:
    """On the command line: one line, its own exit status, the file as it was."""
    (tmp_path / "v").write_text("precious")
    command = [sys.executable, "-m", "paravirt", "run", str(GUESTS / "vsock.elf"), "--vsock", f"socks={tmp_path}/v"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == SocketError.exit_status
    assert done.stderr.splitlines()[-1].endswith(f"{tmp_path}/v exists and is no socket; give another path")
    assert (tmp_path / "v").read_text() == "precious"


def test_an_image_that_needs_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "paravirt", "run", str(GUESTS / "vsock.elf")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 30
    assert "needs a vsock 'socks'; attach it with --vsock socks=PATH" in done.stderr


@pytest.mark.parametrize(
    ("words", "asked", "answered", "wrong"),
    [
        ("op=send bytes=100000 size=5000", 100_000, 1, ""),
        ("op=receive bytes=100000", 1, 100_000, ""),
        ("op=echo bytes=6400 size=64", 64 * 111, 64 * 111, ""),
        ("op=send bytes=0", 0, 0, "bytes must be a number from 1 to"),
    ],
)
def test_the_bench_counts_what_passed(tmp_path: Path, words: str, asked: int, answered: int, wrong: str) -> None:
    """With a program that answers as it should: the guest ends well, and every byte was there."""
    console = bytearray()
    path = tmp_path / "v"
    config = MachineConfig(
        GUESTS / "bench_vsock.elf",
        devices=(Vsock("socks", path, 7),),
        command_line=words,
        console=console.extend,
        timeout_s=PATIENCE_S,
    )

    def serve() -> None:
        with suppress(OSError), listener.accept()[0] as stream:
            stream.settimeout(PATIENCE_S)
            got = sent = 0
            while got < asked and (data := stream.recv(1 << 16)):
                got += len(data)
                if "echo" in words:
                    stream.sendall(data)
                    sent += len(data)
            stream.sendall(bytes(answered - sent))
            stream.recv(1)  # until the guest is done

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}_{BENCH}")
        listener.listen()
        listener.settimeout(PATIENCE_S if not wrong else 0.1)
        with in_thread(serve), Machine(config) as machine:
            outcome = machine.run()
    assert outcome.status == (1 if wrong else 0), console.decode()
    more = outcome.statistics.devices[0].more
    assert (more["from_guest_bytes"], more["to_guest_bytes"]) == (asked, answered)
    assert console.decode().startswith(wrong or "bench: ")
