"""What somebody must be told of: claimed, and done in the transaction that queues the telling.

A row is written in the transaction that caused it: an acceptance, a settlement, an order of the operator's,
a report.  Whoever handles it holds a lease as with recipients; notifications and reports are queued and their
row marked done at once, so that each is sent once or tried again, never lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, text, update

from relay.outcome.transitions import State
from relay.queue.claims import message_of
from relay.queue.event_rows import new_row as new_row
from relay.queue.notifications import NewNotification, insert_notifications
from relay.queue.spool import insert_messages
from relay.queue.values import Lease, NewMessage, QueuedMessage
from relay.queue.workers import now
from relay.queue.writer import GroupWriter, alone
from relay.store import changes
from relay.store.engine import Store
from relay.store.tables import message, outbox

DONE, DEAD = "done", "dead"
_IS_QUEUED = outbox.c.state == State.QUEUED.value
# The index's own condition, in its own words: SQLite takes no other for it, and done rows stay for days.
_IS_OPEN = text("state IN ('queued', 'leased')")


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell: ``kind`` and ``payload`` as in the table.

    ``message`` is None if its record is gone; ``record`` is what intake kept of it, as JSON.  ``at`` is when
    it happened, microseconds UTC.
    """

    id: int
    account_id: str
    message_id: int
    kind: str
    at: int
    message: QueuedMessage | None
    record: str
    payload: str
    attempts: int
    lease: Lease


@dataclass(frozen=True, slots=True)
class Claimed:
    """Notices that are ours now, and the number of the newest change when they became so."""

    notices: tuple[Notice, ...]
    change: int


@dataclass(frozen=True, slots=True)
class Telling:
    """What a notice comes to: who is notified, and the report that is mailed."""

    notice: Notice
    notifications: tuple[NewNotification, ...] = ()
    report: NewMessage | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many notices wait, and for how many seconds the first of them has."""

    depth: int
    lag_seconds: float


class Outbox:
    """Claims and settles notices for one worker process."""

    def __init__(self, store: Store, writer: GroupWriter, lease: Lease) -> None:
        self._store = store
        self._writer = writer
        self._lease = lease

    async def claim(self, limit: int) -> Claimed:
        """At most ``limit`` due notices, now ours."""
        if not await asyncio.to_thread(self._is_any_due):
            return Claimed((), 0)
        return await self._writer.submit(alone(lambda connection: claim(connection, self._lease, limit)))

    async def tell(self, tellings: Sequence[Telling]) -> frozenset[int]:
        """Queue what they come to and mark their notices done; gives those that were still ours, by id."""
        return await self._writer.submit(alone(lambda connection: tell(connection, self._lease, tellings)))

    async def failed(self, notice: Notice, error: str, retry_seconds: float | None) -> None:
        """Try again after ``retry_seconds``, or never."""
        await self._writer.submit(alone(lambda connection: _failed(connection, notice, error, retry_seconds)))

    async def give_back(self) -> None:
        """Let go of all that is ours; for who does not know what that is."""
        await self._writer.submit(alone(lambda connection: _give_back(connection, self._lease)))

    async def backlog(self) -> Backlog:
        return await asyncio.to_thread(self._backlog)

    def _is_any_due(self) -> bool:
        with self._store.read() as connection:
            first = connection.execute(select(func.min(outbox.c.due_at)).where(_IS_OPEN, _IS_QUEUED)).scalar()
            return first is not None and first <= now(connection)

    def _backlog(self) -> Backlog:
        with self._store.read() as connection:
            query = select(func.count(), func.min(outbox.c.due_at)).where(_IS_OPEN)
            depth, first = connection.execute(query).one()
            return Backlog(depth, 0.0 if first is None else max(now(connection) - first, 0) / 1_000_000)


def claim(connection: Connection, lease: Lease, limit: int) -> Claimed:
    """Lease due notices, past those that another claim holds locked."""
    due = (
        select(outbox)
        .where(_IS_OPEN, _IS_QUEUED, outbox.c.due_at <= now(connection))
        .order_by(outbox.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(due).all()
    if not rows:
        return Claimed((), 0)
    held = {"state": State.LEASED.value, "worker_id": lease.worker_id, "worker_epoch": lease.epoch}
    connection.execute(update(outbox).where(outbox.c.id.in_([row.id for row in rows])).values(held))
    ids = {row.message_id for row in rows}
    found = connection.execute(select(message).where(message.c.id.in_(ids)))
    messages = {row.id: (message_of(row), row.record) for row in found}
    notices = []
    for row in rows:
        of, record = messages.get(row.message_id, (None, "{}"))
        notices.append(
            Notice(
                id=row.id,
                account_id=row.account_id,
                message_id=row.message_id,
                kind=row.kind,
                at=row.created_at,
                message=of,
                record=record,
                payload=row.payload,
                attempts=row.attempts,
                lease=lease,
            )
        )
    return Claimed(tuple(notices), changes.newest(connection))


def _ours(lease: Lease) -> ColumnElement[bool]:
    """Fenced by the lease, as recipients are."""
    return and_(
        outbox.c.state == State.LEASED.value,
        outbox.c.worker_id == lease.worker_id,
        outbox.c.worker_epoch == lease.epoch,
    )


def tell(connection: Connection, lease: Lease, tellings: Sequence[Telling]) -> frozenset[int]:
    """Mark done what is still ours, and queue what only that comes to."""
    ids = [one.notice.id for one in tellings]
    settled = {"state": DONE, "attempts": outbox.c.attempts + 1, "last_error": None}
    marked = update(outbox).where(outbox.c.id.in_(ids), _ours(lease)).values(settled).returning(outbox.c.id)
    done = frozenset(connection.execute(marked).scalars())
    kept = [one for one in tellings if one.notice.id in done]
    insert_notifications(connection, [new for one in kept for new in one.notifications])
    insert_messages(connection, [one.report for one in kept if one.report is not None])
    return done


def _give_back(connection: Connection, lease: Lease) -> None:
    connection.execute(update(outbox).where(_ours(lease)).values(state=State.QUEUED.value))


def _failed(connection: Connection, notice: Notice, error: str, retry_seconds: float | None) -> None:
    values: dict[str, Any] = {"attempts": notice.attempts + 1, "state": DEAD, "last_error": error}
    if retry_seconds is not None:
        due_at = now(connection) + int(retry_seconds * 1_000_000)
        values |= {"state": State.QUEUED.value, "due_at": due_at}
    connection.execute(update(outbox).where(outbox.c.id == notice.id, _ours(notice.lease)).values(values))
