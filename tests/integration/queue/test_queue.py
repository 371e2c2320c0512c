"""The queue on both engines: into it, claimed once, settled once, told of once."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from sqlalchemy import func, select, text, update

from relay.outcome.outcome import Bounced, Deferred, Delivered, Reply
from relay.queue import workers
from relay.queue.claims import Claims
from relay.queue.settlement import Settlement
from relay.queue.spool import Committed, Spool, Stale, sweep_orphans
from relay.queue.values import Claimed, Consignment, Lease
from relay.queue.writer import GroupWriter, alone
from relay.store.changes import control_write, newest
from relay.store.engine import Store
from relay.store.tables import attempt, body_chunk, message, outbox, recipient, spill
from tests.integration.queue.conftest import register
from tests.support.mail import claim_due, new_message, settled

_outbox_ids = itertools.count(5_000_000)


def rows(store: Store, table, *columns):
    with store.read() as connection:
        return connection.execute(select(*columns) if columns else select(table)).all()


def claim_now(store: Store, lease: Lease, limit: int = 100) -> list[Consignment]:
    with store.write() as connection:
        return claim_due(connection, lease, limit)


@pytest.fixture
def spool(store: Store, writer: GroupWriter) -> Spool:
    return Spool(store, writer, lambda: next(_outbox_ids))


@pytest.fixture
def settlement(writer: GroupWriter) -> Settlement:
    return Settlement(writer, lambda: next(_outbox_ids))


async def test_message_is_there_with_all_its_recipients_and_octets(store, spool):
    new = new_message("a@x.example", "b@y.example", body=(b"one\r\n", b"two\r\n"), chunks=2)
    assert isinstance(await spool.enqueue(new), Committed)
    assert [row.state for row in rows(store, recipient)] == ["queued", "queued"]
    [one] = claim_now(store, register(store))
    assert one.message.header == new.message.header
    assert b"".join([part async for part in spool.body(one.message)]) == b"one\r\ntwo\r\n"


def test_two_workers_that_start_at_once_have_different_numbers(store):
    with ThreadPoolExecutor(1) as other:
        with store.write() as connection:
            mine = workers.register(connection, "here")
            theirs = other.submit(register, store, "there")
            while not (store.is_sqlite or somebody_waits(store)):
                assert not theirs.done()
        assert theirs.result().worker_id != mine.worker_id


def somebody_waits(store: Store) -> bool:
    """Whether a transaction on this PostgreSQL database waits for another."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with store.read() as connection:
        return bool(connection.execute(text(query)).scalar_one())


async def test_message_that_requires_tls_still_does_when_it_is_claimed(store, spool):
    await spool.enqueue(new_message("a@x.example", require_tls=True))
    await spool.enqueue(new_message("b@x.example"))
    claimed = claim_now(store, register(store))
    assert {one.recipients[0].address: one.message.require_tls for one in claimed} == {
        "a@x.example": True,
        "b@x.example": False,
    }


async def test_what_is_postponed_is_due_later_and_counts_as_no_attempt(store, spool, writer, lease):
    await spool.enqueue(new_message("a@x.example", "b@x.example"))
    claims = Claims(store, writer, lease)
    [one] = (await claims.claim(10)).consignments
    await claims.postpone([one], 3600)
    assert await claims.claim(10) == Claimed()
    now = workers_now(store)
    due = rows(store, recipient, recipient.c.state, recipient.c.attempts, recipient.c.due_at)
    assert [(row.state, row.attempts) for row in due] == [("queued", 0)] * 2
    assert all(row.due_at - now > 3_000_000_000 for row in due)


async def test_message_born_claimed_is_nobody_elses(store, spool, lease):
    await spool.enqueue(new_message(lease=lease))
    other = register(store, "there")
    assert claim_now(store, other) == []


async def test_recipient_is_claimed_once(store, spool):
    for _ in range(5):
        await spool.enqueue(new_message("a@x.example", "b@x.example"))
    first, second = register(store), register(store)
    taken = claim_now(store, first, 4) + claim_now(store, second, 100)
    keys = [(one.message.id, other.number) for one in taken for other in one.recipients]
    assert len(keys) == len(set(keys)) == 10


