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

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from relay.outcome.events import SEND
from relay.outcome.transitions import State
from relay.queue import workers
from relay.queue.accounting import count_accepted
from relay.queue.event_rows import new_row
from relay.queue.suppression import notice_rows, suppressed_among
from relay.queue.values import Lease, QueuedMessage, QueuedRecipient
from relay.queue.writer import GroupWriter, Job
from relay.quotas.check import Charge, Exceeded
from relay.store import changes, quotas
from relay.store.engine import Store
from relay.store.ledger import Entry
from relay.store.tables import body_chunk, message, outbox, recipient, spill, worker

CHUNK_BYTES = 256 * 1024

_INSERT_MESSAGE = insert(message)
_INSERT_CHUNK = insert(body_chunk)
_INSERT_RECIPIENT = insert(recipient)
_INSERT_SPILL = insert(spill)
_INSERT_OUTBOX = insert(outbox)
_DELETE_SPILL = delete(spill).where(spill.c.message_id == bindparam("id"))
_SELECT_CHUNK = select(body_chunk.c.data).where(
    body_chunk.c.message_id == bindparam("id"), body_chunk.c.seq == bindparam("seq")
)


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be committed.

    ``lease`` None leaves it for whoever claims it; ``record`` is JSON.  ``judged_on`` are the subjects
    the decision read, in lower case, true as of change number ``judged_at``; empty for our own reports,
    which have no ``charge`` either.  ``suppressed_reasons`` are those for which a recipient on the account's
    suppression list is not sent to; ``entries`` go into owners' ledgers.
    """

    message: QueuedMessage
    recipients: tuple[QueuedRecipient, ...]
    record: str
    lease: Lease | None
    judged_at: int = 0
    judged_on: frozenset[str] = frozenset()
    spilled: bool = False
    charge: Charge | None = None
    suppressed_reasons: frozenset[str] = frozenset()
    entries: tuple[Entry, ...] = ()


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
        kept_out |= _exceeding(connection, [new for new in news if id(new) not in kept_out])
        taken = [new for new in news if id(new) not in kept_out]
        suppressed = suppressed_among(connection, taken)
        insert_messages(connection, taken, suppressed)
        count_accepted(connection, taken)
        notices = [_send_row(new.message) for new in taken if SEND in new.message.events]
        if suppressed:
            notices += notice_rows(taken, suppressed, self._next_id)
        if notices:
            connection.execute(_INSERT_OUTBOX, notices)
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
    connection.execute(_INSERT_MESSAGE, [_message_row(new) for new in news])
    rows = [row for new in news for row in _recipient_rows(new)]
    if suppressed:
        rows = _insert_suppressed(connection, rows, suppressed)
    if rows:
        connection.execute(_INSERT_RECIPIENT, rows)
    _insert_bodies(connection, news, {row["message_id"] for row in rows})


def _insert_suppressed(
    connection: Connection, rows: Sequence[dict[str, Any]], suppressed: Suppressed
) -> list[dict[str, Any]]:
    """The recipients that are settled before anything was tried; gives back the others."""
    waiting, settled = [], []
    for row in rows:
        text = suppressed.get(row["message_id"], {}).get(row["number"])
        if text is None:
            waiting.append(row)
        else:
            done = {"state": State.BOUNCED.value, "settled_at": row["due_at"], "last_reply": text}
            settled.append({**row, **done, "worker_id": 0, "worker_epoch": 0})
    connection.execute(_INSERT_RECIPIENT, settled)
    return waiting


def _insert_bodies(connection: Connection, news: Sequence[NewMessage], waiting: Container[int]) -> None:
    """The bodies of messages that have a recipient waiting; nobody will read the others."""
    chunks = [
        row
        for new in news
        if not new.spilled and new.message.id in waiting
        for row in _chunk_rows(new.message)
    ]
    if chunks:
        connection.execute(_INSERT_CHUNK, chunks)
    spilled = [{"id": new.message.id} for new in news if new.spilled]
    if spilled:
        connection.execute(_DELETE_SPILL, spilled)
    unread = [new.message.id for new in news if new.spilled and new.message.id not in waiting]
    if unread:
        _discard(connection, unread)


def _message_row(new: NewMessage) -> dict[str, Any]:
    of = new.message
    return {
        "id": of.id,
        "account_id": of.account_id,
        "identity_arn": of.identity_arn,
        "reverse_path": of.reverse_path,
        "return_path": of.return_path,
        "configuration_set": of.configuration_set,
        "received_at": of.received_at,
        "expires_at": of.expires_at,
        "size_bytes": of.size_bytes,
        "chunks": of.chunks,
        "record": new.record,
        "header": of.header,
        "require_tls": of.require_tls,
        "events": ",".join(sorted(of.events)),
    }


def _recipient_rows(new: NewMessage) -> list[dict[str, Any]]:
    lease = new.lease
    state = State.LEASED if lease else State.QUEUED
    worker_id, epoch = (lease.worker_id, lease.epoch) if lease else (0, 0)
    return [
        {
            "message_id": new.message.id,
            "number": one.number,
            "account_id": new.message.account_id,
            "address": one.address,
            "domain": one.domain,
            "state": state.value,
            "due_at": new.message.received_at,
            "attempts": 0,
            "delay_reported": False,
            "worker_id": worker_id,
            "worker_epoch": epoch,
        }
        for one in new.recipients
    ]


def _chunk_rows(of: QueuedMessage) -> list[dict[str, Any]]:
    assert of.body is not None
    return [{"message_id": of.id, "seq": seq, "data": part} for seq, part in enumerate(of.body)]


def _store_chunks(connection: Connection, chunks: Sequence[tuple[int, int, bytes, Lease]]) -> list[None]:
    first = [
        {"message_id": message_id, "worker_id": lease.worker_id, "worker_epoch": lease.epoch}
        for message_id, seq, _, lease in chunks
        if seq == 0
    ]
    if first:
        connection.execute(_INSERT_SPILL, first)
    rows = [{"message_id": message_id, "seq": seq, "data": data} for message_id, seq, data, _ in chunks]
    connection.execute(_INSERT_CHUNK, rows)
    return [None] * len(chunks)


def _discard(connection: Connection, message_ids: Sequence[int]) -> list[None]:
    ids = list(message_ids)
    connection.execute(delete(body_chunk).where(body_chunk.c.message_id.in_(ids)))
    connection.execute(delete(spill).where(spill.c.message_id.in_(ids)))
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
