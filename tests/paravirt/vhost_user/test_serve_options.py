"""``paravirt device`` as management software runs it: sockets that are passed on, capabilities, its end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from paravirt.cli import main
from tests.support.front_end import FrontEndPuppet
from tests.support.served_device import PATIENCE_S, wait_for
from tests.support.tree import ROOT


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    with ExitStack() as kept:
        yield kept


def serve(kept: ExitStack, given: socket.socket) -> subprocess.Popen[str]:
    """An entropy device at a socket that it inherits."""
    pipe, fd = subprocess.PIPE, given.fileno()
    command = [sys.executable, "-m", "paravirt", "device", "entropy", "--fd", str(fd)]
    process = subprocess.Popen(command, cwd=ROOT, pass_fds=(fd,), stdout=pipe, stderr=pipe, text=True)
    kept.enter_context(process)
    kept.callback(process.kill)
    assert process.stdout
    assert process.stdout.readline() == f"entropy at descriptor {fd} is served\n"
    return process


def check_serves(at: Path | socket.socket) -> None:
    with FrontEndPuppet(at) as front_end:
        front_end.start()
        front_end.offer_room(64)
        wait_for(lambda: front_end.used() == 1, "no random bytes")


def test_a_socket_that_listens(tmp_path: Path, kept: ExitStack) -> None:
    """One front end after the other, until SIGTERM; its name is whose it was."""
    listener = kept.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    process = serve(kept, listener)
    for _ in range(3):
        check_serves(tmp_path / "s")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE_S)[1] == "paravirt: terminated\n"
    assert process.returncode == 143
    assert (tmp_path / "s").exists()


def test_a_connection(kept: ExitStack) -> None:
    """It ends with its front end."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = serve(kept, theirs)
    check_serves(ours)
    assert process.communicate(timeout=PATIENCE_S) == ("", "")
    assert process.returncode == 0


def test_a_front_end_that_is_wrong_has_one_connection(kept: ExitStack) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = serve(kept, theirs)
    with ours:
        ours.sendall(b"GET / HTTP/1.0\r\n")
        _, said = process.communicate(timeout=PATIENCE_S)
    assert said.count("\n") == 1
    assert "the front end sent a message" in said
    assert process.returncode == 0


BAD: dict[str, tuple[Callable[[Path], socket.socket] | str, str]] = {
    "word": ("x", "is no descriptor"),
    "negative": ("-1", "is no descriptor"),
    "great": ("99999999999999999999", "is no descriptor"),
    "closed": ("999", "is not a socket"),
    "network": (lambda _: socket.socket(), "is no stream socket of UNIX"),
    "datagrams": (lambda _: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), "is no stream socket of UNIX"),
    "nobody's": (lambda _: socket.socket(socket.AF_UNIX), "neither listens nor is connected"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_descriptors(tmp_path: Path, kept: ExitStack, capfd: pytest.CaptureFixture[str], name: str) -> None:
    make, text = BAD[name]
    number = make if isinstance(make, str) else str(kept.enter_context(make(tmp_path)).fileno())
    assert main(["device", "entropy", f"--fd={number}"]) == 2
    said = capfd.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_one_place_is_needed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "entropy"]) == 2
    assert main(["device", "entropy", "--socket", str(tmp_path / "s"), "--fd", "3"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 2
    assert "--socket" in said
    assert "--fd" in said


@pytest.mark.parametrize(("kind", "name"), [("block", "block"), ("net", "net"), ("vsock", "vsock"), ("entropy", "rng")])
def test_capabilities(kind: str, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever else is given."""
    for more in ([], ["--socket", "/none/s"], ["--name", "x"]):
        with pytest.raises(SystemExit) as end:
            main(["device", kind, *more, "--print-capabilities"])
        assert not end.value.code
        wanted: dict[str, object] = {"type": name} | ({"features": []} if kind == "block" else {})
        assert json.loads(capfd.readouterr().out) == wanted