async def test_recipient_not_yet_due_is_not_claimed(store, spool, lease, settlement):
    await spool.enqueue(new_message())
    [one] = claim_now(store, lease)
    later = workers_now(store) + 3_600_000_000
    await settlement.settle([settled(one, Deferred(later), Reply(451, "4.3.0", "later"))])
    assert claim_now(store, lease) == []
    with store.write() as connection:
        connection.execute(update(recipient).values(due_at=1))
    [again] = claim_now(store, lease)
    assert again.recipients[0].attempts == 1


def workers_now(store: Store) -> int:
    with store.read() as connection:
        return workers.now(connection)


async def test_claims_ask_the_store_only_if_something_is_due(store, writer, spool, lease):
    claims = Claims(store, writer, lease)
    assert await claims.claim(10) == Claimed()
    await spool.enqueue(new_message())
    [one] = (await claims.claim(10)).consignments
    await claims.release([one])
    assert [row.state for row in rows(store, recipient)] == ["queued"]


class TestSettlement:
    async def test_delivered_is_recorded_with_its_attempt(self, store, spool, settlement, lease):
        new = new_message(lease=lease)
        await spool.enqueue(new)
        one = Consignment(new.message, new.recipients, lease)
        await settlement.settle([settled(one, Delivered())])
        [row] = rows(store, recipient)
        assert (row.state, row.attempts, row.last_reply) == ("delivered", 1, "250 2.0.0 Ok")
        [tried] = rows(store, attempt)
        assert (tried.attempt, tried.outcome, tried.code, tried.reply) == (1, "delivered", 250, "Ok")
        assert rows(store, outbox) == []

    async def test_stale_owner_is_fenced_off(self, store, spool, settlement, lease):
        news = [new_message(lease=lease) for _ in range(3)]
        for new in news:
            await spool.enqueue(new)
        with store.write() as connection:  # the second is somebody else's by now
            connection.execute(
                update(recipient)
                .where(recipient.c.message_id == news[1].message.id)
                .values(worker_epoch=lease.epoch + 1)
            )
        ones = [Consignment(new.message, new.recipients, lease) for new in news]
        await settlement.settle([settled(one, Delivered()) for one in ones])
        states = {row.message_id: row.state for row in rows(store, recipient)}
        assert [states[new.message.id] for new in news] == ["delivered", "leased", "delivered"]
        assert len(rows(store, attempt)) == 2

    async def test_settling_again_does_not_count_for_the_claim_that_followed(
        self, store, spool, settlement, lease
    ):
        """The answer to the first was lost with the connection, and what it deferred was claimed anew."""
        new = new_message(lease=lease)
        await spool.enqueue(new)
        one = Consignment(new.message, new.recipients, lease)
        late = settled(one, Deferred(1), Reply(451, None, "later"))
        await settlement.settle([late])
        [again] = claim_now(store, lease)
        await settlement.settle([late])
        [row] = rows(store, recipient)
        assert (row.state, row.attempts) == ("leased", 1)
        await settlement.settle([settled(again, Delivered())])
        [row] = rows(store, recipient)
        assert (row.state, row.attempts) == ("delivered", 2)
        assert len(rows(store, attempt)) == 2

    async def test_settling_twice_counts_once(self, store, spool, settlement, lease):
        new = new_message(lease=lease)
        await spool.enqueue(new)
        one = settled(
            Consignment(new.message, new.recipients, lease), Bounced("5.1.1"), Reply(550, None, "no")
        )
        await settlement.settle([one])
        await settlement.settle([one])
        assert len(rows(store, attempt)) == len(rows(store, outbox)) == 1

    async def test_of_several_outcomes_in_one_batch_the_first_that_is_ours_counts(
        self, store, spool, settlement, lease
    ):
        new = new_message(lease=lease)
        await spool.enqueue(new)
        first = Consignment(new.message, new.recipients, lease)
        await settlement.settle([settled(first, Deferred(1), Reply(451, None, "later"))])
        [again] = claim_now(store, lease)
        failed = settled(again, Bounced("5.1.1"), Reply(550, None, "no"))
        delivered = settled(again, Delivered())
        ones = (settled(first, Delivered()), failed, failed, delivered)
        await asyncio.gather(*(settlement.settle([one]) for one in ones))
        [row] = rows(store, recipient)
        assert (row.state, row.attempts, row.last_reply) == ("bounced", 2, "550 no")
        assert len(rows(store, attempt)) == 2
        assert len(rows(store, outbox)) == 1

    async def test_recipients_that_fail_together_share_one_notice(self, store, spool, settlement, lease):
        new = new_message("a@x.example", "b@x.example", "c@x.example", lease=lease)
        await spool.enqueue(new)
        one = Consignment(new.message, new.recipients, lease)
        no = Reply(550, "5.1.1", "no such user")
        await settlement.settle(
            [
                settled(one, Bounced("5.1.1"), no, 0),
                settled(one, Delivered(), number=1),
                settled(one, Bounced("5.1.1"), no, 2),
            ]
        )
        [notice] = rows(store, outbox)
        assert notice.kind == "bounce"
        assert [entry["address"] for entry in orjson.loads(notice.payload)] == ["a@x.example", "c@x.example"]

    async def test_delay_notice_is_written_once(self, store, spool, settlement, lease):
        new = new_message(lease=lease)
        await spool.enqueue(new)
        one = Consignment(new.message, new.recipients, lease)
        await settlement.settle([settled(one, Deferred(1, delay_notice=True), Reply(451, None, "later"))])
        [again] = claim_now(store, lease)
        assert again.recipients[0].delay_reported
        assert [row.kind for row in rows(store, outbox)] == ["delay"]


