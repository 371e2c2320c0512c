"""What is finished goes: bodies at once, records after their days; what waits never does."""

from __future__ import annotations

import asyncio
import time
from collections import deque

import pytest
from sqlalchemy import func, insert, select, update

from relay.outcome.outcome import Bounced, Deferred, Delivered
from relay.queue.refusals import Refusal, Refusals
from relay.queue.retention import Retention, expire, purge_bodies, sweep
from relay.queue.settlement import Settlement
from relay.queue.spool import Spool
from relay.queue.values import Consignment, Lease
from relay.queue.writer import GroupWriter
from relay.store.engine import Store
from relay.store.tables import attempt, body_chunk, message, outbox, recipient, refusal
from relay.submission.identifiers import compose_id
from tests.support.mail import new_message, settled

DAY = 86_400_000


def count(store: Store, table) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def with_body(store: Store) -> list[int]:
    """Ids of the messages that have one."""
    with store.read() as connection:
        query = select(body_chunk.c.message_id).order_by(body_chunk.c.message_id)
        return list(connection.execute(query).scalars())


@pytest.fixture
def put(store: Store, writer: GroupWriter, lease: Lease):
    """Queues a message of some age in days and settles its recipients with the given outcomes."""
    ids = iter(range(1, 1000))
    spool = Spool(store, writer, lambda: next(ids))
    settlement = Settlement(writer, lambda: compose_id(1_700_000_000_000, 1, next(ids)))

    async def put(*outcomes, age_days: float = 0) -> int:
        message_id = compose_id(int(time.time() * 1000 - age_days * DAY), 1, next(ids))
        addresses = [f"r{n}@x.example" for n in range(len(outcomes))]
        new = new_message(*addresses, lease=lease, id=message_id)
        await spool.enqueue(new)
        one = Consignment(new.message, new.recipients, lease)
        put.consignments[message_id] = one
        done = [settled(one, outcome, number=n) for n, outcome in enumerate(outcomes) if outcome]
        await settlement.settle(done)
        return message_id

    put.consignments = {}
    put.settlement = settlement
    put.finished = settlement.finished
    return put


async def test_body_goes_when_the_last_recipient_is_done(store, put):
    done = await put(Delivered(), Bounced("5.1.1"))
    waiting = await put(Delivered(), Deferred(1))
    leased = await put(Delivered(), None)
    if store.is_sqlite:
        assert not put.finished
    else:
        assert set(put.finished) == {done, waiting, leased}
        with store.write() as connection:
            assert purge_bodies(connection, [done, waiting, leased]) == 1
    assert with_body(store) == [waiting, leased]
    assert count(store, message) == 3


async def test_body_goes_with_the_last_of_several_settlements(store, put):
    one = put.consignments[await put(Delivered(), None)]
    assert with_body(store) == [one.message.id]
    await put.settlement.settle([settled(one, Delivered(), number=1)])
    with store.write() as connection:
        purge_bodies(connection, list(put.finished))
    assert with_body(store) == []


async def test_what_was_only_deferred_is_not_looked_at(store, put):
    waiting = await put(Deferred(1))
    assert not put.finished
    assert with_body(store) == [waiting]


async def test_sweep_finds_what_a_crash_left_over(store, put):
    done = [await put(Delivered()) for _ in range(3)]
    waiting = await put(None)
    with store.write() as connection:
        purge_bodies(connection, done)
        connection.execute(insert(body_chunk), [{"message_id": one, "seq": 0, "data": b"x"} for one in done])
        assert sweep(connection, 0) is None
    assert with_body(store) == [waiting]


async def test_records_go_after_their_days_with_all_that_belongs_to_them(store, writer, put):
    await put(Delivered(), Bounced("5.1.1"), age_days=8)
    young = await put(Delivered(), age_days=6)
    before = compose_id(int(time.time() * 1000) - 7 * DAY, 0, 0)
    with store.write() as connection:
        assert not expire(connection, before)
    with store.read() as connection:
        assert connection.execute(select(message.c.id)).scalars().all() == [young]
    assert [count(store, table) for table in (recipient, attempt, outbox)] == [1, 1, 0]


async def test_old_mail_that_waits_is_kept(store, put):
    await put(Deferred(1), age_days=30)
    with store.write() as connection:
        connection.execute(update(recipient).values(state="held"))
        expire(connection, compose_id(int(time.time() * 1000), 0, 0))
    assert count(store, message) == 1


async def test_old_mail_that_waits_is_passed_over_so_much_at_a_time(store, put, monkeypatch):
    """A million held messages must not be looked through while the store's one writer waits."""
    monkeypatch.setattr("relay.queue.retention._EXPIRE_LOOKS", 2)
    waiting = [await put(Deferred(1), age_days=30) for _ in range(5)]
    await put(Delivered(), age_days=20)
    now = compose_id(int(time.time() * 1000), 0, 0)
    after, batches = 0, 0
    while after is not None:
        with store.write() as connection:
            after = expire(connection, now, after)
        batches += 1
    with store.read() as connection:
        assert connection.execute(select(message.c.id)).scalars().all() == waiting
    assert batches == 4


async def test_refusals_go_too(store, writer):
    refusals = Refusals(writer)
    for age, name in ((8, "OLD00000"), (1, "NEW00000")):
        old_id = compose_id(int(time.time() * 1000 - age * DAY), 1, age)
        assert await refusals.keep(Refusal(old_id, name, "222222222222", "AKIA", 1, "syntax", "no", "{}"))
    with store.write() as connection:
        expire(connection, compose_id(int(time.time() * 1000) - 7 * DAY, 0, 0))
    with store.read() as connection:
        assert connection.execute(select(refusal.c.reference)).scalars().all() == ["NEW00000"]


async def test_all_of_it_happens_by_itself(store, writer, put):
    await put(Delivered(), age_days=8)
    await put(Delivered())
    task = asyncio.ensure_future(Retention(writer, 7, deque(put.finished)).run())
    async with asyncio.timeout(10):
        while count(store, body_chunk) or count(store, message) != 1:
            await asyncio.sleep(0.01)
    task.cancel()
