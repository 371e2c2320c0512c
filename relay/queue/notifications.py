"""Notifications: one row for each subscription that is to be told of an event, until it was.

A row is inserted in the transaction that expands its event, claimed under a worker's lease like a
recipient, and settled in batches by the one writer.  Claims are made per subscription, with room for each:
one that is far behind, or does not answer, takes no place from the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)

from relay.outcome.transitions import State
from relay.queue.spool import insert_messages
from relay.queue.values import Lease, NewMessage
from relay.queue.workers import now
from relay.queue.writer import GroupWriter, Job, alone
from relay.store.engine import Store
from relay.store.prepared import spelled
from relay.store.tables import notification, subscription

DONE, DEAD = "done", "dead"
# The event of what is no event: the handshake with an endpoint.
NO_EVENT = 0
_LONGEST_ERROR = 400
_BURIED_AT_ONCE = 2_000
_IS_QUEUED = notification.c.state == spelled(State.QUEUED.value)


@dataclass(frozen=True, slots=True)
class NewNotification:
    """What one subscription is to be told.  ``body`` is the event's document; ``at`` is when it was made.

    ``event_id`` is the outbox row it tells of, or ``NO_EVENT``; instants are microseconds UTC.
    """

    id: int
    account_id: str
    subscription_id: int
    event_id: int
    event_type: str
    body: str
    at: int


@dataclass(frozen=True, slots=True)
class Notification:
    """One that is ours to post; ``attempts`` were made before."""

    id: int
    account_id: str
    subscription_id: int
    event_type: str
    body: str
    created_at: int
    attempts: int
    lease: Lease


@dataclass(frozen=True, slots=True)
class Told:
    """What became of it.  Without an ``error`` it was posted; with one it is tried again after
    ``retry_seconds``, or is dead if that is None.  A ``mail`` is queued with the word that it was."""

    notification: Notification
    error: str | None = None
    retry_seconds: float | None = None
    mail: NewMessage | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A subscription that something waits for, the first of it due at ``due_at`` (microseconds UTC)."""

    subscription_id: int
    due_at: int


def insert_notifications(connection: Connection, new: Sequence[NewNotification]) -> None:
    """Queue them, due at once, in the caller's transaction."""
    if new:
        connection.execute(insert(notification), [_row(one) for one in new])


def _row(new: NewNotification) -> dict[str, Any]:
    return {
        "id": new.id,
        "account_id": new.account_id,
        "subscription_id": new.subscription_id,
        "event_id": new.event_id,
        "event_type": new.event_type,
        "body": new.body,
        "created_at": new.at,
        "due_at": new.at,
        "attempts": 0,
        "state": State.QUEUED.value,
        "worker_id": 0,
        "worker_epoch": 0,
    }


class Notifications:
    """Claims and settles for one worker process."""

    def __init__(self, store: Store, writer: GroupWriter, lease: Lease) -> None:
        self._store = store
        self._writer = writer
        self._lease = lease

    async def waiting(self) -> tuple[int, list[Waiting]]:
        """The time by the clock that claims go by, and every subscription that something waits for."""
        return await asyncio.to_thread(self._waiting)

    def _waiting(self) -> tuple[int, list[Waiting]]:
        with self._store.read() as connection:
            return now(connection), waiting(connection)

    async def claim(self, room: Mapping[int, int]) -> list[Notification]:
        """What is due of the subscriptions in ``room``, at most so many of each; now ours."""
        return await self._writer.submit(alone(lambda connection: claim(connection, self._lease, room)))

    def settle(self, told: Sequence[Told]) -> asyncio.Future[None]:
        """Resolves when it is durable; StoreUnavailable if it is not."""
        return self._writer.submit(Job(_settle_all, tuple(told)))

    async def release(self, held: Sequence[Notification]) -> None:
        """Give back what was not begun; it counts as no attempt."""
        if held:
            ids = [one.id for one in held]
            await self._writer.submit(alone(lambda connection: _release(connection, self._lease, ids)))

    async def return_strays(self, held: Collection[int]) -> None:
        """Give back what is ours and not among ``held``: we did not hear that a claim was in."""
        await self._writer.submit(alone(lambda connection: return_strays(connection, self._lease, held)))

    async def bury(self, subscription_id: int, why: str) -> int:
        """Make a batch of what waits for the subscription dead; gives how many those were."""
        return await self._writer.submit(alone(lambda connection: bury(connection, subscription_id, why)))


# ---------------------------------------------------------------- what waits


# From one subscription to the next in the index, not through all of its rows.
_FIRST = (
    select(func.min(notification.c.subscription_id).label("id")).where(_IS_QUEUED).cte("s", recursive=True)
)
_NEXT = (
    select(func.min(notification.c.subscription_id))
    .where(_IS_QUEUED, notification.c.subscription_id > _FIRST.c.id)
    .scalar_subquery()
)
_SUBSCRIPTIONS = _FIRST.union_all(select(_NEXT).where(_FIRST.c.id.is_not(None)))
_FIRST_DUE = (
    select(func.min(notification.c.due_at))
    .where(_IS_QUEUED, notification.c.subscription_id == _SUBSCRIPTIONS.c.id)
    .scalar_subquery()
)
_WAITING = select(_SUBSCRIPTIONS.c.id, _FIRST_DUE.label("due_at")).where(_SUBSCRIPTIONS.c.id.is_not(None))


def waiting(connection: Connection) -> list[Waiting]:
    """Every subscription that something waits for, the longest due first."""
    found = [Waiting(row.id, row.due_at) for row in connection.execute(_WAITING)]
    return sorted(found, key=lambda one: one.due_at)


