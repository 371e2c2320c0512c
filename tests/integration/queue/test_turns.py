"""Accounts take turns when what is due is claimed, on both engines."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from relay.queue import claims
from relay.queue.claims import Claims
from relay.queue.spool import insert_messages
from relay.queue.values import Claimed
from relay.store.engine import Store
from relay.store.tables import recipient
from tests.integration.queue.conftest import register
from tests.support.mail import claim_due, new_message

LATER = 9_000_000_000_000_000
BULK, SMALL = "444444444444", "999999999999"


def put(store: Store, account: str, count: int = 1, due_at: int = 1_000) -> None:
    with store.write() as connection:
        insert_messages(connection, [new_message(account_id=account) for _ in range(count)])
        mine = recipient.c.account_id == account
        connection.execute(update(recipient).where(mine).values(due_at=due_at))


def accounts_of(claimed: Claimed) -> Counter[str]:
    counts: Counter[str] = Counter()
    for one in claimed.consignments:
        counts[one.message.account_id] += len(one.recipients)
    return counts


async def test_account_with_little_is_claimed_beside_one_with_much_that_waits_longer(store, writer, lease):
    put(store, BULK, 500)
    put(store, SMALL, 3, due_at=2_000)
    claimed = await Claims(store, writer, lease).claim(100)
    assert accounts_of(claimed) == {BULK: 50, SMALL: 3}
    assert claimed.is_more


async def test_one_account_takes_it_all_if_no_other_has_anything_due(store, writer, lease):
    put(store, BULK, 150)
    put(store, SMALL, 3, due_at=LATER)
    one = Claims(store, writer, lease)
    first, second, third = [await one.claim(100) for _ in range(3)]
    assert [accounts_of(claimed)[BULK] for claimed in (first, second, third)] == [100, 50, 0]
    assert [claimed.is_more for claimed in (first, second, third)] == [True, False, False]


async def test_all_have_their_turn_though_there_are_more_than_one_claim_takes_from(store, writer, lease):
    names = [f"{number:012}" for number in range(45)]
    for name in names:
        put(store, name, 20)
    one = Claims(store, writer, lease)
    counts: Counter[str] = Counter()
    for _ in range(9):  # of twenty accounts each, four rounds in all
        counts += accounts_of(await one.claim(100))
    assert counts == dict.fromkeys(names, 20)


async def test_account_that_has_enough_is_left_out(store, writer, lease):
    put(store, BULK, 10)
    put(store, SMALL)
    one = Claims(store, writer, lease)
    assert accounts_of(await one.claim(100, [BULK])) == {SMALL: 1}
    assert await one.claim(100, [BULK]) == Claimed()
    assert accounts_of(await one.claim(100)) == {BULK: 10}


async def test_accounts_with_nothing_due_are_passed_over_piece_by_piece(
    store, writer, lease, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "_MOST_PAGES", 1)
    with store.write() as connection:
        waiting = [new_message(account_id=f"{number:012}") for number in range(450)]
        insert_messages(connection, waiting)
        connection.execute(update(recipient).values(due_at=LATER))
    put(store, SMALL)
    one = Claims(store, writer, lease)
    found = [await one.claim(100) for _ in range(3)]
    assert [claimed.is_more for claimed in found[:2]] == [True, True]
    assert accounts_of(found[2]) == {SMALL: 1}


def test_claims_of_many_accounts_at_once_take_nothing_twice(store):
    for number in range(6):
        put(store, f"{number:012}", 50)
    leases = [register(store) for _ in range(3)]

    def work(lease) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for _ in range(40):
            with store.write() as connection:
                taken = claim_due(connection, lease, 12)
            found += [(one.message.id, other.number) for one in taken for other in one.recipients]
        return found

    with ThreadPoolExecutor(3) as pool:
        keys = [key for found in pool.map(work, leases) for key in found]
    assert len(keys) == len(set(keys)) == 300