class TestLeases:
    async def test_what_a_dead_worker_held_is_reclaimed(self, store, spool, lease):
        await spool.enqueue(new_message(lease=lease))
        alive = register(store)
        with store.write() as connection:
            assert workers.reclaim(connection) == 0
            workers.retire(connection, lease)
            assert workers.reclaim(connection) == 1
        assert len(claim_now(store, alive)) == 1

    async def test_outcome_is_heard_of_before_the_claim_that_follows_it(
        self, store, spool, settlement, writer, lease
    ):
        """The other way round a recipient would be in our hands no more just after it was claimed anew."""
        news = [new_message(lease=lease) for _ in range(2)]
        for new in news:
            await spool.enqueue(new)
        ones = [
            settled(Consignment(new.message, new.recipients, lease), Deferred(1), Reply(451, None, "no"))
            for new in news
        ]
        heard: list[str] = []
        futures = {
            "the first": settlement.settle(ones[:1]),
            "the claim": writer.submit(alone(lambda connection: claim_due(connection, lease, 10))),
            "the second": settlement.settle(ones[1:]),
        }
        for name, future in futures.items():
            future.add_done_callback(lambda _, name=name: heard.append(name))
        await asyncio.gather(*futures.values())
        assert len(futures["the claim"].result()) == 2
        assert heard == ["the first", "the second", "the claim"]

    async def test_what_is_leased_is_told_after_whose_claim_it_was(self, store, spool, writer, lease):
        """What is ours in the store and not in our hands would be given back, and go out twice."""
        claims, in_hand = Claims(store, writer, lease), set()
        for _ in range(20):
            await spool.enqueue(new_message())

        async def claim() -> None:
            while len(in_hand) < 20:
                for one in (await claims.claim(1)).consignments:
                    in_hand.add((one.message.id, 0))

        claiming = asyncio.create_task(claim())
        while not claiming.done():
            assert (await claims.leased()).keys() <= in_hand
        assert len(await claims.leased()) == 20

    async def test_silent_worker_loses_its_lease(self, store, spool, lease, monkeypatch):
        await spool.enqueue(new_message(lease=lease))
        living, vigil = register(store), workers.Vigil()
        looks = range(0, workers.SILENT_SECONDS + 1, 6)
        for at in looks:
            monkeypatch.setattr(workers.time, "monotonic", lambda at=at: float(at))
            with store.write() as connection:
                assert workers.beat(connection, living)
                assert workers.watch(connection, vigil) == (1 if at == looks[-1] else 0)
        with store.write() as connection:
            assert workers.beat(connection, living)
            assert not workers.beat(connection, lease)

    @pytest.mark.parametrize("hours", [-2, 2])
    async def test_clock_that_jumps_makes_nobody_dead(self, store, spool, lease, monkeypatch, hours):
        await spool.enqueue(new_message(lease=lease))
        vigil = workers.Vigil()
        with store.write() as connection:
            assert workers.watch(connection, vigil) == 0
            jumped = workers.now(connection) + hours * 3_600_000_000
            monkeypatch.setattr(workers, "now", lambda _: jumped)
            assert workers.watch(connection, vigil) == 0
            assert workers.register(connection, "there").worker_id != lease.worker_id
            assert workers.beat(connection, lease)

    def test_taking_a_row_raises_its_epoch_and_ends_the_former_holder(self, store):
        first = register(store)
        with store.write() as connection:
            workers.retire_node(connection, "here")
        second = register(store)
        assert (second.worker_id, second.epoch) == (first.worker_id, first.epoch + 1)
        with store.write() as connection:
            assert not workers.beat(connection, first)
            assert workers.beat(connection, second)

    def test_running_workers_have_different_numbers(self, store):
        leases = [register(store, f"n{n}") for n in range(4)]
        assert len({lease.worker_id for lease in leases}) == 4
        assert 0 not in {lease.worker_id for lease in leases}


