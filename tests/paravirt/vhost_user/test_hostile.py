"""Peers that break the protocol, hang, or die at any message: one clear line, a defined state, and no wait for ever."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from hypercall_abi.devices.virtio_block import BLOCK_REQUEST
from paravirt.vhost_user.connection import Connection
from paravirt.vhost_user.errors import PeerError, PeerGone
from paravirt.vhost_user.front_end import FrontEnd
from paravirt.vhost_user.messages import (
    CONFIG,
    NEED_REPLY,
    REGIONS_MOST,
    REPLY,
    U64,
    VERSION,
    VRING_STATE,
    ProtocolFeature,
    Region,
    Request,
)
from tests.support.served_disk import PATIENCE_S, Served, wait_taken
from tests.support.vhost_peer import FEATURES, PROTOCOL, Died, Prank, VhostPeer, reply
from tests.support.waiting import wait_for

GOOD = U64.pack(FEATURES)


def says(answer: bytes) -> Prank:
    return lambda peer, payload: answer


def dies(peer: VhostPeer, payload: bytes) -> bytes:
    raise Died


def with_descriptors(count: int) -> Prank:
    def prank(peer: VhostPeer, payload: bytes) -> None:
        assert peer.connection
        fds = [os.dup(0) for _ in range(count)]
        socket.send_fds(peer.connection, [reply(Request.GET_FEATURES, GOOD)], fds)
        for fd in fds:
            os.close(fd)

    return prank


WRONG = {
    "short": (Request.GET_FEATURES, says(reply(Request.GET_FEATURES, b"1234")), "4 bytes instead of 8"),
    "long": (Request.GET_FEATURES, says(reply(Request.GET_FEATURES, GOOD * 2)), "16 bytes instead of 8"),
    "huge": (Request.GET_FEATURES, says(reply(Request.GET_FEATURES, GOOD, size=1 << 30)), "a payload of 1073741824"),
    "other": (Request.GET_FEATURES, says(reply(Request.GET_CONFIG, GOOD)), "GET_FEATURES with GET_CONFIG"),
    "unknown": (Request.GET_FEATURES, says(reply(99, GOOD)), "GET_FEATURES with request 99"),
    "no reply": (Request.GET_FEATURES, says(reply(Request.GET_FEATURES, GOOD, flags=VERSION)), "that is no reply"),
    "version": (Request.GET_FEATURES, says(reply(Request.GET_FEATURES, GOOD, flags=REPLY | 2)), "version 2"),
    "descriptor": (Request.GET_FEATURES, with_descriptors(1), "1 descriptors with GET_FEATURES"),
    "descriptors": (Request.GET_FEATURES, with_descriptors(20), "too many descriptors"),
    "half": (Request.GET_FEATURES, says(reply(Request.GET_FEATURES, GOOD)[:-3]), "does not send"),
    "nothing": (Request.GET_FEATURES, lambda peer, payload: None, "does not send"),
    "old": (Request.GET_FEATURES, says(reply(Request.GET_FEATURES, U64.pack(1 << 30))), "virtio 1"),
    "no queue": (Request.GET_QUEUE_NUM, says(reply(Request.GET_QUEUE_NUM, U64.pack(0))), "no queue"),
    "no config": (
        Request.GET_PROTOCOL_FEATURES,
        says(reply(Request.GET_PROTOCOL_FEATURES, U64.pack(0))),
        "does not offer its configuration",
    ),
    "config": (Request.GET_CONFIG, says(reply(Request.GET_CONFIG)), "0 bytes instead of"),
    "refusal": (Request.SET_OWNER, says(reply(Request.SET_OWNER, U64.pack(1))), "refused SET_OWNER"),
}


@pytest.mark.parametrize("how", WRONG)
def test_it_is_refused_at_once(served: Served, how: str) -> None:
    request, prank, text = WRONG[how]
    served.peer(pranks={request: prank})
    with pytest.raises(PeerError) as caught:
        served.plug(reply_s=0.3)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(served.socket) in str(caught.value)


BEFORE = (Request.GET_FEATURES, Request.SET_PROTOCOL_FEATURES, Request.SET_OWNER, Request.GET_CONFIG)
STARTING = (
    Request.SET_FEATURES,
    Request.SET_MEM_TABLE,
    Request.SET_VRING_NUM,
    Request.SET_VRING_BASE,
    Request.SET_VRING_ADDR,
    Request.SET_VRING_CALL,
    Request.SET_VRING_KICK,
    Request.SET_VRING_ENABLE,
)


@pytest.mark.parametrize("request_", BEFORE, ids=lambda r: r.name)
def test_death_before_it_is_attached(served: Served, request_: Request) -> None:
    served.peer(pranks={request_: dies})
    with pytest.raises(PeerGone, match="closed the connection"):
        served.plug()


@pytest.mark.parametrize("request_", STARTING, ids=lambda r: r.name)
def test_death_while_it_is_started(served: Served, request_: Request) -> None:
    """Requests wait until one is there that lives longer."""
    first = served.peer(pranks={request_: dies})
    served.plug()
    disk = served.start()
    wait_for(lambda: request_ in first.heard, "it was not told")
    first.die()
    served.peer()
    assert disk.read(1, 512).data == served.sector(1)


@pytest.mark.parametrize("request_", STARTING, ids=lambda r: r.name)
def test_refusal_while_it_is_started(served: Served, request_: Request) -> None:
    served.peer(pranks={request_: says(reply(request_, U64.pack(22)))})
    served.plug()
    served.start()
    assert served.plugged.wait_fault() == "HOST"


@pytest.mark.parametrize("hangs", [Request.SET_MEM_TABLE, Request.SET_VRING_ENABLE], ids=lambda r: r.name)
def test_it_hangs_while_it_is_started(served: Served, hangs: Request) -> None:
    """A reset does not wait for it longer than for one answer."""
    served.peer(pranks={hangs: lambda peer, payload: None})
    served.plug(reply_s=0.2)
    served.start()
    began = time.monotonic()
    served.plugged.set_status(0)
    assert time.monotonic() - began < 10


GIVEN_BACK: dict[str, Prank] = {
    "hangs": lambda peer, payload: None,
    "another queue": says(reply(Request.GET_VRING_BASE, VRING_STATE.pack(7, 0))),
    "no position": says(reply(Request.GET_VRING_BASE, VRING_STATE.pack(0, 1 << 20))),
    "short": says(reply(Request.GET_VRING_BASE, b"")),
}


@pytest.mark.parametrize("how", GIVEN_BACK)
def test_it_does_not_give_the_queue_back(served: Served, how: str) -> None:
    """It hangs up in turn, which says as much: the reset returns, the machine goes on."""
    served.peer(pranks={Request.GET_VRING_BASE: GIVEN_BACK[how]})
    served.plug(reply_s=5 if how != "hangs" else 0.2)
    assert served.start().read(0, 512).data == served.sector(0)
    served.plugged.set_status(0)
    assert not served.failures


@contextmanager
def stuck(served: Served, request: Request) -> Iterator[None]:
    """A peer that does nothing any more once it is told that."""
    free = threading.Event()

    def stick(peer: VhostPeer, payload: bytes) -> bytes:
        free.wait(PATIENCE_S)
        raise Died

    served.peer(pranks={request: stick})
    served.plug(reply_s=0.2)
    try:
        yield
    finally:
        free.set()


@pytest.mark.parametrize("request_", [Request.GET_VRING_BASE, Request.SET_VRING_ENABLE], ids=lambda r: r.name)
def test_it_neither_stops_nor_hangs_up(served: Served, request_: Request) -> None:
    """It may write to guest memory at any time: the machine ends, and the reset returns."""
    with stuck(served, request_):
        disk = served.start()
        if request_ == Request.GET_VRING_BASE:
            assert disk.read(0, 512).data == served.sector(0)
        else:
            wait_for(lambda: served.failures, "the machine goes on")
        served.plugged.set_status(0)
        (error,) = served.failures
        assert f"does not send the answer to {request_.name}" in str(error)
        assert "did not let go of guest memory" in str(error)


def test_it_gives_back_what_it_does_not_have(served: Served) -> None:
    """Its session ends; what it does have is the next one's."""
    peer = served.peer(holding=True)
    served.plug()
    disk = served.start()
    request = disk.lay_out(BLOCK_REQUEST.READ, 7, room_bytes=512)
    disk.send(request)
    wait_taken(peer, 1)
    peer.used_again(peer.heads[0] ^ 1)
    assert served.plugged.wait_fault() == "HOST"
    assert not served.failures, "it hung up"
    served.plugged.set_status(0)
    peer.die()
    served.peer()
    assert served.start().read(7, 512).data == served.sector(7)


