"""Into the queue and its bodies out of it.

A message becomes durable with all its recipients in one transaction; 250 is said after it.  The same
transaction looks whether what it was judged on still holds, counts it against its account's quota and on
its bill, tells the owner's ledger, and finds the recipients that the account no longer sends to: these are
born bounced, with who must be told.  It writes down that the message was accepted if somebody listens.
It may be born claimed: leased to the worker that accepted it.

Chunks of a large body are written while it arrives, under a row in ``spill`` that the message's own
transaction removes; what a dead worker left there is swept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, select

from relay.outcome.events import SEND
from relay.outcome.transitions import State
from relay.queue import workers
from relay.queue.accounting import count_accepted
from relay.queue.event_rows import insert_events, new_row
from relay.queue.suppression import notice_rows, suppressed_among
from relay.queue.values import Lease, NewMessage, QueuedMessage, QueuedRecipient
from relay.queue.writer import GroupWriter, Job
from relay.quotas.check import Exceeded
from relay.store import changes, quotas
from relay.store.engine import Store
from relay.store.prepared import Prepared, Row, RowInsert, one_flight
from relay.store.tables import body_chunk, message, recipient, spill, worker

CHUNK_BYTES = 256 * 1024

_INSERT_MESSAGE = RowInsert(
    message,
    *("id", "account_id", "identity_arn", "reverse_path", "return_path", "configuration_set"),
    *("received_at", "expires_at", "size_bytes", "chunks", "record", "header", "require_tls", "events"),
)
_INSERT_CHUNK = RowInsert(body_chunk, "message_id", "seq", "data")
_RECIPIENT_COLUMNS = (
    *("message_id", "number", "account_id", "address", "domain", "state", "due_at", "attempts"),
    *("delay_reported", "worker_id", "worker_epoch"),
)
_INSERT_RECIPIENT = RowInsert(recipient, *_RECIPIENT_COLUMNS)
_INSERT_BOUNCED = RowInsert(recipient, *_RECIPIENT_COLUMNS, "last_reply", "settled_at")
_INSERT_SPILL = RowInsert(spill, "message_id", "worker_id", "worker_epoch")
_DELETE_SPILL = Prepared(delete(spill).where(spill.c.message_id == bindparam("id")), "id")
_DELETE_CHUNKS = Prepared(delete(body_chunk).where(body_chunk.c.message_id == bindparam("id")), "id")
_SELECT_CHUNK = select(body_chunk.c.data).where(
    body_chunk.c.message_id == bindparam("id"), body_chunk.c.seq == bindparam("seq")
)


@dataclass(frozen=True, slots=True)
class Committed:
    """It is durable.  ``suppressed`` are recipients that are not sent to, by number, each with the reason."""

    suppressed: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stale:
    """Nothing was written: what the decision was made on has changed.  Judge again, then try again."""

    change: int


Enqueued = Committed | Stale | Exceeded


class Spool:
    """Messages in, bodies out.  ``next_id`` makes the outbox rows' ids."""

    def __init__(self, store: Store, writer: GroupWriter, next_id: Callable[[], int]) -> None:
        self._store = store
        self._writer = writer
        self._next_id = next_id

    def enqueue(self, new: NewMessage) -> asyncio.Future[Enqueued]:
        """Resolves when the message is durable, or to why it is not; StoreUnavailable if the store is."""
        return self._writer.submit(Job(self._enqueue, new, is_awaited_by_client=True))

    def store_chunk(self, message_id: int, seq: int, data: bytes, lease: Lease) -> asyncio.Future[None]:
        """Write one piece of a body ahead of its message."""
        return self._writer.submit(Job(_store_chunks, (message_id, seq, data, lease)))

    def discard(self, message_id: int) -> asyncio.Future[None]:
        """Forget a body whose message will not come."""
        return self._writer.submit(Job(_discard, message_id))

    async def body(self, of: QueuedMessage) -> AsyncIterator[bytes]:
        """The body in order, from memory or piece by piece from the store."""
        if of.body is not None:
            for part in of.body:
                yield part
            return
        for seq in range(of.chunks):
            yield await asyncio.to_thread(self._read_chunk, of.id, seq)

    def _enqueue(self, connection: Connection, news: Sequence[NewMessage]) -> list[Enqueued]:
        kept_out = _stale(connection, news)
        with one_flight(connection):
            kept_out |= _exceeding(connection, [new for new in news if id(new) not in kept_out])
            taken = [new for new in news if id(new) not in kept_out]
            suppressed = suppressed_among(connection, taken)
            insert_messages(connection, taken, suppressed)
            count_accepted(connection, taken)
            notices = [_send_row(new.message) for new in taken if SEND in new.message.events]
            if suppressed:
                notices += notice_rows(taken, suppressed, self._next_id)
            insert_events(connection, notices)
        return [kept_out.get(id(new)) or _committed(suppressed.get(new.message.id)) for new in news]

    def _read_chunk(self, message_id: int, seq: int) -> bytes:
        with self._store.read() as connection:
            row = connection.execute(_SELECT_CHUNK, {"id": message_id, "seq": seq}).one()
        return bytes(row.data)


_COMMITTED = Committed()


def _committed(suppressed: Mapping[int, str] | None) -> Committed:
    return Committed(suppressed) if suppressed else _COMMITTED


