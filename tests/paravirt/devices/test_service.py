"""The thread of slow devices by itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from paravirt.devices.service import ServiceThread


@pytest.fixture
def fds() -> Iterator[list[int]]:
    fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(3)]
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture
def service(fds: list[int]) -> Iterator[ServiceThread]:
    service = ServiceThread()
    yield service
    service.close()


class Watcher:
    """Counts its calls and says `more` that many times."""

    def __init__(self, fd: int, more: int = 0) -> None:
        self.fd, self.more = fd, more
        self.calls = 0
        self.called = threading.Semaphore(0)

    def __call__(self) -> bool:
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            assert self.calls, "called although nothing was written"
        self.calls += 1
        self.called.release()
        self.more -= 1
        return self.more >= 0


def test_a_watcher_that_runs_while_the_thread_is_closed() -> None:
    """It starts no second thread, whose descriptors nobody would close, and does not wait for itself."""
    service = ServiceThread()
    first, second = os.eventfd(1), os.eventfd(0)
    called, go_on = threading.Event(), threading.Event()

    def watcher() -> bool:
        called.set()
        go_on.wait(10)
        service.watch(second, lambda: False)
        service.unwatch(first)
        return False

    service.watch(first, watcher)
    assert called.wait(10)
    closer = threading.Thread(target=service.close)
    closer.start()
    while not service._closing:
        time.sleep(0.001)
    go_on.set()
    closer.join(10)
    assert not closer.is_alive()
    assert service._thread is None
    service.close()
    os.close(first)
    os.close(second)


def test_calls_who_watches(service: ServiceThread, fds: list[int]) -> None:
    watchers = [Watcher(fd) for fd in fds]
    for watcher in watchers:
        service.watch(watcher.fd, watcher)
    for index in (1, 0, 1, 2):
        os.eventfd_write(fds[index], 1)
        assert watchers[index].called.acquire(timeout=10)
    assert [w.calls for w in watchers] == [1, 2, 1]


def test_calls_again_who_has_more(service: ServiceThread, fds: list[int]) -> None:
    greedy, modest = Watcher(fds[0], more=1 << 60), Watcher(fds[1])
    service.watch(fds[0], greedy)
    service.watch(fds[1], modest)
    os.eventfd_write(fds[0], 1)
    for _ in range(20):
        assert greedy.called.acquire(timeout=10)
    os.eventfd_write(fds[1], 1)
    assert modest.called.acquire(timeout=10)  # it has its turn all the same


def test_not_called_after_unwatch(service: ServiceThread, fds: list[int]) -> None:
    inside, go_on, log = threading.Event(), threading.Event(), list[str]()

    def slow() -> bool:
        inside.set()
        go_on.wait(10)
        log.append("done")
        return True

    service.watch(fds[0], slow)
    os.eventfd_write(fds[0], 1)
    assert inside.wait(10)
    threading.Timer(0.02, go_on.set).start()
    service.unwatch(fds[0])
    log.append("unwatched")
    time.sleep(0.02)
    assert log == ["done", "unwatched"]


def test_a_watcher_may_unwatch_itself(service: ServiceThread, fds: list[int]) -> None:
    calls, done = [], threading.Event()

    def once() -> bool:
        calls.append(1)
        service.unwatch(fds[0])
        done.set()
        return True

    service.watch(fds[0], once)
    os.eventfd_write(fds[0], 1)
    assert done.wait(10)
    time.sleep(0.01)
    assert calls == [1]


def test_sleeps_when_nothing_is_to_do(service: ServiceThread, fds: list[int]) -> None:
    service.watch(fds[0], Watcher(fds[0]))
    time.sleep(0.01)
    cpu = time.process_time()
    time.sleep(0.05)
    assert time.process_time() - cpu < 0.03


def test_close_and_begin_again(service: ServiceThread, fds: list[int]) -> None:
    for _ in range(20):
        watcher = Watcher(fds[0])
        service.watch(fds[0], watcher)
        os.eventfd_write(fds[0], 1)
        assert watcher.called.acquire(timeout=10)
        service.close()
        service.close()
    assert not [t for t in threading.enumerate() if t.name == "devices"]