def test_death_while_it_gives_the_queue_back(served: Served) -> None:
    """Who is dead writes nothing."""
    served.peer(pranks={Request.GET_VRING_BASE: dies})
    served.plug()
    served.start()
    served.plugged.set_status(0)
    assert not served.failures


def test_a_message_that_nobody_asked_for(served: Served) -> None:
    peer = served.peer()
    served.plug()
    assert served.start().read(0, 512).data == served.sector(0)
    assert peer.connection
    peer.connection.sendall(reply(Request.GET_FEATURES, GOOD))
    assert served.plugged.wait_fault() == "HOST"


@pytest.mark.parametrize("request_", [1, 3, 77])
def test_a_request_that_was_not_agreed_upon(served: Served, request_: int) -> None:
    peer = served.peer()
    served.plug()
    assert served.start().read(0, 512).data == served.sector(0)
    peer.change_config(request=request_)
    assert served.plugged.wait_fault() == "HOST"


def test_it_does_not_read_the_answers_to_its_requests(served: Served) -> None:
    """A reset waits for no longer than one answer takes."""
    peer = served.peer()
    device = served.plug(reply_s=0.3).device
    assert served.start().read(0, 512).data == served.sector(0)
    back_channel = device._peer.back_channel  # type: ignore[attr-defined]
    with suppress(BlockingIOError, TimeoutError):
        while True:
            back_channel.send(bytes(4096), socket.MSG_DONTWAIT)
    peer.change_config(VERSION | NEED_REPLY)
    wait_for(lambda: back_channel.fileno() < 0 or not select.select([back_channel], [], [], 0)[0], "it is not heard")
    reset_returns(served)