def _send_row(of: QueuedMessage) -> dict[str, Any]:
    """That it was accepted.  Keys come from one sequence, so the message's own is no other row's."""
    return new_row(of.id, of.account_id, of.id, "send", [], of.received_at)


def _stale(connection: Connection, news: Sequence[NewMessage]) -> dict[int, Enqueued]:
    """Which messages were judged on something that changed since, by identity of the value."""
    judged = [new for new in news if new.judged_on]
    if not judged:
        return {}
    newest = changes.newest(connection)
    oldest = min(new.judged_at for new in judged)
    if newest <= oldest:
        return {}
    touched = [(seq, subject.lower()) for seq, subject in changes.since(connection, oldest)]
    return {
        id(new): Stale(newest)
        for new in judged
        if any(seq > new.judged_at and subject in new.judged_on for seq, subject in touched)
    }


def _exceeding(connection: Connection, news: Sequence[NewMessage]) -> dict[int, Enqueued]:
    """Which messages do not fit into their account's quota; the others are counted now."""
    charged = [(id(new), new.charge) for new in news if new.charge is not None]
    if not charged:
        return {}
    answers = quotas.reserve(connection, [charge for _, charge in charged], workers.now(connection))
    return {
        key: answer for (key, _), answer in zip(charged, answers, strict=True) if isinstance(answer, Exceeded)
    }


Suppressed = Mapping[int, Mapping[int, str]]  # by message id and number: what the recipient is told


def insert_messages(
    connection: Connection, news: Sequence[NewMessage], suppressed: Suppressed | None = None
) -> None:
    """The rows of the messages, within the caller's transaction."""
    if not news:
        return
    _INSERT_MESSAGE(connection, [_message_row(new) for new in news])
    waiting, bounced = [], []
    for new in news:
        told = suppressed.get(new.message.id) if suppressed else None
        for one in new.recipients:
            if told and one.number in told:
                bounced.append(_bounced_row(new.message, one, told[one.number]))
            else:
                waiting.append(_recipient_row(new.message, one, new.lease))
    _INSERT_RECIPIENT(connection, waiting)
    _INSERT_BOUNCED(connection, bounced)
    _insert_bodies(connection, news, {row[0] for row in waiting})


def _insert_bodies(connection: Connection, news: Sequence[NewMessage], waiting: Container[int]) -> None:
    """The bodies of messages that have a recipient waiting; nobody will read the others."""
    _INSERT_CHUNK(
        connection,
        [
            row
            for new in news
            if not new.spilled and new.message.id in waiting
            for row in _chunk_rows(new.message)
        ],
    )
    spilled = [(new.message.id,) for new in news if new.spilled]
    if spilled:
        _DELETE_SPILL.many(connection, spilled)
    unread = [new.message.id for new in news if new.spilled and new.message.id not in waiting]
    if unread:
        _discard(connection, unread)


def _message_row(new: NewMessage) -> Row:
    of = new.message
    return (
        of.id,
        of.account_id,
        of.identity_arn,
        of.reverse_path,
        of.return_path,
        of.configuration_set,
        of.received_at,
        of.expires_at,
        of.size_bytes,
        of.chunks,
        new.record,
        of.header,
        of.require_tls,
        ",".join(sorted(of.events)),
    )


def _recipient_row(of: QueuedMessage, one: QueuedRecipient, lease: Lease | None) -> Row:
    who = (of.id, one.number, of.account_id, one.address, one.domain)
    if lease is None:
        return (*who, State.QUEUED.value, of.received_at, 0, False, 0, 0)
    return (*who, State.LEASED.value, of.received_at, 0, False, lease.worker_id, lease.epoch)


def _bounced_row(of: QueuedMessage, one: QueuedRecipient, reply: str) -> Row:
    """Of a recipient that is settled before anything was tried."""
    who = (of.id, one.number, of.account_id, one.address, one.domain)
    return (*who, State.BOUNCED.value, of.received_at, 0, False, 0, 0, reply, of.received_at)


def _chunk_rows(of: QueuedMessage) -> list[Row]:
    assert of.body is not None
    return [(of.id, seq, part) for seq, part in enumerate(of.body)]


def _store_chunks(connection: Connection, chunks: Sequence[tuple[int, int, bytes, Lease]]) -> list[None]:
    first = [(message_id, lease.worker_id, lease.epoch) for message_id, seq, _, lease in chunks if seq == 0]
    _INSERT_SPILL(connection, first)
    _INSERT_CHUNK(connection, [(message_id, seq, data) for message_id, seq, data, _ in chunks])
    return [None] * len(chunks)


def _discard(connection: Connection, message_ids: Sequence[int]) -> list[None]:
    ids = [(message_id,) for message_id in message_ids]
    if ids:
        _DELETE_CHUNKS.many(connection, ids)
        _DELETE_SPILL.many(connection, ids)
    return [None] * len(ids)


def sweep_orphans(connection: Connection) -> int:
    """Remove bodies that no running worker is still receiving; gives their number."""
    owner = exists().where(
        worker.c.id == spill.c.worker_id, worker.c.epoch == spill.c.worker_epoch, worker.c.running
    )
    ids = list(connection.execute(select(spill.c.message_id).where(~owner)).scalars())
    if ids:
        _discard(connection, ids)
    return len(ids)
