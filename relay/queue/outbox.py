"""What somebody must be told of: claimed, and done in the transaction that queues the telling.

A row is written by the settlement that caused it.  Whoever handles it holds a lease as with recipients;
a report is queued and its row marked done at once, so that it is sent once or tried again, never lost.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, func, select, update

from relay.outcome.transitions import State
from relay.queue.claims import load_messages
from relay.queue.spool import NewMessage, insert_messages
from relay.queue.values import Lease, QueuedMessage
from relay.queue.workers import now
from relay.queue.writer import GroupWriter, alone
from relay.store.engine import Store
from relay.store.tables import outbox

DONE, DEAD = "done", "dead"
_IS_QUEUED = outbox.c.state == State.QUEUED.value


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell: ``kind`` is bounce or delay, ``recipients`` as the settlement wrote them.

    ``message`` is None if its record is gone.
    """

    id: int
    account_id: str
    message_id: int
    kind: str
    message: QueuedMessage | None
    recipients: tuple[dict[str, Any], ...]
    attempts: int
    lease: Lease


class Outbox:
    """Claims and settles notices for one worker process."""

    def __init__(self, store: Store, writer: GroupWriter, lease: Lease) -> None:
        self._store = store
        self._writer = writer
        self._lease = lease

    async def claim(self, limit: int) -> list[Notice]:
        """At most ``limit`` due notices, now ours."""
        if not await asyncio.to_thread(self._is_any_due):
            return []
        return await self._writer.submit(alone(lambda connection: claim(connection, self._lease, limit)))

    async def done(self, notice: Notice, report: NewMessage | None) -> bool:
        """Queue the report, if there is one, and mark the notice done; False if it is no longer ours."""
        return await self._writer.submit(alone(lambda connection: _done(connection, notice, report)))

    async def failed(self, notice: Notice, error: str, retry_seconds: float | None) -> None:
        """Try again after ``retry_seconds``, or never."""
        await self._writer.submit(alone(lambda connection: _failed(connection, notice, error, retry_seconds)))

    def _is_any_due(self) -> bool:
        with self._store.read() as connection:
            first = connection.execute(select(func.min(outbox.c.due_at)).where(_IS_QUEUED)).scalar()
            return first is not None and first <= now(connection)


def claim(connection: Connection, lease: Lease, limit: int) -> list[Notice]:
    """Lease due notices, past those that another claim holds locked."""
    due = (
        select(outbox)
        .where(_IS_QUEUED, outbox.c.due_at <= now(connection))
        .order_by(outbox.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(due).all()
    if not rows:
        return []
    held = {"state": State.LEASED.value, "worker_id": lease.worker_id, "worker_epoch": lease.epoch}
    connection.execute(update(outbox).where(outbox.c.id.in_([row.id for row in rows])).values(held))
    messages = load_messages(connection, list({row.message_id for row in rows}))
    return [
        Notice(
            id=row.id,
            account_id=row.account_id,
            message_id=row.message_id,
            kind=row.kind,
            message=messages.get(row.message_id),
            recipients=tuple(orjson.loads(row.payload)),
            attempts=row.attempts,
            lease=lease,
        )
        for row in rows
    ]


def _settle(connection: Connection, notice: Notice, **values: Any) -> bool:
    """Fenced by the lease, as recipients are."""
    ours = (
        outbox.c.id == notice.id,
        outbox.c.state == State.LEASED.value,
        outbox.c.worker_id == notice.lease.worker_id,
        outbox.c.worker_epoch == notice.lease.epoch,
    )
    values["attempts"] = notice.attempts + 1
    return connection.execute(update(outbox).where(*ours).values(values)).rowcount == 1


def _done(connection: Connection, notice: Notice, report: NewMessage | None) -> bool:
    if not _settle(connection, notice, state=DONE):
        return False
    if report is not None:
        insert_messages(connection, [report])
    return True


def _failed(connection: Connection, notice: Notice, error: str, retry_seconds: float | None) -> None:
    if retry_seconds is None:
        _settle(connection, notice, state=DEAD, last_error=error)
        return
    due_at = now(connection) + int(retry_seconds * 1_000_000)
    _settle(connection, notice, state=State.QUEUED.value, due_at=due_at, last_error=error)