class TestStale:
    """A message judged on what has changed since is not written."""

    SUBJECT = "identity:111122223333:owner.example"

    @pytest.mark.parametrize(
        ("changed", "expected"), [("identity:111122223333:Owner.example", Stale), ("account:1", Committed)]
    )
    async def test_only_what_it_was_judged_on_counts(self, store, spool, changed, expected):
        with store.read() as connection:
            before = newest(connection)
        with control_write(store, "test") as write:
            write.record(changed, "PutIdentityPolicy")
        new = new_message(judged_at=before, judged_on=frozenset({self.SUBJECT}))
        assert isinstance(await spool.enqueue(new), expected)
        assert len(rows(store, message)) == (expected is Committed)

    async def test_stale_message_does_not_hold_up_others(self, store, spool):
        with store.read() as connection:
            before = newest(connection)
        with control_write(store, "test") as write:
            write.record(self.SUBJECT, "PutIdentityPolicy")
        subjects = frozenset({self.SUBJECT})
        results = await asyncio.gather(
            spool.enqueue(new_message(judged_at=before, judged_on=subjects)),
            spool.enqueue(new_message(judged_at=before + 1, judged_on=subjects)),
        )
        assert [type(result) for result in results] == [Stale, Committed]


class TestLargeBodies:
    async def test_chunks_come_before_the_message_and_spill_is_cleared(self, store, spool, lease):
        new = new_message(lease=lease, body=None, chunks=2, spilled=True)
        await spool.store_chunk(new.message.id, 0, b"a" * 10, lease)
        await spool.store_chunk(new.message.id, 1, b"b" * 5, lease)
        assert len(rows(store, spill)) == 1
        await spool.enqueue(new)
        assert rows(store, spill) == []
        assert b"".join([part async for part in spool.body(new.message)]) == b"a" * 10 + b"b" * 5

    async def test_discarded_body_leaves_nothing(self, store, spool, lease):
        await spool.store_chunk(77, 0, b"a", lease)
        await spool.discard(77)
        assert rows(store, spill) == rows(store, body_chunk) == []

    async def test_sweep_takes_only_what_dead_workers_left(self, store, spool, lease):
        dead = register(store)
        await spool.store_chunk(1, 0, b"a", lease)
        await spool.store_chunk(2, 0, b"b", dead)
        with store.write() as connection:
            workers.retire(connection, dead)
            assert sweep_orphans(connection) == 1
        assert rows(store, body_chunk, body_chunk.c.message_id) == [(1,)]


async def test_two_writers_on_one_store_lose_and_double_nothing(store, writer, lease):
    other = GroupWriter(store)
    other.start()
    spools = [Spool(store, writer, lambda: next(_outbox_ids)), Spool(store, other, lambda: next(_outbox_ids))]
    await asyncio.gather(*(spools[n % 2].enqueue(new_message()) for n in range(60)))
    await other.stop()
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(message)).scalar() == 60
