"""Usage on both engines: every line exact in sum, whoever counted."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from relay.outcome.reputation import Counts
from relay.store import accounts, usage
from relay.store.accounts import AccountRow
from relay.store.changes import control_write
from relay.store.engine import Store
from relay.store.tables import usage_day
from relay.store.usage import DAY, Late, Tally
from tests.support.plans import said_to_driver

A, B = "111122223333", "222222222222"
NEWS, SHOP = (f"arn:aws:ses:us-east-1:111122223333:identity/{name}.example" for name in ("news", "shop"))
TODAY = 20_000
NOW = TODAY * DAY + DAY // 2


def sent(account: str = A, arn: str = NEWS, day: int = TODAY, recipients: int = 1, size: int = 100) -> Tally:
    return Tally(account, arn, day * DAY + 5, messages=1, recipients=recipients, bytes=size)


def fared(account: str = A, arn: str = NEWS, day: int = TODAY, **fate: int) -> Tally:
    return Tally(account, arn, day * DAY + 5, **fate)


def count(store: Store, *tallies: Tally, worker: int = 1) -> None:
    with store.write() as connection:
        usage.count(connection, worker, tallies)


def lines(store: Store, *by: str, first: int = 0, **only: object) -> list[tuple[object, ...]]:
    with store.read() as connection:
        found = list(usage.lines(connection, by, first=first, **only))  # type: ignore[arg-type]
    return [(*(getattr(line, name) for name in by), line.counts) for line in found]


def add_account(store: Store, account_id: str) -> None:
    with control_write(store, "test") as write:
        accounts.add(write, AccountRow(account_id, "a", True, False, None, None, None, 1))


def records(store: Store, first: int = TODAY - 13) -> dict[str, Counts]:
    with store.read() as connection:
        return usage.records(connection, first)


def test_batch_is_summed_up_by_account_day_and_identity(store: Store) -> None:
    count(store, sent(recipients=3), sent(size=50), sent(arn=SHOP), sent(account=B), sent(day=TODAY - 1))
    count(store, sent(recipients=2))
    assert lines(store, "day", "account_id", "identity_arn") == [
        (TODAY - 1, A, NEWS, Counts(1, 1, 100)),
        (TODAY, A, NEWS, Counts(3, 6, 250)),
        (TODAY, A, SHOP, Counts(1, 1, 100)),
        (TODAY, B, NEWS, Counts(1, 1, 100)),
    ]


def test_batch_is_one_statement_a_line(store: Store) -> None:
    rows: list[Any] = []
    with said_to_driver(lambda text, row: rows.append(row)):
        count(store, *[sent() for _ in range(20)], fared(delivered=1), sent(arn=SHOP))
    assert len(rows) == 2


def test_nothing_to_count_asks_the_store_nothing(store: Store) -> None:
    rows: list[Any] = []
    with said_to_driver(lambda text, row: rows.append(row)):
        count(store)
    assert rows == []


def test_workers_count_apart_and_are_told_in_sum(store: Store) -> None:
    for worker in (1, 2, 3):
        count(store, sent(recipients=worker), worker=worker)
    assert lines(store, "account_id") == [(A, Counts(3, 6, 300))]
    with store.read() as connection:
        assert len(connection.execute(usage_day.select()).all()) == 3


def test_lines_are_narrowed_down(store: Store) -> None:
    count(store, sent(), sent(arn=SHOP), sent(account=B), sent(day=TODAY - 40))
    assert lines(store, "account_id", first=TODAY, identity_arn=NEWS) == [
        (A, Counts(1, 1, 100)),
        (B, Counts(1, 1, 100)),
    ]
    assert lines(store, "identity_arn", first=0, last=TODAY - 1, account_id=A) == [(NEWS, Counts(1, 1, 100))]


def test_rolled_back_transaction_counts_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write() as connection:
        usage.count(connection, 1, [sent()])
        raise RuntimeError
    assert lines(store, "account_id") == []


def test_threads_lose_nothing(store: Store) -> None:
    def work(worker: int) -> None:
        for _ in range(20):
            count(store, sent(), sent(arn=SHOP), worker=worker % 2)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines(store, "account_id") == [(A, Counts(160, 160, 16_000))]


# ---------------------------------------------------------------- what is known later


def test_complaint_and_late_bounce_stand_on_the_line_of_their_message(store: Store) -> None:
    count(store, sent(day=TODAY - 3, recipients=4), fared(day=TODAY - 3, delivered=4))
    late = Late(A, NEWS, (TODAY - 3) * DAY + 77)
    with store.write() as connection:
        usage.count_complaints(connection, 1, [late])
        usage.count_late_bounces(connection, 2, [late], is_hard=True)
        usage.count_late_bounces(connection, 1, [late], is_hard=False)
    assert lines(store, "day") == [(TODAY - 3, Counts(1, 4, 100, 2, 1, 1, 1))]


# ---------------------------------------------------------------- what reputation is judged on


def test_record_is_of_the_window(store: Store) -> None:
    add_account(store, A)
    count(
        store, fared(day=TODAY - 14, hard_bounces=100), fared(day=TODAY - 13, delivered=1), fared(delivered=2)
    )
    assert records(store) == {A: Counts(delivered=3)}


def test_record_begins_anew_when_the_account_is_resumed(store: Store) -> None:
    add_account(store, A)
    count(store, fared(day=TODAY - 1, hard_bounces=50), fared(delivered=3, hard_bounces=40))
    with store.write() as connection:
        before = usage.day_total(connection, A, TODAY)
        text = f"[{','.join(map(str, (0, 0, 0, before.delivered, before.hard_bounces, 0, 0)))}]"
        accounts.touch(connection, A, reputation_since=NOW, reputation_before=text)
    assert records(store) == {A: Counts()}
    count(store, fared(delivered=7), fared(hard_bounces=2), fared(day=TODAY - 1, hard_bounces=9), worker=2)
    assert records(store) == {A: Counts(delivered=7, hard_bounces=2)}
    count(store, fared(day=TODAY + 14, delivered=1))
    assert records(store, first=TODAY + 1) == {A: Counts(delivered=1)}


def test_records_are_of_each_account(store: Store) -> None:
    for account in (A, B):
        add_account(store, account)
    count(store, fared(delivered=1), fared(account=B, hard_bounces=1))
    assert records(store) == {A: Counts(delivered=1), B: Counts(hard_bounces=1)}
    with store.read() as connection:
        assert usage.records(connection, 0, B) == {B: Counts(hard_bounces=1)}
