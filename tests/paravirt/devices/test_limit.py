"""Token buckets by themselves, with a clock of the test's own."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from paravirt._native import ffi, lib

SECOND = 1_000_000_000
START = 7 * SECOND


def bucket(operations: int = 0, size_bytes: int = 0, burst_ns: int = 0) -> Any:
    limit, rates = ffi.new("struct pv_limit *"), ffi.new("struct pv_limit_rates *")
    rates.operations_per_second, rates.bytes_per_second, rates.burst_ns = operations, size_bytes, burst_ns
    lib.pv_limit_init(limit, rates)
    return limit


def goes(limit: Any, until_ns: int, size_bytes: int, now: int = START) -> int:
    """How many operations go until then, for someone who sleeps as long as he is told."""
    number = 0
    while now < until_ns:
        if due := lib.pv_limit_due(limit, now):
            assert due > now, "a time that is over would have it spin"
            now = due
        else:
            lib.pv_limit_charge(limit, now, size_bytes)
            number += 1
    return number


def test_without_rates_everything_goes() -> None:
    limit = bucket()
    for _ in range(1000):
        assert lib.pv_limit_due(limit, START) == 0
        lib.pv_limit_charge(limit, START, 1 << 40)


@pytest.mark.parametrize("burst_ns", [0, SECOND // 10, SECOND])
@pytest.mark.parametrize("seconds", [1, 10])
def test_operations_per_second(burst_ns: int, seconds: int) -> None:
    number = goes(bucket(operations=500, burst_ns=burst_ns), START + seconds * SECOND, 4096)
    most = 500 * seconds + 500 * burst_ns // SECOND
    assert most <= number <= most + 2


def test_bytes_per_second() -> None:
    number = goes(bucket(size_bytes=1 << 20), START + 10 * SECOND, 4096)
    assert 10 * 256 <= number <= 10 * 256 + 2


def test_the_tighter_rate_holds() -> None:
    assert goes(bucket(operations=100, size_bytes=1 << 20), START + 10 * SECOND, 4096) <= 1002
    assert goes(bucket(operations=1000, size_bytes=1 << 20), START + 10 * SECOND, 4096) <= 2562


def test_one_that_is_larger_than_the_burst_goes_and_is_paid_for_afterwards() -> None:
    limit = bucket(size_bytes=1000, burst_ns=SECOND // 10)
    assert lib.pv_limit_due(limit, START) == 0
    lib.pv_limit_charge(limit, START, 5000)
    assert lib.pv_limit_due(limit, START) == START + 5 * SECOND - SECOND // 10


def test_idleness_saves_no_more_than_the_burst() -> None:
    limit = bucket(operations=1000, burst_ns=SECOND // 100)
    goes(limit, START + SECOND, 1)
    assert goes(limit, START + 60 * SECOND + 1, 1, now=START + 60 * SECOND) <= 12


def test_the_largest_numbers_do_not_wrap() -> None:
    limit = bucket(operations=1, size_bytes=1)
    for _ in range(10):
        lib.pv_limit_charge(limit, START, (1 << 64) - 1)
    assert START < lib.pv_limit_due(limit, START) <= START + 7200 * SECOND


def test_threads_share_one() -> None:
    """Charges are not lost."""
    limit = bucket(operations=1000)

    def charge() -> None:
        for _ in range(2000):
            lib.pv_limit_charge(limit, START, 0)

    threads = [threading.Thread(target=charge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit.operations_paid_ns == START + 8 * SECOND
