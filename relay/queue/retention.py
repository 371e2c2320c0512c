"""What need not be kept any longer: bodies once their message is done, records after their days.

Bodies go at once or within seconds (``relay.queue.settlement``): nothing reads them after the last recipient
is settled, and at full speed they would fill a disk in a day.  Records (message, recipients, attempts,
notices, notifications, refusals) stay for the days of the settings.  Both only ever look at what is
finished; a crash leaves something over for the sweep at the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from functools import cache

from sqlalchemy import Connection, bindparam, delete, exists, select

from relay.outcome.transitions import State
from relay.queue.notifications import DEAD, DONE, NO_EVENT
from relay.queue.values import StoreUnavailable
from relay.queue.writer import GroupWriter, alone
from relay.store.prepared import Prepared, padded, spelled
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
# So many are looked at for it at once: old mail that waits is passed over, and the store has one writer.
_EXPIRE_LOOKS = 2_000
_DAY_MILLISECONDS = 86_400_000


@cache
def _purge_some(count: int) -> Prepared:
    """Bodies of so many messages, unless a recipient waits."""
    names = [f"id_{number}" for number in range(count)]
    is_waiting = exists().where(
        recipient.c.message_id == body_chunk.c.message_id,
        recipient.c.state.in_([spelled(state) for state in _WAITING]),
    )
    these = body_chunk.c.message_id.in_([bindparam(name) for name in names])
    return Prepared(delete(body_chunk).where(these, ~is_waiting), *names)


class Retention:
    """Removes for one worker process.  ``finished`` is filled by the settlement's thread, if at all."""

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
        after: int | None = 0
        while after is not None:
            at = after
            after = await self._writer.submit(alone(lambda c: expire(c, before, at)))  # noqa: B023


def purge_bodies(connection: Connection, ids: Sequence[int]) -> int:
    """Remove the bodies of those messages that have no recipient waiting; gives the number of chunks."""
    if not ids:
        return 0
    ids = padded(ids)
    return _purge_some(len(ids))(connection, *ids).rowcount


def sweep(connection: Connection, after: int) -> int | None:
    """Purge the next messages that have a body, after an id; gives the last id, None at the end."""
    # A body without a message row is still arriving; the spool's own sweep looks after those.
    # PostgreSQL does not see by itself that such a message has an id past ours, and reads all before it.
    has_message = exists().where(message.c.id == body_chunk.c.message_id, message.c.id > after)
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


def expire(connection: Connection, before: int, after: int = 0) -> int | None:
    """Remove a batch of finished records between two ids; gives the last one looked at, None at the end."""
    last = _last_look(connection, before, after)
    # Both sides are told where to begin: PostgreSQL may merge them, and would begin at the first row.
    these, theirs = (column.between(after + 1, last) for column in (message.c.id, recipient.c.message_id))
    is_waiting = exists().where(
        recipient.c.message_id == message.c.id, theirs, recipient.c.state.in_(_WAITING)
    )
    old = select(message.c.id).where(these, ~is_waiting)
    ids: list[int] = list(connection.execute(old.order_by(message.c.id).limit(_EXPIRE_MESSAGES)).scalars())
    told = select(outbox.c.id).where(outbox.c.message_id.in_(ids))
    connection.execute(delete(notification).where(notification.c.event_id.in_(told)))
    for table in (body_chunk, attempt, outbox, recipient, report):
        connection.execute(delete(table).where(table.c.message_id.in_(ids)))
    connection.execute(delete(message).where(message.c.id.in_(ids)))
    connection.execute(delete(refusal).where(refusal.c.id < before))
    of_no_event = notification.c.event_id == NO_EVENT, notification.c.id < before
    connection.execute(delete(notification).where(*of_no_event, notification.c.state.in_((DONE, DEAD))))
    if len(ids) == _EXPIRE_MESSAGES:
        return ids[-1]
    return last if last < before - 1 else None


def _last_look(connection: Connection, before: int, after: int) -> int:
    """The id up to which a batch looks."""
    old = select(message.c.id).where(message.c.id > after, message.c.id < before).order_by(message.c.id)
    found: int | None = connection.execute(old.offset(_EXPIRE_LOOKS - 1).limit(1)).scalar()
    return found or before - 1
