"""Front ends that break the protocol, lie about memory and queues, or cut what they share: the back end lives."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from paravirt.vhost_user.back_end import BackEnd
from paravirt.vhost_user.messages import (
    CONFIG,
    HEADER,
    INFLIGHT,
    MEMORY,
    REGION,
    REPLY,
    U64,
    VERSION,
    VRING_ADDRESSES,
    VRING_NO_FD,
    VRING_STATE,
    Request,
)
from tests.support.front_end import (
    AVAILABLE,
    DESCRIPTORS,
    FEATURES,
    GPA,
    HVA,
    MEMORY_BYTES,
    SIZE,
    USED,
    Ended,
    FrontEndPuppet,
)
from tests.support.hostile import check_serves
from tests.support.served_device import wait_for

R = Request
Prank = Callable[[FrontEndPuppet], object]


def table(*regions: tuple[int, int, int, int], count: int | None = None) -> bytes:
    packed = b"".join(REGION.pack(*region) for region in regions)
    return MEMORY.pack(len(regions) if count is None else count, 0) + packed


REGION_ = (GPA, MEMORY_BYTES, HVA, 0)
ENDS: dict[str, tuple[Prank, str]] = {
    "unknown": (lambda f: f.say(99), "request 99, which is not offered"),
    "channel without": (lambda f: f.say(R.SET_BACKEND_REQ_FD), "0 descriptors with SET_BACKEND_REQ_FD"),
    "reply": (lambda f: f.say(R.SET_OWNER, flags=VERSION | REPLY), "not offered"),
    "version": (lambda f: f.say(R.SET_OWNER, flags=2), "version 2"),
    "huge": (lambda f: f.raw(HEADER.pack(R.SET_OWNER, VERSION, 1 << 31)), "payload of 2147483648"),
    "short": (lambda f: f.say(R.SET_FEATURES, b"1234"), "4 bytes, not 8"),
    "long": (lambda f: f.say(R.SET_VRING_NUM, bytes(9)), "9 bytes, not 8"),
    "descriptors": (lambda f: f.raw(HEADER.pack(R.SET_OWNER, VERSION, 0), [f.fd] * 12), "too many descriptors"),
    "no table": (lambda f: f.say(R.SET_MEM_TABLE, b"12"), "with 2 bytes"),
    "table of more": (lambda f: f.say(R.SET_MEM_TABLE, table(count=3), [f.fd] * 3), "of 3 regions with 3"),
    "table of many": (lambda f: f.say(R.SET_MEM_TABLE, table(count=1 << 31)), "of 2147483648 regions with 0"),
    "table without": (lambda f: f.say(R.SET_MEM_TABLE, table(REGION_)), "1 regions with 0"),
    "region": (lambda f: f.say(R.ADD_MEM_REG, bytes(32), [f.fd]), "ADD_MEM_REG with 32 bytes"),
    "region without": (lambda f: f.say(R.ADD_MEM_REG, bytes(40)), "0 descriptors with ADD_MEM_REG"),
    "config": (lambda f: f.say(R.GET_CONFIG, CONFIG.pack(0, 300, 0)), "300 bytes at 0"),
    "config beyond": (lambda f: f.say(R.GET_CONFIG, CONFIG.pack(1 << 31, 4, 0) + bytes(4)), "4 bytes at 2147483648"),
    "config short": (lambda f: f.say(R.SET_CONFIG, b"1"), "SET_CONFIG with 1 bytes"),
    "kick without": (lambda f: f.say(R.SET_VRING_KICK, U64.pack(0)), "0 descriptors with SET_VRING_KICK"),
    "kick with two": (lambda f: f.say(R.SET_VRING_KICK, U64.pack(0), [f.fd] * 2), "2 descriptors"),
    "inflight": (lambda f: f.say(R.GET_INFLIGHT_FD, bytes(8)), "GET_INFLIGHT_FD with 8 bytes"),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_session_ends(path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Whoever breaks the protocol has to go, with a line that says what was wrong."""
    prank, text = ENDS[name]
    with FrontEndPuppet(path) as bad:
        bad.start()
        with pytest.raises(Ended):  # perhaps while it is sent
            prank(bad)
            bad.answer()
    check_serves(path)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert text in said[0]
    assert "its session ends, another may begin" in said[0]


