"""Notifications on both engines: claimed once and fairly, settled once, gone with their event."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.dialects import sqlite

from relay.queue import workers
from relay.queue.notifications import (
    _WAITING,
    NO_EVENT,
    NewNotification,
    Notification,
    Notifications,
    Told,
    bury,
    claim,
    insert_notifications,
    settle,
    waiting,
)
from relay.queue.retention import expire
from relay.queue.spool import Spool
from relay.store.engine import Store
from relay.store.tables import account, notification, outbox, subscription, topic, worker
from tests.integration.queue.conftest import register
from tests.support.mail import new_message

_ids = itertools.count(1)
ACCOUNT = "111122223333"


def put(store: Store, of: int, count: int = 1, *, at: int = 1, event_id: int = 7) -> list[int]:
    new = [
        NewNotification(next(_ids), ACCOUNT, of, event_id, "Bounce", f'{{"n": {n}}}', at)
        for n in range(count)
    ]
    with store.write() as connection:
        insert_notifications(connection, new)
    return [one.id for one in new]


def take(store: Store, lease: workers.Lease, room: dict[int, int]) -> list[Notification]:
    with store.write() as connection:
        return claim(connection, lease, room)


def tell(store: Store, *told: Told) -> None:
    with store.write() as connection:
        settle(connection, told)


def states(store: Store) -> dict[int, str]:
    with store.read() as connection:
        return dict(connection.execute(select(notification.c.id, notification.c.state)).all())


def subscribe(store: Store, of: int) -> None:
    with store.write() as connection:
        if not connection.execute(select(account.c.account_id)).first():
            row = {"account_id": ACCOUNT, "name": "a", "production": True, "paused": False, "created_at": 1}
            connection.execute(insert(account), [row])
            named = {"id": 1, "account_id": ACCOUNT, "name": "t", "signature_version": 2, "created_at": 1}
            connection.execute(insert(topic), [named])
        values = {
            "id": of,
            "account_id": ACCOUNT,
            "topic_id": 1,
            "uuid": f"{of:036}",
            "protocol": "http",
            "endpoint": "http://x.example/",
            "state": "confirmed",
            "raw_delivery": False,
            "created_at": 1,
        }
        connection.execute(insert(subscription), [values])


def health(store: Store, of: int) -> tuple[int | None, str | None]:
    with store.read() as connection:
        columns = subscription.c.failing_since, subscription.c.last_error
        row = connection.execute(select(*columns).where(subscription.c.id == of)).one()
        return row.failing_since, row.last_error


def test_each_subscription_that_is_waited_for_is_found_by_its_first_due(store):
    put(store, 5, 3, at=50)
    put(store, 5, 1, at=20)
    put(store, 9, 1, at=10)
    with store.read() as connection:
        found = waiting(connection)
    assert [(one.subscription_id, one.due_at) for one in found] == [(9, 10), (5, 20)]


def test_nothing_waits_in_an_empty_store(store):
    with store.read() as connection:
        assert waiting(connection) == []


@pytest.mark.parametrize("engine", ["sqlite"])
def test_what_waits_is_found_without_reading_every_row(store):
    compiled = str(_WAITING.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    with store.read() as connection:
        plan = [row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}"))]
    assert not [line for line in plan if line.startswith("SCAN notification") and "INDEX" not in line], plan
    assert any("ix_notification_due" in line for line in plan), plan


def test_claim_takes_no_more_than_there_is_room_for_and_the_longest_due_first(store, lease):
    late = put(store, 5, 3, at=100)
    early = put(store, 5, 2, at=50)
    other = put(store, 6, 4)
    taken = take(store, lease, {5: 3, 6: 2})
    assert [one.id for one in taken] == [*early, late[0], *other[:2]]
    assert [one.id for one in take(store, lease, {5: 10})] == late[1:]


def test_notification_is_claimed_once(store):
    put(store, 5, 10)
    first, second = register(store), register(store)
    taken = take(store, first, {5: 4}) + take(store, second, {5: 100})
    assert len({one.id for one in taken}) == len(taken) == 10


def test_what_is_not_due_is_not_claimed(store, lease):
    with store.read() as connection:
        later = workers.now(connection) + 3_600_000_000
    put(store, 5, at=later)
    assert take(store, lease, {5: 10}) == []


def test_posted_is_done_and_failed_is_due_again_or_dead(store, lease):
    put(store, 5, 3)
    one, two, three = take(store, lease, {5: 10})
    tell(store, Told(one), Told(two, "500", 60), Told(three, "gone", None))
    assert states(store) == {one.id: "done", two.id: "queued", three.id: "dead"}
    with store.read() as connection:
        row = connection.execute(select(notification).where(notification.c.id == two.id)).one()
        assert 55_000_000 < row.due_at - workers.now(connection) < 61_000_000
    assert (row.attempts, row.last_error) == (1, "500")


def test_stale_owner_is_fenced_off(store, lease):
    put(store, 5, 2)
    one, two = take(store, lease, {5: 10})
    with store.write() as connection:
        connection.execute(update(notification).values(worker_epoch=lease.epoch + 1))
    tell(store, Told(one), Told(two, "500", 60))
    assert set(states(store).values()) == {"leased"}


def test_subscription_fails_since_its_first_failure_until_a_success(store, lease):
    subscribe(store, 5)
    put(store, 5, 3)
    one, two, three = take(store, lease, {5: 10})
    tell(store, Told(one, "first", 60))
    since, error = health(store, 5)
    assert since is not None
    assert error == "first"
    tell(store, Told(two, "second", 60))
    assert health(store, 5) == (since, "second")
    tell(store, Told(three))
    assert health(store, 5) == (None, None)


def test_success_in_the_same_batch_is_no_failing(store, lease):
    subscribe(store, 5)
    put(store, 5, 2)
    one, two = take(store, lease, {5: 10})
    tell(store, Told(one, "500", 60), Told(two))
    assert health(store, 5) == (None, None)


def test_what_a_dead_worker_held_is_anybodys(store, lease):
    put(store, 5, 2)
    take(store, lease, {5: 10})
    with store.write() as connection:
        connection.execute(update(worker).values(running=False))
        assert workers.reclaim(connection) == 2
    assert len(take(store, register(store), {5: 10})) == 2


def test_what_waits_for_a_dead_subscription_is_buried(store, lease):
    put(store, 5, 3)
    kept = put(store, 6, 1)
    [held] = take(store, lease, {5: 1})
    with store.write() as connection:
        assert bury(connection, 5, "the subscription is dead") == 2
    assert sorted(states(store).values()) == ["dead", "dead", "leased", "queued"]
    assert states(store)[kept[0]] == "queued"
    tell(store, Told(held))
    assert states(store)[held.id] == "done"


async def test_the_writer_settles_what_several_hand_in_at_once(store, writer, lease):
    put(store, 5, 4)
    of = Notifications(store, writer, lease)
    at, found = await of.waiting()
    assert found[0].due_at <= at
    taken = await of.claim({5: 10})
    await of.release(taken[:1])
    first, second = of.settle([Told(taken[1])]), of.settle([Told(taken[2]), Told(taken[3], "500", 9)])
    await first
    await second
    assert sorted(states(store).values()) == ["done", "done", "queued", "queued"]


async def test_notifications_go_with_their_event(store, writer, lease):
    new = new_message(lease=lease, id=1 << 22)
    await Spool(store, writer, lambda: next(_ids)).enqueue(new)
    values = {
        "id": 70,
        "account_id": ACCOUNT,
        "message_id": new.message.id,
        "kind": "bounce",
        "payload": "[]",
        "created_at": 1,
        "due_at": 1,
        "attempts": 0,
        "state": "done",
        "worker_id": 0,
        "worker_epoch": 0,
    }
    with store.write() as connection:
        connection.execute(insert(outbox), [values])
        connection.execute(text("UPDATE recipient SET state = 'bounced'"))
    put(store, 5, 2, event_id=70)
    other = put(store, 5, 1, event_id=71)
    handshake, waits = put(store, 5, 2, event_id=NO_EVENT)
    with store.write() as connection:
        connection.execute(update(notification).where(notification.c.id == handshake).values(state="done"))
        assert not expire(connection, 1 << 40)
    assert states(store).keys() == {*other, waits}
