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


def test_another_ones_stays(tmp_path: Path) -> None:
    """A socket that somebody has put in the place of ours is not removed with it."""
    ours = listener.Listener(tmp_path / "s", "thing")
    os.unlink(ours.path)
    theirs = listener.Listener(tmp_path / "s", "other")
    ours.close()
    assert theirs.path.is_socket()
    theirs.close()
    assert not theirs.path.exists()