def with_fd(make: Callable[[], int], say: Callable[[FrontEndPuppet, int], bool]) -> Callable[[FrontEndPuppet], bool]:
    def prank(front_end: FrontEndPuppet) -> bool:
        fd = make()
        try:
            return say(front_end, fd)
        finally:
            os.close(fd)

    return prank


def a_pipe() -> int:
    one, other = os.pipe()
    os.close(one)
    return other


def a_sealed_memory() -> int:
    fd = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, MEMORY_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    return fd


def shares(*regions: tuple[int, int, int, int]) -> Callable[[FrontEndPuppet], bool]:
    return lambda f: f.told(R.SET_MEM_TABLE, table(*regions), [f.fd] * len(regions))


def of_queue(request: Request, number: int, value: int) -> Callable[[FrontEndPuppet], bool]:
    return lambda f: f.told(request, VRING_STATE.pack(number, value))


def lies_at(descriptors: int, used: int, available: int, flags: int = 0, size: int = SIZE) -> Callable[..., bool]:
    def prank(f: FrontEndPuppet) -> bool:
        f.describe(1, size=size)
        addresses = VRING_ADDRESSES.pack(1, flags, descriptors, used, available, 0)
        return f.told(R.SET_VRING_ADDR, addresses) and f.kick(1)

    return prank


def in_flight(queues: int, size: int, size_bytes: int | None = None) -> Callable[[FrontEndPuppet], bool]:
    bytes_ = MEMORY_BYTES if size_bytes is None else size_bytes
    return lambda f: f.told(R.SET_INFLIGHT_FD, INFLIGHT.pack(bytes_, 0, queues, size), [f.fd])


def channel(front_end: FrontEndPuppet, fd: int) -> bool:
    return front_end.told(R.SET_BACKEND_REQ_FD, b"", [fd])