def count_waiting(connection: Connection) -> int:
    """How many are to be posted."""
    return int(
        connection.execute(select(func.count()).select_from(notification).where(_IS_QUEUED)).scalar_one()
    )


def claim(connection: Connection, lease: Lease, room: Mapping[int, int]) -> list[Notification]:
    """Lease what is due, the longest due first, past what another claim holds locked."""
    at = now(connection)
    rows = [row for of, limit in room.items() for row in connection.execute(_due(of, at, limit))]
    if rows:
        held = {"state": State.LEASED.value, "worker_id": lease.worker_id, "worker_epoch": lease.epoch}
        ours = notification.c.id.in_([row.id for row in rows])
        connection.execute(update(notification).where(ours).values(held))
    return [
        Notification(
            id=row.id,
            account_id=row.account_id,
            subscription_id=row.subscription_id,
            event_type=row.event_type,
            body=row.body,
            created_at=row.created_at,
            attempts=row.attempts,
            lease=lease,
        )
        for row in rows
    ]


def _due(subscription_id: int, at: int, limit: int) -> Any:
    return (
        select(notification)
        .where(_IS_QUEUED, notification.c.subscription_id == subscription_id, notification.c.due_at <= at)
        .order_by(notification.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


# ---------------------------------------------------------------- what became of it


def _held_by(lease: Lease) -> ColumnElement[bool]:
    return and_(
        notification.c.state == State.LEASED.value,
        notification.c.worker_id == lease.worker_id,
        notification.c.worker_epoch == lease.epoch,
    )


def return_strays(connection: Connection, lease: Lease, held: Collection[int]) -> None:
    strays = _held_by(lease), notification.c.id.not_in(held)
    connection.execute(update(notification).where(*strays).values(state=State.QUEUED.value))


_SETTLE = (
    update(notification)
    .where(
        notification.c.id == bindparam("of"),
        notification.c.state == State.LEASED.value,
        notification.c.worker_id == bindparam("by_worker"),
        notification.c.worker_epoch == bindparam("by_epoch"),
    )
    .values(
        state=bindparam("to_state"),
        due_at=bindparam("to_due_at"),
        attempts=notification.c.attempts + 1,
        last_error=bindparam("to_error"),
    )
)


def _settle_all(connection: Connection, payloads: Sequence[Sequence[Told]]) -> list[None]:
    settle(connection, [one for payload in payloads for one in payload])
    return [None] * len(payloads)


def settle(connection: Connection, told: Sequence[Told]) -> None:
    """Write what became of those that are still ours, and how their subscriptions fare."""
    at = now(connection)
    mails = [one for one in told if one.mail is not None]
    posted = [one.notification for one in told if one.error is None]
    failed = [one for one in told if one.error is not None]
    insert_messages(connection, [one.mail for one in _ours(connection, mails) if one.mail is not None])
    for lease in {one.lease for one in posted}:
        these = notification.c.id.in_([one.id for one in posted if one.lease == lease])
        done = {"state": DONE, "attempts": notification.c.attempts + 1, "last_error": None}
        connection.execute(update(notification).where(these, _held_by(lease)).values(done))
    if failed:
        connection.execute(_SETTLE, [_failure(one, at) for one in failed])
    _note_health(connection, posted, failed, at)


def _ours(connection: Connection, told: Sequence[Told]) -> list[Told]:
    """Those that nobody has taken from us."""
    by_lease = {one.notification.lease for one in told}
    held = [_held_by(lease) for lease in by_lease]
    if not held:
        return []
    these = notification.c.id.in_([one.notification.id for one in told])
    ids = set(connection.execute(select(notification.c.id).where(these, or_(*held))).scalars())
    return [one for one in told if one.notification.id in ids]


def _failure(one: Told, at: int) -> dict[str, Any]:
    retry = one.retry_seconds
    return {
        "of": one.notification.id,
        "by_worker": one.notification.lease.worker_id,
        "by_epoch": one.notification.lease.epoch,
        "to_state": DEAD if retry is None else State.QUEUED.value,
        "to_due_at": at + int((retry or 0) * 1_000_000),
        "to_error": (one.error or "")[:_LONGEST_ERROR],
    }


def _note_health(
    connection: Connection, posted: Sequence[Notification], failed: Sequence[Told], at: int
) -> None:
    """Since when a subscription fails without a success between; most of the time nothing changes."""
    well = {one.subscription_id for one in posted}
    ill = {one.notification.subscription_id: one.error for one in failed}
    if well:
        recovered = subscription.c.id.in_(well), subscription.c.failing_since.is_not(None)
        healthy = {"failing_since": None, "last_error": None}
        connection.execute(update(subscription).where(*recovered).values(healthy))
    for of in sorted(ill.keys() - well):
        since = func.coalesce(subscription.c.failing_since, at)
        values = {"failing_since": since, "last_error": (ill[of] or "")[:_LONGEST_ERROR]}
        connection.execute(update(subscription).where(subscription.c.id == of).values(values))


def _release(connection: Connection, lease: Lease, ids: Sequence[int]) -> None:
    ours = notification.c.id.in_(ids), _held_by(lease)
    connection.execute(update(notification).where(*ours).values(state=State.QUEUED.value))


def bury(connection: Connection, subscription_id: int, why: str) -> int:
    """Make a batch of what waits for the subscription dead."""
    some = (
        select(notification.c.id)
        .where(_IS_QUEUED, notification.c.subscription_id == subscription_id)
        .limit(_BURIED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    ids = list(connection.execute(some).scalars())
    these = notification.c.id.in_(ids)
    connection.execute(update(notification).where(these).values(state=DEAD, last_error=why[:_LONGEST_ERROR]))
    return len(ids)
