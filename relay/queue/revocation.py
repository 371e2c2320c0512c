"""Mail in the queue whose grant was taken back: found, held, bounced, and let go when it is granted again.

Who judges it is elsewhere (``relay.control.revocation``); here is how far that came, and what it does to
recipients.  What a worker has in hand is left to it, counted, and looked at when it is back in the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Connection, and_, func, insert, or_, select, update

from relay.outcome.transitions import State
from relay.queue import workers
from relay.queue.notices import End, report
from relay.queue.retention import purge_bodies
from relay.queue.values import Lease
from relay.store import changes
from relay.store.tables import message, meta, recipient, worker

REVOKED = "revoked"
_STATUS = "5.7.1"
_BATCH = 200
_PROGRESS = "revocations"

_IS_QUEUED = recipient.c.state == State.QUEUED.value
_IS_HELD_FOR_IT = and_(recipient.c.state == State.HELD.value, recipient.c.held_because == REVOKED)
_IS_CONCERNED = or_(_IS_QUEUED, recipient.c.state == State.LEASED.value, _IS_HELD_FOR_IT)


class Revoked(StrEnum):
    """What becomes of such mail; the values are the setting's."""

    HOLD = "hold"
    BOUNCE = "bounce"


# ---------------------------------------------------------------- how far it came


def is_news(connection: Connection) -> bool:
    """Whether anything in the control plane changed that the queue was not judged on."""
    found = connection.execute(select(meta.c.value).where(meta.c.name == _PROGRESS)).scalar()
    return found is None or orjson.loads(found)["judged"] < changes.newest(connection)


def claim(connection: Connection, lease: Lease) -> int | None:
    """Take the work on: the change up to which the queue is judged; None while a living worker is at it.

    A store that is judged for the first time begins with the changes to come.
    """
    row = meta.c.name == _PROGRESS
    found = connection.execute(select(meta.c.value).where(row).with_for_update()).scalar()
    if found is None:
        judged = changes.newest(connection)
        connection.execute(insert(meta), [{"name": _PROGRESS, "value": _progress(judged, lease)}])
        return judged
    progress = orjson.loads(found)
    holder = Lease(*progress["by"])
    if holder != lease and _is_alive(connection, holder):
        return None
    _write(connection, progress["judged"], lease)
    return int(progress["judged"])


def finish(connection: Connection, judged: int) -> None:
    """The queue is judged up to that change; anybody may go on."""
    _write(connection, judged, Lease(0, 0))


def let_go(connection: Connection) -> None:
    """Nobody is at it: the workers of before are no workers of this store."""
    found = connection.execute(select(meta.c.value).where(meta.c.name == _PROGRESS)).scalar()
    if found is not None:
        finish(connection, orjson.loads(found)["judged"])


def _write(connection: Connection, judged: int, by: Lease) -> None:
    values = {"value": _progress(judged, by)}
    connection.execute(update(meta).where(meta.c.name == _PROGRESS).values(values))


def _progress(judged: int, by: Lease) -> str:
    return orjson.dumps({"judged": judged, "by": [by.worker_id, by.epoch]}).decode()


def _is_alive(connection: Connection, holder: Lease) -> bool:
    held = worker.c.id == holder.worker_id, worker.c.epoch == holder.epoch, workers.is_alive(connection)
    return connection.execute(select(worker.c.id).where(*held)).first() is not None


# ---------------------------------------------------------------- what is judged


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of messages to be judged, by id; ``after`` is the last id looked at, None at the end."""

    records: dict[int, str]
    after: int | None


def waiting(connection: Connection, owners: Collection[str], after: int) -> Batch:
    """The next messages in the queue that name an identity of one of these accounts."""
    ids = list(
        connection.execute(
            select(recipient.c.message_id)
            .where(recipient.c.message_id > after, _IS_CONCERNED)
            .distinct()
            .order_by(recipient.c.message_id)
            .limit(_BATCH)
        ).scalars()
    )
    names_one = or_(*(message.c.record.contains(f":{owner}:identity/") for owner in owners))
    query = select(message.c.id, message.c.record).where(message.c.id.in_(ids), names_one)
    records = {row.id: row.record for row in connection.execute(query.order_by(message.c.id))}
    return Batch(records, ids[-1] if len(ids) == _BATCH else None)


# ---------------------------------------------------------------- what is done


@dataclass(frozen=True, slots=True)
class Done:
    """Messages by what happened to them: ``stopped`` are held or bounced.  ``in_hand`` counts recipients."""

    stopped: tuple[int, ...]
    released: tuple[int, ...]
    in_hand: int


def apply(
    connection: Connection,
    what: Revoked,
    denied: dict[int, str],
    granted: Collection[int],
    next_id: Callable[[], int],
) -> Done:
    """Stop the messages that are granted no more, by id with the reason, and let the others go."""
    at = workers.now(connection)
    stopped = [
        one for one, why in denied.items() if _stop(connection, what, one, End(at, _STATUS, why), next_id)
    ]
    return Done(tuple(stopped), _release(connection, granted, at), _count_in_hand(connection, denied))


def _stop(
    connection: Connection, what: Revoked, message_id: int, end: End, next_id: Callable[[], int]
) -> bool:
    """Whether there was a recipient to stop."""
    from_ = _IS_QUEUED
    values: dict[str, Any] = {"state": State.HELD.value, "held_because": REVOKED}
    if what is Revoked.BOUNCE:  # also what was held before the setting was changed
        from_ = or_(_IS_QUEUED, _IS_HELD_FOR_IT)
        values = {"state": State.BOUNCED.value, "held_because": None, "settled_at": end.at}
    of_message = recipient.c.message_id == message_id, from_
    stop = update(recipient).where(*of_message).values(last_reply=end.text, **values)
    rows = connection.execute(stop.returning(recipient)).all()
    if what is Revoked.BOUNCE and rows:
        report(connection, rows, end, next_id)
        purge_bodies(connection, [message_id])
    return bool(rows)


def _release(connection: Connection, ids: Collection[int], at: int) -> tuple[int, ...]:
    values = {"state": State.QUEUED.value, "held_because": None, "due_at": at}
    held = recipient.c.message_id.in_(ids), _IS_HELD_FOR_IT
    released = update(recipient).where(*held).values(values).returning(recipient.c.message_id)
    return tuple(sorted(set(connection.execute(released).scalars())))


def _count_in_hand(connection: Connection, ids: Collection[int]) -> int:
    leased = recipient.c.message_id.in_(ids), recipient.c.state == State.LEASED.value
    return int(connection.execute(select(func.count()).select_from(recipient).where(*leased)).scalar_one())
