"""Event rows on both engines: written with what they tell of, if somebody listens; claimed, done once."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from sqlalchemy import event, select, update

from relay.outcome.outcome import Bounced, Deferred, Delivered, Reply
from relay.queue.claims import message_of
from relay.queue.notifications import NewNotification
from relay.queue.outbox import Outbox, Telling, claim, tell
from relay.queue.settlement import Settlement
from relay.queue.spool import Committed, Spool
from relay.queue.values import Consignment, Lease
from relay.queue.writer import GroupWriter
from relay.store.engine import Store
from relay.store.tables import message, notification, outbox
from tests.integration.queue.conftest import register
from tests.support.mail import new_message, settled

_ids = itertools.count(6_000_000)
EVERYTHING = frozenset({"Send", "Delivery", "DeliveryDelay"})
LATER = Reply(451, None, "later")


def rows(store: Store) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(select(outbox).order_by(outbox.c.id)))


@pytest.fixture
def spool(store: Store, writer: GroupWriter) -> Spool:
    return Spool(store, writer, lambda: next(_ids))


@pytest.fixture
def settlement(writer: GroupWriter) -> Settlement:
    return Settlement(writer, lambda: next(_ids))


async def accepted(spool: Spool, lease: Lease, *addresses: str, **values: Any) -> Consignment:
    new = new_message(*addresses, lease=lease, **values)
    assert isinstance(await spool.enqueue(new), Committed)
    return Consignment(new.message, new.recipients, lease)


async def test_mail_that_nobody_listens_for_writes_nothing_but_failures(store, spool, settlement, lease):
    for outcome in (Delivered(), Deferred(1), Bounced("5.1.1")):
        await settlement.settle([settled(await accepted(spool, lease), outcome)])
    assert [row.kind for row in rows(store)] == ["bounce"]


async def test_each_type_is_written_down_if_somebody_listens_for_it(store, spool, settlement, lease):
    one = await accepted(spool, lease, events=EVERYTHING)
    [sent] = rows(store)
    assert (sent.kind, sent.id, sent.message_id, sent.due_at) == (
        "send",
        one.message.id,
        one.message.id,
        one.message.received_at,
    )
    await settlement.settle([settled(one, Deferred(1), LATER)])
    other = await accepted(spool, lease, events=frozenset({"Delivery"}))
    await settlement.settle([settled(other, Delivered())])
    told = {row.kind: orjson.loads(row.payload) for row in rows(store)}
    assert sorted(told) == ["delay", "delivery", "send"]
    assert [item["notice"] for item in told["delay"]] == [False]
    [delivered] = told["delivery"]
    assert (delivered["code"], delivered["text"], delivered["host"]) == (
        250,
        "Ok",
        "mx.example[127.0.0.1]:25",
    )


async def test_recipients_delivered_together_share_a_row(store, spool, settlement, lease):
    one = await accepted(spool, lease, "a@x.example", "b@x.example", events=frozenset({"Delivery"}))
    await settlement.settle([settled(one, Delivered(), number=0), settled(one, Delivered(), number=1)])
    [row] = rows(store)
    assert [item["address"] for item in orjson.loads(row.payload)] == ["a@x.example", "b@x.example"]


async def test_what_was_listened_for_is_known_when_mail_is_claimed(store, spool, lease):
    one = await accepted(spool, lease, events=EVERYTHING)
    with store.read() as connection:
        assert connection.execute(select(message.c.events)).scalar_one() == "Delivery,DeliveryDelay,Send"
        claimed = connection.execute(select(message)).one()
    assert message_of(claimed).events == one.message.events


class TestOutbox:
    async def test_notice_comes_with_its_message_its_record_and_the_newest_change(self, store, spool, lease):
        one = await accepted(spool, lease, events=EVERYTHING)
        with store.write() as connection:
            claimed = claim(connection, lease, 10)
            again = claim(connection, lease, 10)
        [notice] = claimed.notices
        assert notice.message is not None
        assert (notice.kind, notice.message.id, notice.record) == ("send", one.message.id, "{}")
        assert claimed.change == 0
        assert again.notices == ()

    async def test_what_is_told_is_queued_with_the_notice_done(self, store, spool, lease):
        await accepted(spool, lease, events=EVERYTHING)
        with store.write() as connection:
            [notice] = claim(connection, lease, 10).notices
            telling = Telling(notice, (_notification(notice.id),), new_message())
            assert tell(connection, lease, [telling]) == {notice.id}
            assert tell(connection, lease, [telling]) == frozenset()
        with store.read() as connection:
            assert connection.execute(select(outbox.c.state)).scalars().all() == ["done"]
            assert len(connection.execute(select(notification)).all()) == 1

    async def test_who_lost_the_lease_queues_nothing(self, store, spool, lease):
        for _ in range(2):
            await accepted(spool, lease, events=EVERYTHING)
        with store.write() as connection:
            first, second = claim(connection, lease, 10).notices
            other = register(store) if not store.is_sqlite else Lease(lease.worker_id, lease.epoch + 1)
            values = {"worker_id": other.worker_id, "worker_epoch": other.epoch}
            connection.execute(update(outbox).where(outbox.c.id == first.id).values(values))
            tellings = [Telling(one, (_notification(one.id),)) for one in (first, second)]
            assert tell(connection, lease, tellings) == {second.id}
        with store.read() as connection:
            assert connection.execute(select(notification.c.event_id)).scalars().all() == [second.id]

    async def test_failed_notice_is_due_later_or_never(self, store, spool, writer, lease):
        box = Outbox(store, writer, lease)
        await accepted(spool, lease, events=EVERYTHING)
        [notice] = (await box.claim(10)).notices
        await box.failed(notice, "boom", 3600)
        [row] = rows(store)
        assert (row.state, row.attempts, row.last_error) == ("queued", 1, "boom")
        assert (await box.claim(10)).notices == ()
        backlog = await box.backlog()
        assert (backlog.depth, backlog.lag_seconds) == (1, 0.0)

    async def test_backlog_tells_how_long_the_first_has_waited(self, store, spool, writer, lease):
        box = Outbox(store, writer, lease)
        assert (await box.backlog()).depth == 0
        await accepted(spool, lease, events=EVERYTHING)  # in 1970
        backlog = await box.backlog()
        assert backlog.depth == 1
        assert backlog.lag_seconds > 1_000_000


def _notification(event_id: int) -> NewNotification:
    return NewNotification(next(_ids), "222222222222", 1, event_id, "Send", "{}", 1)


async def test_due_notices_are_found_by_the_index_that_holds_no_done_ones(store, writer, lease):
    """Deliveries leave a row each for days."""
    if not store.is_sqlite:
        return  # an empty table is read whole there, and rightly
    asked: list[tuple[str, Any]] = []

    def listen(connection, cursor, statement, parameters, *_):
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    event.listen(store._reader, "before_cursor_execute", listen)
    box = Outbox(store, writer, lease)
    await box.claim(10)
    await box.backlog()
    event.remove(store._reader, "before_cursor_execute", listen)
    with store.read() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            assert "ix_outbox_due" in plan[0].detail, statement
    assert len(asked) == 2
