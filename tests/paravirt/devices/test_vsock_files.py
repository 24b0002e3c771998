"""Sockets at paths: what is refused, in one line, what is replaced, and what is left behind (nothing)."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest

from paravirt.attachments.vsock import Vsock, parse_vsock
from paravirt.devices.vsock import VsockDevice, make_listener
from paravirt.errors import ConfigError, SocketError
from paravirt.listener import Listener
from tests.support.fake_guest import FakeGuest


def test_written_on_the_command_line() -> None:
    assert parse_vsock("a=b") == Vsock("a", Path("b"), 3)
    assert parse_vsock("a=b,cid=77") == Vsock("a", Path("b"), 77)
    assert parse_vsock("a=b,c=d") == Vsock("a", Path("b,c=d"))


@pytest.mark.parametrize(
    "text", ["", "a", "a=", "a=b,cid=", "a=b,cid=x", "a=b,cid=-1", "a=,cid=3", "a=b,cid=99999999999"]
)
def test_wrong_on_the_command_line(text: str) -> None:
    with pytest.raises(ConfigError, match="write NAME=PATH or NAME=PATH,cid=N"):
        parse_vsock(text)


@pytest.mark.parametrize("cid", [0, 1, 2, 0xFFFF_FFFF, 1 << 32])
def test_addresses_with_a_meaning_of_their_own(cid: int) -> None:
    with pytest.raises(ConfigError, match="cid must be from 3"):
        Vsock("a", Path("b"), cid)


def test_paths_that_no_socket_can_have() -> None:
    Vsock("a", Path("p" * 96))
    for path in ("p" * 97, "ä" * 49, "a\0b"):
        with pytest.raises(ConfigError, match="give a shorter one"):
            Vsock("a", Path(path))


def refused(path: Path, text: str) -> None:
    with pytest.raises(SocketError) as caught:
        make_listener(Vsock("socks", path))
    assert f"vsock 'socks': {path} " in str(caught.value)
    assert text in str(caught.value)


def test_a_path_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    refused(path, "exists and is no socket")
    assert path.read_text() == "precious"
    (tmp_path / "link").symlink_to(path)
    refused(tmp_path / "link", "exists and is no socket")


def test_a_path_in_use(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with closing(make_listener(Vsock("other", path))):
        refused(path, "is in use by another program")
        assert path.is_socket()


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    refused(tmp_path / "none" / "v", "No such file or directory; give a path in a directory that you may write")


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with closing(make_listener(Vsock("socks", path))), socket.socket(socket.AF_UNIX) as program:
        program.connect(str(path))


def test_two_that_replace_a_stale_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is about to remove it when the first has put its own there: that one stays, and is found."""
    path = tmp_path / "v"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    made: list[Listener] = []
    threads = (
        threading.Thread(target=lambda: made.append(make_listener(Vsock("first", path)))),
        threading.Thread(target=refused, args=(path, "is in use by another program")),
    )
    second_looked = threading.Event()
    unlink = os.unlink

    def slowly(where: str) -> None:
        if threading.current_thread() is threads[0]:
            threads[1].start()
            second_looked.wait(0.3)
        else:
            second_looked.set()
            threads[0].join()
        unlink(where)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", slowly)
        patched.setattr("paravirt.listener.TURN_S", 60.0)
        threads[0].start()
        threads[0].join()
        threads[1].join()
    with closing(made[0]), socket.socket(socket.AF_UNIX) as program:
        program.connect(str(path))
        made[0].socket.accept()[0].close()


def test_a_lock_that_somebody_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody who may read the directory can have it: it delays, no more."""
    monkeypatch.setattr("paravirt.listener.TURN_S", 0.1)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        make_listener(Vsock("socks", tmp_path / "v")).close()
    finally:
        os.close(fd)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    fds = len(os.listdir("/proc/self/fd"))
    with FakeGuest() as guest:
        guest.plug(VsockDevice("socks", Vsock("socks", tmp_path / "v")))
        with pytest.raises(SocketError):
            guest.plug(VsockDevice("more", Vsock("more", tmp_path / "v")))
        assert (tmp_path / "v").is_socket()
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == fds


def test_another_ones_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with FakeGuest() as guest:
        guest.plug(VsockDevice("socks", Vsock("socks", path)))
        path.unlink()
        other = make_listener(Vsock("other", path))
    with closing(other):
        assert path.is_socket()
