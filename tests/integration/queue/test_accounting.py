"""Usage, reputation and the ledger move with the transactions that they tell of, on both engines."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from relay.outcome.outcome import Bounced, Deferred, Delivered, Failure, Outcome, Reply
from relay.outcome.reputation import Counts
from relay.queue.refusals import Refusal, Refusals
from relay.queue.sealer import Sealer
from relay.queue.settlement import Settlement
from relay.queue.spool import Spool, Stale, insert_messages
from relay.queue.values import Consignment, Lease, NewMessage, Settled
from relay.queue.writer import GroupWriter
from relay.quotas.check import Charge, Exceeded
from relay.quotas.window import UNLIMITED, Quota
from relay.store import ledger, suppression, usage
from relay.store.changes import control_write, newest
from relay.store.engine import Store
from relay.store.tables import recipient
from tests.support.mail import new_message, settled

ARN = "arn:aws:ses:us-east-1:111122223333:identity/owner.example"
DAY = 20_000
AT = DAY * usage.DAY + 7
_outbox_ids = itertools.count(9_000_000)


@pytest.fixture
def spool(store: Store, writer: GroupWriter) -> Spool:
    return Spool(store, writer, lambda: next(_outbox_ids))


@pytest.fixture
def settlement(writer: GroupWriter) -> Settlement:
    return Settlement(writer, lambda: next(_outbox_ids))


def charged(*addresses: str, day: int = UNLIMITED, **values: object) -> NewMessage:
    """A message of a client's, with an entry for the owner."""
    new = new_message(*addresses, received_at=AT, **values)  # type: ignore[arg-type]
    count = len(new.recipients)
    told = ledger.entry(ARN, AT, ledger.ACCEPTED, {"message": new.message.id})
    charge = Charge(new.message.account_id, Quota(day, UNLIMITED), count, count)
    return replace(new, charge=charge, entries=(told,))


def counted(store: Store) -> Counts:
    with store.read() as connection:
        found = list(usage.lines(connection, ("day", "account_id", "identity_arn"), first=0))
    assert {(line.day, line.account_id, line.identity_arn) for line in found} <= {(DAY, "222222222222", ARN)}
    return found[0].counts if found else Counts()


def entries(store: Store) -> list[int]:
    with store.read() as connection:
        found = ledger.newest(connection, ARN, 1000)
    return sorted(json.loads(one.entry.detail)["message"] for one in found)


def outcomes(new: NewMessage, lease: Lease, *given: tuple[Outcome, Reply | None]) -> Iterator[Settled]:
    one = Consignment(new.message, new.recipients, lease)
    for number, (outcome, reply) in enumerate(given):
        yield settled(one, outcome, reply, number)


async def test_accepted_messages_are_billed_and_told_to_the_owner(store, spool, lease):
    news = [charged("a@x.example", "b@x.example", size_bytes=700, lease=lease), charged(lease=lease)]
    await asyncio.gather(*(spool.enqueue(new) for new in news))
    assert counted(store) == Counts(messages=2, recipients=3, bytes=800)
    assert entries(store) == [new.message.id for new in news]


async def test_message_that_is_kept_out_is_neither_billed_nor_told(store, spool):
    with store.read() as connection:
        before = newest(connection)
    with control_write(store, "test") as write:
        write.record("account:1", "PauseAccount")
    stale = charged(judged_at=before, judged_on=frozenset({"account:1"}))
    results = await asyncio.gather(spool.enqueue(stale), spool.enqueue(charged(day=0)))
    assert [type(one) for one in results] == [Stale, Exceeded]
    assert (counted(store), entries(store)) == (Counts(), [])


async def test_own_mail_is_nobodys(store, settlement, lease):
    own = new_message("bounces@owner.example", lease=lease, reverse_path="", received_at=AT)
    with store.write() as connection:
        insert_messages(connection, [own])
    await settlement.settle(list(outcomes(own, lease, (Delivered(), None))))
    assert counted(store) == Counts()


