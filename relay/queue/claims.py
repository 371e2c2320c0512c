"""Out of the queue: due recipients, leased to one worker at a time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, select, update

from relay.outcome.transitions import State
from relay.queue.values import Consignment, Lease, QueuedMessage, QueuedRecipient
from relay.queue.workers import now
from relay.queue.writer import GroupWriter, alone
from relay.store.engine import Store
from relay.store.tables import message, recipient

_IS_QUEUED = recipient.c.state == State.QUEUED.value
_LEASE = (
    update(recipient)
    .where(recipient.c.message_id == bindparam("id"), recipient.c.number == bindparam("n"), _IS_QUEUED)
    .values(state=State.LEASED.value, worker_id=bindparam("by_worker"), worker_epoch=bindparam("by_epoch"))
)
_RELEASE = (
    update(recipient)
    .where(
        recipient.c.message_id == bindparam("id"),
        recipient.c.number == bindparam("n"),
        recipient.c.state == State.LEASED.value,
        recipient.c.worker_id == bindparam("by_worker"),
        recipient.c.worker_epoch == bindparam("by_epoch"),
    )
    .values(state=State.QUEUED.value)
)
_NO_EVENTS: frozenset[str] = frozenset()
_POSTPONE = _RELEASE.values(due_at=bindparam("to_due_at"))


class Claims:
    """Claims and releases for one worker process."""

    def __init__(self, store: Store, writer: GroupWriter, lease: Lease) -> None:
        self._store = store
        self._writer = writer
        self.lease = lease

    async def claim(self, limit: int) -> list[Consignment]:
        """At most ``limit`` due recipients, now ours, with their messages (bodies stay in the store)."""
        if not await asyncio.to_thread(self._is_any_due):
            return []
        return await self._writer.submit(alone(lambda connection: claim(connection, self.lease, limit)))

    async def release(self, consignments: Sequence[Consignment]) -> None:
        """Give back what was not begun."""
        rows = [
            _key(one.message.id, other.number, one.lease) for one in consignments for other in one.recipients
        ]
        if rows:
            await self._writer.submit(alone(lambda connection: _release(connection, rows)))

    async def postpone(self, consignments: Sequence[Consignment], seconds: float) -> None:
        """Give back what was not begun, due in ``seconds``; it counts as no attempt."""
        rows = [
            _key(one.message.id, other.number, one.lease) for one in consignments for other in one.recipients
        ]
        await self._writer.submit(alone(lambda connection: _postpone(connection, rows, seconds)))

    async def leased(self) -> set[tuple[int, int]]:
        """Message id and number of every recipient that is ours in the store."""
        return await asyncio.to_thread(self._leased)

    async def give_back(self, keys: Collection[tuple[int, int]]) -> None:
        """The same as ``release``, for those that we know by their keys alone."""
        rows = [_key(message_id, number, self.lease) for message_id, number in keys]
        await self._writer.submit(alone(lambda connection: _release(connection, rows)))

    def _leased(self) -> set[tuple[int, int]]:
        ours = (
            recipient.c.state == State.LEASED.value,
            recipient.c.worker_id == self.lease.worker_id,
            recipient.c.worker_epoch == self.lease.epoch,
        )
        with self._store.read() as connection:
            rows = connection.execute(select(recipient.c.message_id, recipient.c.number).where(*ours))
            return {(row.message_id, row.number) for row in rows}

    def _is_any_due(self) -> bool:
        with self._store.read() as connection:
            first = connection.execute(select(func.min(recipient.c.due_at)).where(_IS_QUEUED)).scalar()
            return first is not None and first <= now(connection)


def _release(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    connection.execute(_RELEASE, list(rows))


def _postpone(connection: Connection, rows: Sequence[dict[str, Any]], seconds: float) -> None:
    due_at = now(connection) + int(seconds * 1_000_000)
    connection.execute(_POSTPONE, [{**row, "to_due_at": due_at} for row in rows])


def _key(message_id: int, number: int, lease: Lease) -> dict[str, Any]:
    return {"id": message_id, "n": number, "by_worker": lease.worker_id, "by_epoch": lease.epoch}


def claim(connection: Connection, lease: Lease, limit: int) -> list[Consignment]:
    """Lease due recipients, the longest due first, past those that another claim holds locked."""
    due = (
        select(recipient)
        .where(and_(_IS_QUEUED, recipient.c.due_at <= now(connection)))
        .order_by(recipient.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(due).all()
    if not rows:
        return []
    connection.execute(_LEASE, [_key(row.message_id, row.number, lease) for row in rows])
    by_message: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        by_message[row.message_id].append(row)
    messages = load_messages(connection, list(by_message))
    return [
        Consignment(messages[message_id], tuple(_recipient(row) for row in group), lease)
        for message_id, group in by_message.items()
    ]


def load_messages(connection: Connection, ids: Sequence[int]) -> dict[int, QueuedMessage]:
    """The messages without their bodies, by id."""
    rows = connection.execute(select(message).where(message.c.id.in_(ids)))
    return {row.id: message_of(row) for row in rows}


def message_of(row: Row[Any]) -> QueuedMessage:
    """A row of the table without its body."""
    return QueuedMessage(
        id=row.id,
        account_id=row.account_id,
        identity_arn=row.identity_arn,
        reverse_path=row.reverse_path,
        return_path=row.return_path,
        configuration_set=row.configuration_set,
        received_at=row.received_at,
        expires_at=row.expires_at,
        size_bytes=row.size_bytes,
        header=bytes(row.header),
        body=None,
        chunks=row.chunks,
        require_tls=row.require_tls,
        events=frozenset(row.events.split(",")) if row.events else _NO_EVENTS,
    )


def _recipient(row: Row[Any]) -> QueuedRecipient:
    return QueuedRecipient(row.number, row.address, row.domain, row.attempts, row.delay_reported)