GOOD_AT = (HVA + DESCRIPTORS, HVA + USED, HVA + AVAILABLE)
REFUSED: dict[str, tuple[Callable[[FrontEndPuppet], bool], str]] = {
    "features": (lambda f: f.told(R.SET_FEATURES, U64.pack(1 << 60 | FEATURES)), "other features while"),
    "protocol": (lambda f: f.told(R.SET_PROTOCOL_FEATURES, U64.pack(1 << 40)), "0x10000000000"),
    "region beyond": (shares((GPA, 2 * MEMORY_BYTES, HVA, 0)), "of a file that has 0x100000"),
    "region at the end": (shares((GPA, MEMORY_BYTES, HVA, 4096)), "of a file that has 0x100000"),
    "region of nothing": (shares((GPA, 0, HVA, 0)), "is 0x0 bytes"),
    "region that wraps": (shares(((1 << 64) - 4096, MEMORY_BYTES, HVA, 0)), "beyond all addresses"),
    "address that wraps": (shares((GPA, MEMORY_BYTES, (1 << 64) - 4096, 0)), "beyond all addresses"),
    "offset that wraps": (shares((GPA, MEMORY_BYTES, HVA, (1 << 64) - 4096)), "of a file that has"),
    "overlap": (shares(REGION_, (GPA + 4096, 4096, HVA + (1 << 30), 0)), "overlaps with another"),
    "same addresses": (shares(REGION_, (1 << 40, 4096, HVA + 4096, 0)), "addresses of that at 0x100000"),
    "not aligned": (shares((GPA + 3, 4096, HVA, 0)), "is not aligned"),
    "memory of a pipe": (
        with_fd(a_pipe, lambda f, fd: f.told(R.SET_MEM_TABLE, table(REGION_), [fd])),
        "not in a file that can be shared",
    ),
    "memory of a socket": (
        with_fd(
            lambda: socket.socket(socket.AF_UNIX).detach(),
            lambda f, fd: f.told(R.SET_MEM_TABLE, table(REGION_), [fd]),
        ),
        "not in a file that can be shared",
    ),
    "memory that is sealed": (
        with_fd(a_sealed_memory, lambda f, fd: f.told(R.SET_MEM_TABLE, table(REGION_), [fd])),
        "cannot be mapped: Operation not permitted",
    ),
    "region not there": (lambda f: f.told(R.REM_MEM_REG, bytes(8) + REGION.pack(0, 1, 2, 3)), "is not there"),
    "no such queue": (of_queue(R.SET_VRING_NUM, 2, 8), "no queue 2"),
    "no such queue at all": (of_queue(R.SET_VRING_ENABLE, 1 << 31, 1), "no queue 2147483648"),
    "size in use": (of_queue(R.SET_VRING_NUM, 0, 8), "in use"),
    "base in use": (of_queue(R.SET_VRING_BASE, 0, 8), "in use"),
    "addresses in use": (
        lambda f: f.told(R.SET_VRING_ADDR, VRING_ADDRESSES.pack(0, 0, HVA, HVA, HVA, 0)),
        "other addresses",
    ),
    "size of none": (lies_at(*GOOD_AT, size=0), "has 0 places"),
    "odd size": (lies_at(*GOOD_AT, size=12), "has 12 places"),
    "great size": (lies_at(*GOOD_AT, size=1 << 31), "has 2147483648 places"),
    "size that wraps": (lies_at(*GOOD_AT, size=(1 << 16) + 16), "has 65552 places"),
    "outside": (lies_at(HVA - 64, *GOOD_AT[1:]), "not in guest memory"),
    "at the end": (lies_at(HVA + MEMORY_BYTES - 64, *GOOD_AT[1:]), "does not lie in guest memory"),
    "odd address": (lies_at(HVA + 8, *GOOD_AT[1:]), "or is not aligned"),
    "log": (lies_at(*GOOD_AT, flags=1), "to log"),
    "not described": (lambda f: f.kick(1), "before it is described"),
    "kick of a pipe": (
        with_fd(a_pipe, lambda f, fd: f.told(R.SET_VRING_KICK, U64.pack(1), [fd])),
        "is no eventfd (pipe",
    ),
    "call of a file": (lambda f: f.told(R.SET_VRING_CALL, U64.pack(1), [f.fd]), "is no eventfd"),
    "error of a file": (lambda f: f.told(R.SET_VRING_ERR, U64.pack(1), [f.fd]), "is no eventfd"),
    "no kick": (lambda f: f.told(R.SET_VRING_KICK, U64.pack(1 | VRING_NO_FD)), "without a kick"),
    "channel of a file": (lambda f: f.told(R.SET_BACKEND_REQ_FD, b"", [f.fd]), "by what is no socket"),
    "channel of a kind": (
        with_fd(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(), channel),
        "by what is no stream socket",
    ),
    "channel of a network": (with_fd(lambda: socket.socket().detach(), channel), "by what is no stream socket"),
    "capacity": (lambda f: f.told(R.SET_CONFIG, CONFIG.pack(0, 8, 0) + bytes(8)), "may not write"),
    "in flight of none": (in_flight(0, 16), "what 0 queues of 16 have"),
    "in flight of many": (in_flight(3, 16), "what 3 queues of 16 have"),
    "in flight of odd": (in_flight(1, 12), "what 1 queues of 12 have"),
    "in flight short": (in_flight(2, 256, 64), "a region of 64 bytes"),
    "in flight now": (in_flight(2, 16), "while there may be some"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """A front end that asks to be told is, and its other queue goes on; else it has to go."""
    prank, text = REFUSED[name]
    with FrontEndPuppet(path) as bad:
        bad.start()
        assert not prank(bad)
        if not name.startswith(("region", "address that", "offset", "overlap", "same", "not aligned", "memory")):
            bad.offer_read(0)
            wait_for(lambda: bad.used() == 1, "the other queue does not go on")
    check_serves(path)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert text in said[0]


def test_what_is_said_again_and_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A front end cannot fill a log."""
    with FrontEndPuppet(path) as bad:
        bad.start()
        for _ in range(200):
            assert not bad.told(R.SET_VRING_NUM, VRING_STATE.pack(7, 8))
    check_serves(path)
    assert 20 <= len(caplog.records) < 60


def test_drivers_of_another_time(path: Path) -> None:
    with FrontEndPuppet(path) as old:
        old.begin()
        assert not old.told(R.SET_FEATURES, U64.pack(1 << 30))
        assert not old.told(R.SET_FEATURES, U64.pack(FEATURES | 1 << 60))
        assert not old.kick()
    check_serves(path)


@pytest.mark.parametrize("cut", [0, 4096, USED])
def test_memory_that_is_cut(path: Path, back_end: BackEnd, caplog: pytest.LogCaptureFixture, cut: int) -> None:
    """Rings, buffers or all of it are not there any more: the session ends, nobody else does."""
    with FrontEndPuppet(path) as bad:
        bad.start()
        os.ftruncate(bad.fd, cut)
        os.eventfd_write(bad.kick_fd, 1)
        with pytest.raises(Ended):
            bad.answer()
    check_serves(path)
    assert "cut memory that it had given" in caplog.text


def test_eventfds_that_wait(path: Path) -> None:
    """One that is full, and made to wait, holds nobody."""
    with FrontEndPuppet(path) as bad:
        bad.start()
        with suppress(BlockingIOError):
            os.eventfd_read(bad.call_fd)
        os.eventfd_write(bad.call_fd, (1 << 64) - 2)
        for fd in (bad.call_fd, bad.kick_fd):
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        bad.offer_read(1)
        wait_for(lambda: bad.used() == 1, "no answer")
        bad.offer_read(2)
        wait_for(lambda: bad.used() == 2, "no second answer")
    check_serves(path)


def breaks_the_ring(bad: FrontEndPuppet) -> None:
    bad.memory[AVAILABLE + 2 : AVAILABLE + 4] = struct.pack("<H", SIZE + 1)
    os.eventfd_write(bad.kick_fd, 1)


def breaks_a_request(bad: FrontEndPuppet) -> None:
    bad.offer_room(64)  # without a header


@pytest.mark.parametrize(("breaks", "rule"), [(breaks_the_ring, "VQ-7"), (breaks_a_request, "BLK-3")])
def test_a_driver_that_breaks_a_rule(
    path: Path, back_end: BackEnd, caplog: pytest.LogCaptureFixture, breaks: Prank, rule: str
) -> None:
    """The front end is told by its eventfd each time, and can begin anew in the same session."""
    error_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    with FrontEndPuppet(path) as bad:
        bad.start()
        assert bad.told(R.SET_VRING_ERR, U64.pack(0), [error_fd])

        def told() -> bool:
            with suppress(BlockingIOError):
                return os.eventfd_read(error_fd) > 0
            return False

        for turn in range(1, 4):
            breaks(bad)
            wait_for(told, "its error was not told")
            assert U64.unpack(bad.ask(R.GET_STATUS))[0] & 64
            assert caplog.text.count(f"broke rule {rule}") == turn
            bad.offer_read(0)
            bad.ask(R.GET_VRING_BASE, VRING_STATE.pack(0, 0))
            assert bad.used() == 0
            if turn == 2:
                assert bad.told(R.RESET_DEVICE)
                assert bad.told(R.SET_FEATURES, U64.pack(FEATURES))
            bad.memory[AVAILABLE : AVAILABLE + 8] = bytes(8)
            bad.added = 0
            bad.describe()
            assert bad.kick()
        bad.offer_read(0)
        wait_for(lambda: bad.used() == 1, "no answer")
    os.close(error_fd)
