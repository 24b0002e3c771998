"""Packets of the protocol, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paravirt.debug.rsp import INTERRUPT, PACKET_MOST_BYTES, NoDebugger, Receiver, pack, unescape


def test_a_packet_is_taken_out() -> None:
    receiver = Receiver()
    assert list(receiver.feed(b"+$g#67")) == [b"g"]
    assert receiver.replies == [b"+"]


def test_one_that_comes_in_pieces_waits_for_the_rest() -> None:
    receiver = Receiver()
    assert [list(receiver.feed(bytes((byte,)))) for byte in b"$m0,4#fd"][:-1] == [[]] * 7
    assert list(receiver.feed(b"")) == []
    assert receiver.replies == [b"+"]


def test_a_damaged_one_is_asked_for_again() -> None:
    receiver = Receiver()
    assert list(receiver.feed(b"$g#00$g#67")) == [b"g"]
    assert receiver.replies == [b"-", b"+"]


def test_without_acknowledgements_checksums_are_not_looked_at() -> None:
    receiver = Receiver()
    receiver.acknowledging = False
    assert list(receiver.feed(b"$g#00")) == [b"g"]
    assert receiver.replies == []


def test_an_interrupt_comes_between_packets() -> None:
    receiver = Receiver()
    assert list(receiver.feed(b"$c#63\x03xyz\x03$?#3f")) == [b"c", INTERRUPT, INTERRUPT, b"?"]


@pytest.mark.parametrize("end", [b"", b"#00"])
def test_one_that_is_too_long_ends_it(end: bytes) -> None:
    receiver = Receiver()
    with pytest.raises(NoDebugger):
        list(receiver.feed(b"$" + b"x" * (PACKET_MOST_BYTES + 10) + end))


@given(st.binary(max_size=300))
def test_what_is_packed_arrives(contents: bytes) -> None:
    receiver = Receiver()
    found = list(receiver.feed(pack(contents)))
    assert [unescape(each) for each in found] == [contents]


@pytest.mark.parametrize("beginning", [b"POST / HTTP/1.1\r\n\r\n$g#67", b"\0", b"g"])
def test_another_protocol_is_not_listened_to(beginning: bytes) -> None:
    with pytest.raises(NoDebugger):
        list(Receiver().feed(beginning))


@given(st.lists(st.binary(max_size=40)))
def test_anything_may_come(pieces: list[bytes]) -> None:
    receiver = Receiver()
    for piece in (b"+", *pieces):
        for contents in receiver.feed(piece):
            unescape(contents)
    assert list(receiver.feed(b"#00")) is not None
    receiver.replies.clear()
    found = list(receiver.feed(b"$g#67"))
    assert found[-1:] == [b"g"], "it is heard after whatever came before"
