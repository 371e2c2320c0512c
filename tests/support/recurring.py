"""What a worker asks of the store again and again, and what each message asks of it.

``polls`` are what a worker that has nothing to do asks, each with the seconds between two of them; the
numbers are those of the loops in ``relay``.  ``mail`` is what is done for messages.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from relay.app.outside import look_at_queue
from relay.authorization.decision import Rules
from relay.feedback import caretaker
from relay.metrics import QUEUE_LOOK_AT
from relay.outcome.outcome import Attempt, Bounced, Deferred, Delivered, Outcome, Phase, Reply
from relay.queue import claims, notifications, outbox, retention, revocation, workers
from relay.queue.claims import Claims
from relay.queue.outbox import Outbox
from relay.queue.settlement import settle
from relay.queue.spool import Spool, sweep_orphans
from relay.queue.values import Consignment, Lease, NewMessage, QueuedMessage, QueuedRecipient, Settled
from relay.quotas.check import Charge
from relay.quotas.window import UNLIMITED, Quota
from relay.store import accounts, changes, directory, identities, ledger, turns, usage
from relay.store.engine import Store
from relay.store.suppression import REASONS
from relay.submission.identifiers import compose_id
from tests.support.full_store import Tenants
from tests.support.mail import claim_due

Result = TypeVar("Result")

_DAY = 86_400_000
_PLENTY = Quota(UNLIMITED, UNLIMITED)
_REPLY = Reply(250, "2.0.0", "Ok")
_REFUSED = Reply(550, "5.1.1", "no such user")


@dataclass(frozen=True, slots=True)
class Poll:
    """Something a worker does every so many seconds; ``of_node``: of a node's or the store's workers one."""

    name: str
    seconds: float
    work: Callable[[Store], object]
    of_node: bool = False


def reading(work: Callable[[Any], Result]) -> Callable[[Store], Result]:
    def run(store: Store) -> Result:
        with store.read() as connection:
            return work(connection)

    return run


def writing(work: Callable[[Any], Result]) -> Callable[[Store], Result]:
    def run(store: Store) -> Result:
        with store.write() as connection:
            return work(connection)

    return run


def taken_back(store: Store, work: Callable[[Any], object]) -> None:
    """Done, and rolled back: what is removed shall be there the next time."""
    with store.write() as connection:
        savepoint = connection.begin_nested()
        work(connection)
        savepoint.rollback()


def _expire(connection: Any) -> None:
    retention.expire(connection, compose_id(time.time_ns() // 1_000_000 - _DAY, 0, 0), 0)


def register(store: Store) -> Lease:
    """A worker of the store, as a start makes it."""
    with store.write() as connection:
        lease = workers.register(connection, "bench")
        sweep_orphans(connection)
        workers.reclaim(connection)
        return lease


def polls(store: Store, lease: Lease) -> list[Poll]:
    """Each is a transaction of its own or several, as in the program."""
    nobody: Any = None
    of = Claims(store, nobody, lease)
    events = Outbox(store, nobody, lease)
    vigil = workers.Vigil()
    newest = reading(changes.newest)(store)
    middle = compose_id(time.time_ns() // 1_000_000 - 2 * _DAY, 0, 0)
    return [
        Poll("change feed", directory.POLL_SECONDS, reading(lambda c: changes.since(c, newest))),
        Poll("queue: whose turn it is", 1.0, lambda _: of._next_turn(())),
        Poll("events: is any due", 0.5, lambda _: events._is_any_due()),
        Poll("events: backlog", 5.0, lambda _: events._backlog()),
        Poll(
            "notifications: who waits",
            0.5,
            reading(lambda c: (workers.now(c), notifications.waiting(c))),
        ),
        Poll("subscriptions looked after", 15.0, lambda s: caretaker.look(s, 3600)),
        Poll("ledger: is any unsealed", 1.0, reading(ledger.is_any_unsealed)),
        Poll("verification: what is due", 2.0, reading(_due_looks)),
        Poll("heartbeat", workers.HEARTBEAT_SECONDS, writing(lambda c: workers.beat(c, lease))),
        Poll(
            "dead workers, reclaim, strays",
            1.5,
            writing(lambda c: (workers.watch(c, vigil), claims.leased(c, lease))),
        ),
        Poll("retention: a batch", 600.0, lambda s: taken_back(s, _expire)),
        Poll("bodies swept after a start", 1.0, writing(lambda c: retention.sweep(c, middle))),
        Poll("revocations: is news", 0.5, reading(revocation.is_news)),
        Poll("reputation's turn", 60.0, lambda s: turns.take(s, "bench", time.time_ns() // 1000, 10**12)),
        Poll("reputation of all accounts", 60.0, reading(_reputation), of_node=True),
        Poll("metrics: the queue counted", 5.0, look_anew, of_node=True),
    ]


def _due_looks(connection: Any) -> object:
    return identities.due(connection, time.time_ns() // 1000, 20), identities.next_check(connection)


def _reputation(connection: Any) -> object:
    today = time.time_ns() // 1000 // usage.DAY
    return usage.records(connection, today - 14), accounts.every(connection)


def look_anew(store: Store) -> None:
    """What a scrape does that comes when nobody has looked of late."""
    for look_at in QUEUE_LOOK_AT.values():
        look_at.set(0.0)
    look_at_queue(store)


# ---------------------------------------------------------------- mail


class Mail:
    """Messages through the store as a worker takes them, without a network: accept, settle, claim, remove."""

    def __init__(self, store: Store, tenants: Tenants, lease: Lease) -> None:
        nobody: Any = None
        self._store = store
        self._tenants = tenants
        self._lease = lease
        self._sequence = itertools.count()
        self._next_id = lambda: compose_id(
            time.time_ns() // 1_000_000, lease.worker_id, next(self._sequence) % 4096
        )
        self._spool = Spool(store, nobody, self._next_id)
        # As a worker that missed the newest change: every commit looks what that was.
        self._newest = max(reading(changes.newest)(store) - 1, 0)

    def accept(self, count: int, body: bytes = b"Hello\r\n", record: str = "{}") -> list[Consignment]:
        """So many in one transaction, from as many tenants; born claimed."""
        news = [self._new(number, body, record) for number in range(count)]
        with self._store.write() as connection:
            self._spool._enqueue(connection, news)
        return [Consignment(new.message, new.recipients, self._lease) for new in news]

    def _new(self, number: int, body: bytes, record: str) -> NewMessage:
        at, arn = time.time_ns() // 1000, self._tenants.arn(number)
        sender = self._tenants.account_id(number + 1)
        header = b"From: Alerts <alerts@owner.example>\r\n" * 12
        of = QueuedMessage(
            id=self._next_id(),
            account_id=sender,
            identity_arn=arn,
            reverse_path="bounces@owner.example",
            return_path="bounces@owner.example",
            configuration_set=None,
            received_at=at,
            expires_at=at + 10**12,
            size_bytes=len(header) + len(body),
            header=header,
            body=(body,),
            chunks=1,
        )
        subject = changes.identity_subject(self._tenants.account_id(number), self._tenants.name(number))
        return NewMessage(
            of,
            (QueuedRecipient(0, f"user{of.id}@customer.example", "customer.example"),),
            record,
            self._lease,
            judged_at=self._newest,
            judged_on=frozenset({f"{subject}.unknown"}),
            charge=Charge(sender, _PLENTY, 1, 1),
            suppressed_reasons=REASONS,
            entries=(ledger.entry(arn, at, ledger.ACCEPTED, {"message_id": "x" * 60, "size_bytes": 4000}),),
        )

    def settle(self, consignments: list[Consignment], outcome: Outcome | None = None) -> None:
        """Their outcome in one transaction; delivered, unless another is given."""
        outcome = outcome or Delivered()
        reply = _REPLY if isinstance(outcome, Delivered) else _REFUSED
        at = time.time_ns() // 1000
        attempt = Attempt(at, Phase.DOT, "mx.example[127.0.0.1]:25", None, reply, 10)
        rows = [Settled(one.message, one.recipients[0], one.lease, attempt, outcome) for one in consignments]
        with self._store.write() as connection:
            settle(connection, rows, self._next_id)

    def remove_bodies(self, consignments: list[Consignment]) -> None:
        with self._store.write() as connection:
            retention.purge_bodies(connection, [one.message.id for one in consignments])

    def seal(self) -> None:
        with self._store.write() as connection:
            ledger.seal(connection, 200)

    def every_kind(self) -> None:
        """One batch of each kind of transaction that mail causes."""
        self.settle(self.accept(3))
        self.settle(self.accept(2), Bounced("5.1.1"))
        self.settle(self.accept(2), Deferred(time.time_ns() // 1000))
        with self._store.write() as connection:
            claimed = claim_due(connection, self._lease, 20)
            keys = [
                claims._key(one.message.id, other.number, one.lease)
                for one in claimed
                for other in one.recipients
            ]
            claims._release(connection, keys)
            claims._postpone(connection, keys, 3600.0)
        with self._store.write() as connection:
            outbox.claim(connection, self._lease, 20)
        done = self.accept(2)
        self.settle(done)
        self.remove_bodies(done)
        self.seal()


def directory_misses(store: Store, secrets: Any, tenants: Tenants) -> None:
    """Each kind of entry of the directory, read for the first time."""
    feed = directory.Directory(store, secrets, Rules("us-east-1"))
    number = tenants.identities // 2
    subjects = [
        changes.credential_subject(tenants.access_key_id(number % tenants.accounts)),
        changes.account_subject(tenants.account_id(number)),
        changes.user_subject(tenants.user(number % tenants.accounts).unique_id),
        changes.identity_subject(tenants.account_id(number), tenants.name(number)),
        changes.configuration_set_subject(tenants.account_id(number), "none"),
    ]
    asyncio.run(_get(feed, subjects))


async def _get(feed: directory.Directory, subjects: list[str]) -> None:
    await feed._get(subjects)