async def test_fates_are_counted_by_kind(store, spool, settlement, lease):
    new = charged(*(f"r{n}@x.example" for n in range(7)), lease=lease)
    await spool.enqueue(new)
    fates = (
        (Delivered(), None),
        (Bounced("5.1.1"), Reply(550, "5.1.1", "no such user")),
        (Bounced("5.4.4"), Failure("no such domain")),
        (Bounced("5.2.2"), Reply(552, "5.2.2", "mailbox full")),
        (Bounced("5.7.1"), Reply(554, "5.7.1", "looks like spam")),
        (Bounced("4.4.1", expired=True), Failure("timed out")),
        (Deferred(1), Reply(451, "4.3.0", "later")),
    )
    await settlement.settle(list(outcomes(new, lease, *fates)))
    expected = Counts(1, 7, 100, delivered=1, hard_bounces=2, soft_bounces=3)
    assert counted(store) == expected


async def test_simulator_is_billed_and_moves_no_reputation(store, spool, settlement, lease):
    new = charged("bounce@sim.example", "success@sim.example", "a@x.example", lease=lease)
    await spool.enqueue(new)
    no = (Bounced("5.1.1"), Reply(550, "5.1.1", "user unknown"))
    bounced, delivered, real = outcomes(new, lease, no, (Delivered(), None), (Delivered(), None))
    simulated = [replace(one, is_simulated=True) for one in (bounced, delivered)]
    await settlement.settle([*simulated, real])
    assert counted(store) == Counts(1, 3, 100, delivered=1)


async def test_suppressed_recipient_is_billed_and_moves_no_reputation(store, spool, lease):
    with store.write() as connection:
        known = suppression.Entry("222222222222", "gone@x.example", suppression.BOUNCE, 1)
        suppression.add(connection, [known])
    new = replace(charged("gone@x.example", lease=lease), suppressed_reasons=frozenset({suppression.BOUNCE}))
    committed = await spool.enqueue(new)
    assert list(committed.suppressed) == [0]
    assert counted(store) == Counts(1, 1, 100)
    assert entries(store) == [new.message.id]


async def test_stale_and_repeated_settlements_count_nothing(store, spool, settlement, lease):
    ours, theirs = charged(lease=lease), charged(lease=lease)
    for new in (ours, theirs):
        await spool.enqueue(new)
    with store.write() as connection:
        of_theirs = recipient.c.message_id == theirs.message.id
        connection.execute(update(recipient).where(of_theirs).values(worker_epoch=lease.epoch + 1))
    for _ in range(2):
        both = [one for new in (ours, theirs) for one in outcomes(new, lease, (Delivered(), None))]
        await settlement.settle(both)
    assert counted(store) == Counts(2, 2, 200, delivered=1)


async def test_refused_message_is_told_to_the_owner_when_it_is_kept(store, writer):
    told = ledger.entry(ARN, AT, ledger.REFUSED, {"message": 5})
    refusal = Refusal(5, "QPXDYCQ2", "222222222222", "AKIA", AT, "access_denied", "no", "{}", (told,))
    assert await Refusals(writer).keep(refusal)
    assert entries(store) == [5]
    assert counted(store) == Counts()


async def test_sealers_of_two_workers_seal_everything_once(store, writer, spool, lease):
    other = GroupWriter(store)
    other.start()
    tasks = [asyncio.ensure_future(Sealer(store, one).run()) for one in (writer, other)]
    await asyncio.gather(*(spool.enqueue(charged(lease=lease)) for _ in range(30)))
    async with asyncio.timeout(10):
        while (await asyncio.to_thread(unsealed, store)) > 0:
            await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await other.stop()
    verified = ledger.verify(ledger.chain(store, ARN))
    assert (verified.seq, verified.fault) == (30, None)


def unsealed(store: Store) -> int:
    with store.read() as connection:
        return ledger.count_unsealed(connection, ARN)


async def test_batch_that_breaks_leaves_no_trace(store, spool, lease):
    """The second message has the first one's id: its transaction fails, and with it all it counted."""
    first = charged(lease=lease)
    await spool.enqueue(first)
    with pytest.raises(Exception, match="(?i)unique"):
        await spool.enqueue(first)
    assert counted(store) == Counts(1, 1, 100)
    assert entries(store) == [first.message.id]
    with store.read() as connection:
        assert len(connection.execute(select(recipient)).all()) == 1
