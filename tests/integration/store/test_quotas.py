"""Quotas in the store: exact in sum, over a day that moves, on both engines."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from relay.quotas.check import Charge, Exceeded, Fits
from relay.quotas.window import MINUTE, UNLIMITED, Quota
from relay.store import quotas
from relay.store.engine import Store
from relay.store.tables import usage_minute

A, B = "111122223333", "222222222222"
NOW = 1_800_000_000_000_000
DAY = 24 * 60 * MINUTE


def charge(recipients: int = 1, day: int = 100, account: str = A, rate: int = UNLIMITED) -> Charge:
    return Charge(account, Quota(day, rate), recipients, recipients)


def reserve(store: Store, *charges: Charge, at: int = NOW) -> list[Fits | Exceeded]:
    with store.write() as connection:
        return quotas.reserve(connection, charges, at)


def fits(store: Store, *charges: Charge, at: int = NOW) -> list[bool]:
    return [isinstance(one, Fits) for one in reserve(store, *charges, at=at)]


def sent(store: Store, account: str = A, at: int = NOW) -> int:
    with store.read() as connection:
        return quotas.sent_24h(connection, account, at)


def test_messages_of_a_batch_are_counted_in_order(store: Store) -> None:
    assert fits(store, charge(60), charge(50), charge(40), charge(1)) == [True, False, True, False]
    assert sent(store) == 100


def test_accounts_do_not_share(store: Store) -> None:
    assert fits(store, charge(100), charge(100, account=B), charge(1), charge(1, account=B)) == [
        True,
        True,
        False,
        False,
    ]


def test_rolled_back_transaction_counts_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write() as connection:
        quotas.reserve(connection, [charge(100)], NOW)
        raise RuntimeError
    assert fits(store, charge(100)) == [True]


def test_day_moves_on_by_the_minute(store: Store) -> None:
    assert fits(store, charge(30), at=NOW) == [True]
    assert fits(store, charge(70), at=NOW + 10 * MINUTE) == [True]
    assert fits(store, charge(1), at=NOW + DAY) == [False]
    assert fits(store, charge(30), charge(1), at=NOW + DAY + MINUTE) == [True, False]
    assert sent(store, at=NOW + DAY + MINUTE) == 100
    assert fits(store, charge(70), at=NOW + DAY + 11 * MINUTE) == [True]


def test_minutes_that_no_longer_count_are_removed(store: Store) -> None:
    for minute in range(5):
        reserve(store, charge(1), at=NOW + minute * MINUTE)
    reserve(store, charge(1), at=NOW + 2 * DAY)
    with store.read() as connection:
        assert len(connection.execute(select(usage_minute)).all()) == 1


def test_idle_account_shows_nothing_used_after_a_day(store: Store) -> None:
    reserve(store, charge(10))
    assert (sent(store), sent(store, at=NOW + DAY), sent(store, at=NOW + DAY + MINUTE)) == (10, 10, 0)


def test_new_account_has_one_seconds_quota(store: Store) -> None:
    assert fits(store, *[charge(1, rate=3)] * 4) == [True, True, True, False]


def test_clock_set_back_by_days_loses_no_usage(store: Store) -> None:
    assert fits(store, charge(60), at=NOW) == [True]
    assert fits(store, charge(40), at=NOW - 3 * DAY) == [True]
    assert fits(store, charge(1), at=NOW) == [False]


def test_race_lets_through_exactly_the_quota(store: Store) -> None:
    passed: list[int] = []
    start = threading.Barrier(8)

    def send() -> None:
        start.wait()
        for size in (3, 1, 2, 4, 5, 1, 3, 2):
            batch = [charge(size), charge(1, account=B, day=1000)]
            if isinstance(reserve(store, *batch if size % 2 else batch[::-1])[0 if size % 2 else 1], Fits):
                passed.append(size)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == sent(store) <= 100
    assert sum(passed) > 95  # 168 were asked for; at most one message of 5 found no room
    assert sent(store, B) == 64
