"""Sockets that we listen at, and those who meddle with them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from paravirt import listener
from paravirt.errors import SocketError


def test_one_that_is_removed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before we know it again: one line, and no socket stays."""
    made: list[socket.socket] = []

    def listen(path: Path, what: str) -> socket.socket:
        made.append(really(path, what))
        path.unlink()
        return made[0]

    really = listener._listen
    monkeypatch.setattr(listener, "_listen", listen)
    with pytest.raises(SocketError, match="was removed at once"):
        listener.Listener(tmp_path / "s", "thing")
    assert made[0].fileno() < 0


@pytest.mark.parametrize("size", [107, 108])
def test_as_long_as_a_path_may_be(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("x" * size)
    if size == listener.PATH_BYTES_MOST:
        listener.Listener(path, "thing").close()
    else:
        with pytest.raises(SocketError, match="the path has 108 bytes and a socket's at most 107; give a shorter") as e:
            listener.Listener(path, "thing")
        assert str(e.value).count(str(path)) == 1
    assert not path.exists()


def test_another_ones_stays(tmp_path: Path) -> None:
    """A socket that somebody has put in the place of ours is not removed with it."""
    ours = listener.Listener(tmp_path / "s", "thing")
    os.unlink(ours.path)
    theirs = listener.Listener(tmp_path / "s", "other")
    ours.close()
    assert theirs.path.is_socket()
    theirs.close()
    assert not theirs.path.exists()