def make_it_wait(fd: int) -> None:
    """Whoever reads or writes the eventfd from now on waits: how it does is nobody's own."""
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)


def reset_returns(served: Served) -> None:
    reset = threading.Thread(target=served.plugged.set_status, args=(0,), daemon=True)
    reset.start()
    reset.join(PATIENCE_S)
    assert not reset.is_alive()


def test_it_lets_go_of_its_own_requests_without_a_look_at_the_answer(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """What the system calls a reset is its end, as any other; there is another attempt."""
    peer = served.peer()
    served.plug()
    disk = served.start()
    assert disk.read(0, 512).data == served.sector(0)
    peer.change_config(VERSION | NEED_REPLY)
    assert peer.back_channel
    assert select.select([peer.back_channel], [], [], PATIENCE_S)[0], "it was not answered"
    peer.back_channel.close()
    served.wait_reconnects(1)
    assert disk.read(1, 512).data == served.sector(1)
    assert "Traceback" not in caplog.text


def test_no_descriptor_is_left_when_it_comes_back(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many machines all have lost theirs: requests wait until there is one."""
    peer = served.peer()
    served.plug()
    disk = served.start()
    assert disk.read(0, 512).data == served.sector(0)

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr("paravirt.vhost_user.device.FrontEnd", refuse)
        peer.die()
        told = threading.Event()
        lost = served.plugged.device._lost

        def tell(error: PeerGone) -> None:
            lost(error)
            if "ulimit" in str(error):
                told.set()

        patched.setattr(served.plugged.device, "_lost", tell)
        assert told.wait(PATIENCE_S), caplog.text
    served.peer()
    assert disk.read(1, 512).data == served.sector(1)
    assert "Traceback" not in caplog.text


def test_a_kick_that_it_has_filled(served: Served) -> None:
    """Nobody waits until there is room for one more."""
    peer = served.peer()
    served.plug(reply_s=0.2)
    disk = served.start()
    assert disk.read(0, 512).data == served.sector(0)
    with peer.lock:  # it does nothing meanwhile
        kick_fd = peer.queues[0].kick_fd
        make_it_wait(kick_fd)
        os.eventfd_write(kick_fd, 2**64 - 2)
        kicks = served.statistics()["kicks"]
        disk.send(disk.lay_out(BLOCK_REQUEST.READ, 7, room_bytes=512))
        wait_for(lambda: served.statistics()["kicks"] > kicks, "it is not kicked")
        reset_returns(served)


def test_it_takes_no_connection(served: Served) -> None:
    """As a program does that serves one machine at a time."""
    with socket.socket(socket.AF_UNIX) as deaf, ExitStack() as waiting:
        deaf.bind(os.fspath(served.socket))
        deaf.listen(0)
        with suppress(BlockingIOError):
            while True:
                waiting.enter_context(another := socket.socket(socket.AF_UNIX)).setblocking(False)
                another.connect(os.fspath(served.socket))
        with pytest.raises(PeerGone, match="takes no connection; it may serve another machine"):
            Connection(served.socket, "disk 'disk'", 0.1)


def test_more_descriptors_than_select_knows(served: Served) -> None:
    """A host of many machines has them."""
    served.peer()
    connection = Connection(served.socket, "disk 'disk'", 5.0)
    low, beyond = connection.socket, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 8
    assert beyond > 1024, "raise ulimit -n"
    connection.socket = socket.socket(fileno=fcntl.fcntl(low.fileno(), fcntl.F_DUPFD_CLOEXEC, beyond))
    low.close()
    try:
        assert connection.ask_number(Request.GET_FEATURES) == FEATURES
    finally:
        connection.close()


def test_a_changed_configuration_of_another_length(served: Served) -> None:
    peer = served.peer()
    served.plug()
    assert served.start().read(0, 512).data == served.sector(0)
    peer.pranks[Request.GET_CONFIG] = says(reply(Request.GET_CONFIG, CONFIG.pack(0, 8, 0) + bytes(8)))
    peer.change_config()
    assert served.plugged.wait_fault() == "HOST"


def test_memory_in_too_many_parts(served: Served) -> None:
    served.peer()
    front_end = FrontEnd(served.socket, "disk 'disk'", 60)
    regions = tuple(Region(n << 20, 4096, n << 20, 0, 0) for n in range(REGIONS_MOST + 1))
    with pytest.raises(PeerError, match="9 parts, .* 8 at most"):
        front_end.start(0, regions, (), 0)
    front_end.close()


def test_it_refuses_its_own_features(served: Served) -> None:
    served.peer(
        protocol=PROTOCOL | ProtocolFeature.STATUS,
        pranks={Request.GET_STATUS: says(reply(Request.GET_STATUS, U64.pack(3)))},
    )
    served.plug()
    served.start()
    assert served.plugged.wait_fault() == "HOST"
