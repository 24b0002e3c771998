"""Machines made ahead: taken, replaced, and given back."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paravirt import Machine, MachineConfig, Pool
from paravirt.errors import ConfigError, HostCallFailed, HostLimit, ImageUnreadable, OutputError
from tests.support.built import GUESTS
from tests.support.threads import refuse_thread

pytestmark = [pytest.mark.kvm]

HELLO = MachineConfig(GUESTS / "hello.elf", memory_bytes=4 << 20)
WORD = b"hello from a paravirt guest\n"
PATIENCE_S = 60.0


def run(pool: Pool) -> bytes:
    said = bytearray()
    with pool.take(said.extend) as machine:
        assert machine.run().status == 0
    return bytes(said)


def test_those_taken_are_replaced() -> None:
    with Pool(HELLO, 3) as pool:
        assert pool.wait(PATIENCE_S)
        taken = [pool.take() for _ in range(3)]
        assert pool.wait(PATIENCE_S)
        assert (pool.ready, pool.missed) == (3, 0)
        assert len({machine.config.uuid for machine in taken}) == 3
        for machine in taken:
            with machine:
                assert machine.run().status == 0


def test_more_than_are_ready() -> None:
    with Pool(HELLO, 1) as pool:
        assert [run(pool) for _ in range(4)] == [WORD] * 4
        taken = [pool.take() for _ in range(4)]
        assert pool.missed > 0
        for machine in taken:
            machine.close()


def test_from_many_threads() -> None:
    said: list[bytes] = []

    def one() -> None:
        said.extend(run(pool) for _ in range(5))

    with Pool(HELLO, 4) as pool:
        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert said == [WORD] * 20


def test_nothing_is_left_of_a_pool() -> None:
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(5):
        with Pool(HELLO.replace(vcpus=2), 4) as pool:
            machine = pool.take()
        with machine:  # it is its taker's
            assert machine.run().status == 0
    assert len(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


def test_memory_that_is_backed_before() -> None:
    with Pool(HELLO.replace(populate=True), 1) as pool, pool.take() as machine:
        assert machine.statistics().memory.resident_bytes == 4 << 20


def test_each_as_a_function_says() -> None:
    numbers = itertools.count()
    with Pool(lambda: HELLO.replace(name=f"guest{next(numbers)}"), 2) as pool:
        assert pool.wait(PATIENCE_S)
        taken = [pool.take() for _ in range(2)]
        for machine in taken:
            machine.close()
    assert [machine.config.name for machine in taken] == ["guest0", "guest1"]


def test_what_cannot_be_made_is_told_at_once() -> None:
    with pytest.raises(ImageUnreadable), Pool(MachineConfig(Path("none.elf"))):
        pass


def failing_after(first: int, error: Exception) -> Callable[[], MachineConfig]:
    """A configuration so often, and an error from then on."""
    made = iter(range(first))

    def config() -> MachineConfig:
        if next(made, None) is None:
            raise error
        return HELLO

    return config


@pytest.mark.parametrize("error", [HostLimit("no more"), KeyError("no more")], ids=["ours", "the caller's"])
def test_what_cannot_be_made_later_is_told_who_takes_it(error: Exception) -> None:
    with Pool(failing_after(2, error), 3) as pool:
        assert not pool.wait(PATIENCE_S)
        assert pool.ready == 2
        assert run(pool) == run(pool) == WORD
        with pytest.raises(type(error), match="no more"):
            pool.take()


@pytest.fixture
def nothing_left() -> Iterator[None]:
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    yield
    assert len(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


@pytest.mark.usefixtures("nothing_left")
def test_no_thread_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_thread(monkeypatch, "pool")
    pool = Pool(HELLO, 2)
    with pytest.raises(HostCallFailed, match="cannot start the pool's thread: .*; see ulimit -u"):
        pool.__enter__()
    assert pool.ready == 0


@pytest.mark.usefixtures("nothing_left")
def test_a_pool_is_opened_again_but_not_twice() -> None:
    pool = Pool(HELLO, 1)
    for _ in range(2):
        with pool:
            assert run(pool) == WORD
            with pytest.raises(ConfigError, match="the pool is open"):
                pool.__enter__()
            assert run(pool) == WORD


def interrupting(turn: int) -> Callable[[], MachineConfig]:
    """SIGINT comes while a machine is made: the one of that number."""
    numbers = itertools.count()

    def config() -> MachineConfig:
        if next(numbers) == turn:
            os.kill(os.getpid(), signal.SIGINT)
        return HELLO

    return config


@pytest.mark.usefixtures("nothing_left")
def test_interrupted_as_it_opens() -> None:
    with pytest.raises(KeyboardInterrupt):
        Pool(interrupting(0), 2).__enter__()


@pytest.mark.usefixtures("nothing_left")
def test_interrupted_as_one_is_taken() -> None:
    with Pool(HELLO, 1) as pool:
        assert pool.wait(PATIENCE_S)
        with pool._changed:  # its thread makes none beside
            pool._wanted = 0
        pool.take().close()
        pool._config = interrupting(0)
        with pytest.raises(KeyboardInterrupt):
            pool.take()


@pytest.mark.usefixtures("nothing_left")
def test_one_that_fails_at_its_end_does_not_keep_the_others(tmp_path: Path) -> None:
    """A disk without room for a trace."""
    traces = itertools.chain([Path("/dev/full")], (tmp_path / f"{n}.json" for n in itertools.count()))
    with pytest.raises(OutputError, match="/dev/full"), Pool(lambda: HELLO.replace(trace=next(traces)), 3) as pool:
        assert pool.wait(PATIENCE_S)


def test_a_machine_is_made_once() -> None:
    with Machine(HELLO) as machine:
        native = machine.native
        machine.prepare()
        assert machine.native is native
        assert machine.run().status == 0


def test_a_pool_that_is_closed() -> None:
    pool = Pool(HELLO, 1)
    with pytest.raises(ConfigError, match="within its context"):
        pool.take()


@pytest.mark.parametrize("ready", [0, -1, 1025])
def test_a_size_that_cannot_be(ready: int) -> None:
    with pytest.raises(ConfigError, match="it keeps from 1 to 1024"):
        Pool(HELLO, ready)


def test_a_trace_is_one_machines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one machine's"):
        Pool(HELLO.replace(trace=tmp_path / "trace.json"))
