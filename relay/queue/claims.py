"""Out of the queue: due recipients, leased to one worker at a time.

Accounts take turns.  A claim takes the longest due of each of the next accounts that have anything due, so
that a million due rows of one account hold up no other's.  Which accounts these are is read beforehand, apart
from the writer, from account to account along the index; the statement that leases takes a few rows of each.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    bindparam,
    exists,
    func,
    literal,
    select,
    union_all,
    update,
)

from relay.outcome.transitions import State
from relay.queue.values import Claimed, Consignment, Lease, QueuedMessage, QueuedRecipient
from relay.queue.workers import now
from relay.queue.writer import GroupWriter, alone
from relay.store.engine import Store
from relay.store.prepared import Prepared, spelled
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
# As many accounts as one claim takes from.
_MOST_ACCOUNTS = 20
# Accounts of which nothing is due cost a look each (4 us on SQLite, 8 on PostgreSQL): so many in one
# statement, and so many of these for one claim; the next goes on there.
_PAGE = 200
_MOST_PAGES = 10
_NO_EVENTS: frozenset[str] = frozenset()
_POSTPONE = _RELEASE.values(due_at=bindparam("to_due_at"))


class Claims:
    """Claims and releases for one worker process."""

    def __init__(self, store: Store, writer: GroupWriter, lease: Lease) -> None:
        self._store = store
        self._writer = writer
        self.lease = lease
        self._last = ""  # the account whose turn it was

    async def claim(self, limit: int, but: Collection[str] = ()) -> Claimed:
        """At most ``limit`` due recipients, now ours, with their messages (bodies stay in the store); none
        of the accounts ``but``."""
        turn = await asyncio.to_thread(self._next_turn, but)
        self._last = turn.last
        if not turn.accounts:
            return Claimed(is_more=not turn.is_round)
        return await self._writer.submit(
            alone(lambda connection: claim(connection, self.lease, limit, turn.accounts))
        )

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

    async def leased(self) -> dict[tuple[int, int], int]:
        """Message id and number of every recipient that is ours in the store, and how often each was tried.

        By the writer, so that whoever waited for an earlier batch has heard of it when this answers.
        """
        return await self._writer.submit(alone(lambda connection: leased(connection, self.lease)))

    async def give_back(self, keys: Collection[tuple[int, int]]) -> None:
        """The same as ``release``, for those that we know by their keys alone."""
        rows = [_key(message_id, number, self.lease) for message_id, number in keys]
        await self._writer.submit(alone(lambda connection: _release(connection, rows)))

    def _next_turn(self, but: Collection[str]) -> Turn:
        with self._store.read() as connection:
            at = now(connection)
            first = connection.execute(select(func.min(recipient.c.due_at)).where(_IS_QUEUED)).scalar()
            if first is None or first > at:
                return Turn((), self._last, is_round=True)
            return next_turn(connection, self._last, at, but)


# ---------------------------------------------------------------- whose turn it is


@dataclass(frozen=True, slots=True)
class Turn:
    """Accounts to claim from; ``last`` is where the next turn begins, and ``is_round`` tells that all others
    were looked at."""

    accounts: tuple[str, ...]
    last: str
    is_round: bool


def next_turn(connection: Connection, after: str, at: int, but: Collection[str] = ()) -> Turn:
    """The next accounts after one, all around, that have something due at ``at``; none of ``but``."""
    found: list[str] = []
    last, is_past_the_end = after, not after
    for _ in range(_MOST_PAGES):
        page = connection.execute(_LOOK, {"after": last, "at": at}).all()
        for row in page:
            if is_past_the_end and after and row.account_id > after:
                return Turn(tuple(found), last, is_round=True)
            last = row.account_id
            if row.is_due and last not in but:
                found.append(last)
            if len(found) == _MOST_ACCOUNTS:
                return Turn(tuple(found), last, is_round=False)
        if len(page) < _PAGE:
            if is_past_the_end:
                return Turn(tuple(found), last, is_round=True)
            last, is_past_the_end = "", True
    return Turn(tuple(found), last, is_round=False)


def _look() -> Select[Any]:
    """From account to account along the index, a page of them, each with whether it has something due."""
    here = select(func.min(recipient.c.account_id).label("account_id"), literal(1).label("number"))
    walk = here.where(_WAITS, recipient.c.account_id > bindparam("after")).cte("walk", recursive=True)
    further = (
        select(func.min(recipient.c.account_id))
        .where(_WAITS, recipient.c.account_id > walk.c.account_id)
        .scalar_subquery()
    )
    is_within = walk.c.account_id.is_not(None), walk.c.number < _PAGE
    walk = walk.union_all(select(further, walk.c.number + 1).where(*is_within))
    of_it = recipient.c.account_id == walk.c.account_id, recipient.c.due_at <= bindparam("at")
    is_due = exists(select(recipient.c.number).where(_WAITS, *of_it)).label("is_due")
    return select(walk.c.account_id, is_due).where(walk.c.account_id.is_not(None))


_WAITS = recipient.c.state == spelled(State.QUEUED.value)
_LOOK = _look()
_LEASED = Prepared(
    select(recipient.c.message_id, recipient.c.number, recipient.c.attempts).where(
        recipient.c.state == spelled(State.LEASED.value),
        recipient.c.worker_id == bindparam("by_worker"),
        recipient.c.worker_epoch == bindparam("by_epoch"),
    ),
    *("by_worker", "by_epoch"),
)


# ---------------------------------------------------------------- within the writer's transaction


def leased(connection: Connection, lease: Lease) -> dict[tuple[int, int], int]:
    """``Claims.leased``."""
    rows = _LEASED(connection, lease.worker_id, lease.epoch).fetchall()
    return {(message_id, number): attempts for message_id, number, attempts in rows}


def _release(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    connection.execute(_RELEASE, list(rows))


def _postpone(connection: Connection, rows: Sequence[dict[str, Any]], seconds: float) -> None:
    due_at = now(connection) + int(seconds * 1_000_000)
    connection.execute(_POSTPONE, [{**row, "to_due_at": due_at} for row in rows])


def _key(message_id: int, number: int, lease: Lease) -> dict[str, Any]:
    return {"id": message_id, "n": number, "by_worker": lease.worker_id, "by_epoch": lease.epoch}


def claim(connection: Connection, lease: Lease, limit: int, accounts: Sequence[str]) -> Claimed:
    """Lease due recipients of ``accounts``, as many of each, the longest due first, past those that another
    claim holds locked."""
    share = max(limit // len(accounts), 1)
    at = now(connection)
    parts = [_due_of(account, at, share) for account in accounts]
    query = parts[0] if len(parts) == 1 else union_all(*(select(part.subquery()) for part in parts))
    rows = connection.execute(query).all()
    if not rows:
        return Claimed()
    connection.execute(_LEASE, [_key(row.message_id, row.number, lease) for row in rows])
    by_message: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        by_message[row.message_id].append(row)
    messages = load_messages(connection, list(by_message))
    return Claimed(
        tuple(
            Consignment(messages[message_id], tuple(_recipient(row) for row in group), lease)
            for message_id, group in by_message.items()
        ),
        is_more=len(rows) >= share,  # some account had as much as that, or many had some
    )


def _due_of(account: str, at: int, limit: int) -> Select[Any]:
    # Spelled out too: what is best for the account of a million rows is worst for the account of one, so
    # that they must not share a prepared plan.
    this = bindparam(None, account, type_=recipient.c.account_id.type, literal_execute=True)
    return (
        select(recipient)
        .where(_WAITS, recipient.c.account_id == this, recipient.c.due_at <= at)
        .order_by(recipient.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


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
