"""What need not be kept any longer: bodies once their message is done, records after their days.

Bodies go within seconds, in batches behind the clients' backs: nothing reads them after the last recipient
is settled, and at full speed they would fill a disk in a day.  Records (message, recipients, attempts,
notices, notifications, refusals) stay for the days of the settings.  Both only ever look at what is
finished; a crash leaves something over for the sweep at the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from sqlalchemy import Connection, delete, exists, select

from relay.outcome.transitions import State
from relay.queue.notifications import DEAD, DONE, NO_EVENT
from relay.queue.values import StoreUnavailable
from relay.queue.writer import GroupWriter, alone
from relay.store.tables import (
    attempt,
    body_chunk,
    message,
    notification,
    outbox,
    recipient,
    refusal,
    report,
)
from relay.submission.identifiers import compose_id

_WAITING = (State.QUEUED.value, State.LEASED.value, State.HELD.value)
_PURGE_SECONDS = 1.0
_PURGE_MESSAGES = 200
_SWEEP_MESSAGES = 500
_EXPIRE_SECONDS = 600.0
_EXPIRE_MESSAGES = 200
_DAY_MILLISECONDS = 86_400_000


class Retention:
    """Removes for one worker process.  ``finished`` is filled by the settlement, on another thread."""

    def __init__(self, writer: GroupWriter, days: int, finished: deque[int]) -> None:
        self._writer = writer
        self._days = days
        self._finished = finished

    async def run(self) -> None:
        """Purge and expire, again and again, until cancelled."""
        swept_to: int | None = 0
        expired_at = float("-inf")
        while True:
            try:
                is_more = await self._purge()
                if swept_to is not None:
                    after = swept_to
                    swept_to = await self._writer.submit(alone(lambda c: sweep(c, after)))  # noqa: B023
                if time.monotonic() - expired_at >= _EXPIRE_SECONDS:
                    expired_at = time.monotonic()
                    await self._expire()
            except StoreUnavailable:
                is_more = False
            await asyncio.sleep(0 if is_more else _PURGE_SECONDS)

    async def _purge(self) -> bool:
        """Remove a batch of bodies; whether there is another one."""
        ids = [self._finished.popleft() for _ in range(min(len(self._finished), _PURGE_MESSAGES))]
        if ids:
            await self._writer.submit(alone(lambda connection: purge_bodies(connection, ids)))
        return len(ids) == _PURGE_MESSAGES

    async def _expire(self) -> None:
        before = compose_id(int(time.time() * 1000) - self._days * _DAY_MILLISECONDS, 0, 0)
        is_more = True
        while is_more:
            is_more = await self._writer.submit(alone(lambda connection: expire(connection, before)))


def purge_bodies(connection: Connection, ids: Sequence[int]) -> int:
    """Remove the bodies of those messages that have no recipient waiting; gives the number of chunks."""
    is_waiting = exists().where(
        recipient.c.message_id == body_chunk.c.message_id, recipient.c.state.in_(_WAITING)
    )
    return connection.execute(
        delete(body_chunk).where(body_chunk.c.message_id.in_(ids), ~is_waiting)
    ).rowcount


def sweep(connection: Connection, after: int) -> int | None:
    """Purge the next messages that have a body, after an id; gives the last id, None at the end."""
    # A body without a message row is still arriving; the spool's own sweep looks after those.
    has_message = exists().where(message.c.id == body_chunk.c.message_id)
    query = (
        select(body_chunk.c.message_id)
        .where(body_chunk.c.message_id > after, body_chunk.c.seq == 0, has_message)
        .order_by(body_chunk.c.message_id)
        .limit(_SWEEP_MESSAGES)
    )
    ids = list(connection.execute(query).scalars())
    if ids:
        purge_bodies(connection, ids)
    return ids[-1] if len(ids) == _SWEEP_MESSAGES else None


def expire(connection: Connection, before: int) -> bool:
    """Remove a batch of finished records older than an id; whether there may be more."""
    is_waiting = exists().where(recipient.c.message_id == message.c.id, recipient.c.state.in_(_WAITING))
    old = select(message.c.id).where(message.c.id < before, ~is_waiting).limit(_EXPIRE_MESSAGES)
    ids = list(connection.execute(old).scalars())
    told = select(outbox.c.id).where(outbox.c.message_id.in_(ids))
    connection.execute(delete(notification).where(notification.c.event_id.in_(told)))
    for table in (body_chunk, attempt, outbox, recipient, report):
        connection.execute(delete(table).where(table.c.message_id.in_(ids)))
    connection.execute(delete(message).where(message.c.id.in_(ids)))
    connection.execute(delete(refusal).where(refusal.c.id < before))
    of_no_event = notification.c.event_id == NO_EVENT, notification.c.id < before
    connection.execute(delete(notification).where(*of_no_event, notification.c.state.in_((DONE, DEAD))))
    return len(ids) == _EXPIRE_MESSAGES
